package controlplane

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
)

// Each case is a directory and what its group "edge" has, or every fault of it,
// word by word.
func TestLoadDir(t *testing.T) {
	tests := []struct {
		name   string
		files  files
		want   []string // "CDS blue"
		faults []string
	}{
		{
			name:  "list",
			files: files{"edge/a.yaml": resourcesYAML(clusterYAML("blue"), endpointsYAML("blue", 1))},
			want:  []string{"CDS blue", "EDS blue"},
		},
		{
			name:  "several documents, comments",
			files: files{"edge/a.yml": "# first\n---\n" + resourcesYAML(clusterYAML("blue")) + "--- # second\n" + resourcesYAML(endpointsYAML("blue", 1))},
			want:  []string{"CDS blue", "EDS blue"},
		},
		{
			name: "documents that begin on the line of their mark, and ones behind an end mark",
			files: files{
				"edge/a.yaml": resourcesYAML(clusterYAML("blue")) + "--- {\"@type\": " + resourcev3.ClusterType + ", name: green}\r\n---\r\n" + resourcesYAML(endpointsYAML("blue", 1)),
				"edge/b.yaml": resourcesYAML(clusterYAML("red")) + "... # that is all\n" + resourcesYAML(endpointsYAML("red", 1)) + "...\n",
			},
			want: []string{"CDS blue", "CDS green", "CDS red", "EDS blue", "EDS red"},
		},
		{
			name:  "one resource, camel case",
			files: files{"edge/a.yaml": "\"@type\": " + resourcev3.ClusterType + "\nname: blue\nconnectTimeout: 1s\n"},
			want:  []string{"CDS blue"},
		},
		{
			name:  "json, as a response on disk",
			files: files{"edge/a.json": `{"version_info": "1", "resources": [{"@type": "` + resourcev3.ClusterType + `", "name": "blue"}]}`},
			want:  []string{"CDS blue"},
		},
		{
			name:  "json that is no yaml",
			files: files{"edge/a.json": "{\n\t\"resources\": [{\"@type\": \"type.googleapis.com\\/envoy.config.cluster.v3.Cluster\", \"name\": \"blue\", \"alt_stat_name\": \"\\ud83d\\ude00\"}]\n}\n"},
			want:  []string{"CDS blue"},
		},
		{
			name:  "faults of such json",
			files: files{"edge/a.json": `{"resources": [{"@type": "type.googleapis.com\/envoy.config.cluster.v3.Cluster", "name": "blue", "nope": 1}]}`, "edge/b.json": `{"resources": [], "resources": []}`},
			faults: []string{
				`edge/a.json: resources[0]: Cluster "blue": nope: no such field in envoy.config.cluster.v3.Cluster`,
				`edge/b.json: yaml: unmarshal errors: line 1: key "resources" already set in map`,
			},
		},
		{
			name:  "no resources on purpose",
			files: files{"edge/a.yaml": "resources: []\n", "edge/b.yaml": "# nothing yet\nresources: []\n"},
		},
		{
			name: "include, other files ignored",
			files: files{
				"_shared/a.yaml": resourcesYAML(clusterYAML("blue")), "edge/group.yaml": "include: [_shared, _shared]\n",
				"edge/README.md": "x", "edge/.hidden.yaml": ":", "edge/a.yaml": resourcesYAML(clusterYAML("green")), ".git/a.yaml": ":",
			},
			want: []string{"CDS blue", "CDS green"},
		},
		{
			name: "config map",
			files: files{
				"edge/..2026/a.yaml": resourcesYAML(clusterYAML("blue")), "edge/..data": "-> ..2026", "edge/a.yaml": "-> ..data/a.yaml",
			},
			want: []string{"CDS blue"},
		},
		{
			name:   "duplicate",
			files:  files{"edge/group.yaml": "include: [_shared]", "edge/a.yaml": resourcesYAML(clusterYAML("blue")), "_shared/b.yaml": resourcesYAML(endpointsYAML("x", 1), clusterYAML("blue"))},
			faults: []string{`_shared/b.yaml:9: resources[1]: Cluster "blue": is in edge/a.yaml:3: resources[0] already`},
		},
		{
			name:  "all faults at once",
			files: files{"edge/a.yaml": resourcesYAML(routesYAML("echo", "blue")+"    nope: 1\n    name2: x\n", "- \"@type\": "+resourcev3.ClusterType+"\n  name: blue\n  connect_timeout: soon\n")},
			faults: []string{
				`edge/a.yaml:12: resources[0]: RouteConfiguration "echo": virtual_hosts[0].name2: no such field in envoy.config.route.v3.VirtualHost`,
				`edge/a.yaml:11: resources[0]: RouteConfiguration "echo": virtual_hosts[0].nope: no such field in envoy.config.route.v3.VirtualHost`,
				`edge/a.yaml:15: resources[1]: Cluster "blue": connect_timeout: want a duration such as "0.25s", have "soon"`,
			},
		},
		{
			name:  "types",
			files: files{"edge/a.yaml": "resources:\n- name: x\n- \"@type\": type.googleapis.com/no.Such\n- \"@type\": type.googleapis.com/google.protobuf.Duration\n- \"@type\": " + resourcev3.ClusterType + "\n"},
			faults: []string{
				`edge/a.yaml:2: resources[0]: no "@type"`,
				`edge/a.yaml:3: resources[1]: @type "type.googleapis.com/no.Such": unknown type`,
				`edge/a.yaml:4: resources[2]: @type "type.googleapis.com/google.protobuf.Duration": not a resource that is published`,
				`edge/a.yaml:5: resources[3]: Cluster without a name`,
			},
		},
		{
			name:   "empty, perhaps being written",
			files:  files{"edge/a.yaml": "\n"},
			faults: []string{`edge/a.yaml: the file is empty`},
		},
		{
			name:  "nothing yet, perhaps being written",
			files: files{"edge/a.yaml": "# clusters\n", "edge/b.yaml": "# a\n---\n# b\n", "edge/c.yaml": "resources:\n", "edge/group.yaml": "# include\n"},
			faults: []string{
				`edge/group.yaml: the file is empty`,
				`edge/a.yaml: the file is empty`,
				`edge/b.yaml: the file is empty`,
				`edge/c.yaml:1: resources: want a list`,
			},
		},
		{
			name:   "no file yet, perhaps being written",
			files:  files{"edge/group.yaml": "include: [_shared]\nnodes: {ids: [canary]}\n", "_shared/README.md": "x"},
			faults: []string{`edge: no file with resources; for a group that has none on purpose, make one with an empty list`},
		},
		{
			name:  "all files in an included folder",
			files: files{"edge/group.yaml": "include: [_shared]\n", "_shared/a.yaml": resourcesYAML(clusterYAML("blue"))},
			want:  []string{"CDS blue"},
		},
		{
			name:  "not what is expected",
			files: files{"edge/a.yaml": "resource: []\n", "edge/b.yaml": "[1]", "edge/c.yaml": "resources: {}\n---\nx: 1\nx: 2\n", "edge/d.yaml": "nonce: x\n---\n...\n--- [2]\n"},
			faults: []string{
				`edge/a.yaml:1: resource: unknown field: want "resources" or "@type"`,
				`edge/b.yaml:1: want a mapping with "resources" or "@type"`,
				`edge/c.yaml:1: document 1: resources: want a list`,
				`edge/c.yaml: document 2: yaml: unmarshal errors: line 4: key "x" already set in map`,
				`edge/d.yaml:1: document 1: no "resources"`,
				`edge/d.yaml:4: document 2: want a mapping with "resources" or "@type"`,
			},
		},
		{
			name:  "group file",
			files: files{"edge/group.yaml": "include: [../x, _no]\nnodes: { ids: [\"a[\"] }\n", "edge/a.yaml": "resources: []"},
			faults: []string{
				`edge/group.yaml: nodes: "a[" is no glob`,
				`edge/group.yaml: include: "../x" is not a folder of the configuration`,
				`edge/group.yaml: include: there is no folder "_no"`,
			},
		},
		{
			name:   "group file, unknown field",
			files:  files{"edge/group.yaml": "includes: [x]\n"},
			faults: []string{`edge/group.yaml: error unmarshaling JSON: while decoding JSON: json: unknown field "includes"`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := LoadDir(tt.files.dir(t))
			if err != nil {
				t.Fatal(err)
			}
			var faults, got []string
			for _, f := range Faults(cfg.Errors["edge"]) {
				faults = append(faults, f.Error())
			}
			if diff := cmp.Diff(tt.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if g := cfg.Groups["edge"]; g != nil {
				for _, url := range typeURLs {
					for _, name := range g.Resources.names(url) {
						got = append(got, shortType(url)+" "+name)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadDirItself(t *testing.T) {
	if _, err := LoadDir(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("no directory: error %v", err)
	}
	root := files{"_shared/a.yaml": "resources: []", "file.yaml": "x"}.dir(t)
	want := root + ": no node group: make a folder for each (named like the node.cluster of its proxies)"
	if _, err := LoadDir(root); err == nil || err.Error() != want {
		t.Errorf("no group: error %v, want %s", err, want)
	}
}

// What compiles nowhere is refused with file, resource, field and reason; what
// nobody defines is a warning.
func TestCheck(t *testing.T) {
	cfg, err := LoadDir(files{"edge/a.yaml": resourcesYAML(routesYAML("echo", "none"), clusterYAML("blue"),
		"- \"@type\": "+resourcev3.RouteType+"\n  name: bad\n  virtual_hosts: [{name: a, domains: [\"*\"], routes: [{match: {safe_regex: {regex: \"(\"}}, route: {cluster: blue, timeout: 0s}}]}]\n")}.dir(t))
	if err != nil {
		t.Fatal(err)
	}
	warnings := cfg.Check()
	want := []string{
		`group "edge": CDS "none" is referred to by RouteConfiguration "echo" and not defined`,
		`group "edge": EDS "blue" is referred to by Cluster "blue" and not defined`,
	}
	for _, w := range want {
		if !slices.Contains(warnings, w) {
			t.Errorf("no warning %s in %q", w, warnings)
		}
	}
	faults := Faults(cfg.Err())
	const prefix = `group "edge": edge/a.yaml:19: resources[2]: RouteConfiguration "bad": virtual_hosts[0].routes[0].match.safe_regex`
	if len(faults) != 1 || len(faults[0].Error()) <= len(prefix) || faults[0].Error()[:len(prefix)] != prefix {
		t.Errorf("faults %q, want one that begins with %s", faults, prefix)
	}
}

// A file that has not changed is not parsed again, and a folder that several
// groups include is parsed once.
func TestLoaderParsesOnce(t *testing.T) {
	root := files{
		"_shared/a.yaml": resourcesYAML(clusterYAML("blue")), "x/group.yaml": "include: [_shared]", "y/group.yaml": "include: [_shared]",
		"x/b.yaml": resourcesYAML(clusterYAML("green")),
	}.dir(t)
	var l loader
	first, err := l.load(root)
	if err != nil {
		t.Fatal(err)
	}
	files{"x/b.yaml": resourcesYAML(clusterYAML("red"))}.write(t, root)
	second, err := l.load(root)
	if err != nil {
		t.Fatal(err)
	}
	blue := first.Groups["x"].Resources[resourcev3.ClusterType]["blue"]
	for i, g := range []*Group{first.Groups["y"], second.Groups["x"], second.Groups["y"]} {
		if g.Resources[resourcev3.ClusterType]["blue"] != blue {
			t.Errorf("%d: the shared file was parsed again", i)
		}
	}
	if second.Groups["x"].Resources[resourcev3.ClusterType]["red"] == nil {
		t.Error("the changed file was not parsed again")
	}
}

func BenchmarkReload10000Routes(b *testing.B) {
	root := b.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "edge"), 0o755); err != nil {
		b.Fatal(err)
	}
	text := "resources:\n- \"@type\": " + resourcev3.RouteType + "\n  name: echo\n  virtual_hosts:\n  - name: all\n    domains: [\"*\"]\n    routes:\n"
	for i := range 10_000 {
		text += fmt.Sprintf("    - {match: {prefix: /s%d/}, route: {cluster: c%d, timeout: 0s}}\n", i, i)
	}
	if err := os.WriteFile(filepath.Join(root, "edge", "routes.yaml"), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	var l loader
	for b.Loop() {
		cfg, err := l.load(root)
		if err != nil {
			b.Fatal(err)
		}
		cfg.Check()
		if err := cfg.Err(); err != nil {
			b.Fatal(err)
		}
	}
}

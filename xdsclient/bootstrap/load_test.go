package bootstrap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// --config-yaml is merged over the file as messages merge: scalars replace,
// messages merge, lists grow.
func TestMerge(t *testing.T) {
	path := write(t, `
node: {id: file, cluster: c, metadata: {a: 1}}
static_resources: {clusters: [{name: a}]}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}
`)
	b, err := Load(Sources{ConfigPath: path, ConfigYAML: `
node: {id: inline, metadata: {b: 2}}
static_resources: {clusters: {name: b}}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 2}}}
`})
	if err != nil {
		t.Fatal(err)
	}
	if b.Node.Id != "inline" || b.Node.Cluster != "c" || len(b.Node.Metadata.Fields) != 2 {
		t.Errorf("node: %v", b.Node)
	}
	if Cluster(b, "a") == nil || Cluster(b, "b") == nil {
		t.Errorf("clusters: %v", b.StaticResources.Clusters)
	}
	if _, addr, _ := AdminAddress(b); addr != "127.0.0.1:2" {
		t.Errorf("admin at %s", addr)
	}
}

func TestNode(t *testing.T) {
	const yaml = `node: {id: i, cluster: c, locality: {region: r, zone: z}, client_features: [x]}`
	tests := []struct {
		name string
		in   Sources
		want *corev3.Node
	}{
		{"as configured", Sources{ConfigYAML: yaml}, &corev3.Node{
			Id: "i", Cluster: "c", Locality: &corev3.Locality{Region: "r", Zone: "z"}, ClientFeatures: []string{"x"},
		}},
		{"overridden", Sources{ConfigYAML: yaml, NodeID: "i2", NodeCluster: "c2", NodeZone: "z2"}, &corev3.Node{
			Id: "i2", Cluster: "c2", Locality: &corev3.Locality{Region: "r", Zone: "z2"}, ClientFeatures: []string{"x"},
		}},
		{"from the command line alone", Sources{ConfigYAML: "{}", NodeID: "i2", NodeZone: "z2"}, &corev3.Node{
			Id: "i2", Locality: &corev3.Locality{Zone: "z2"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Load(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if b.Node.UserAgentName != "envoy" || b.Node.GetUserAgentBuildVersion().GetVersion() == nil {
				t.Errorf("user agent: %v", b.Node)
			}
			b.Node.UserAgentName, b.Node.UserAgentVersionType = "", nil
			if diff := cmp.Diff(tt.want, b.Node, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	b, err := Load(Sources{ConfigYAML: `node: {user_agent_name: me, user_agent_version: "7"}`})
	if err != nil {
		t.Fatal(err)
	}
	if b.Node.UserAgentName != "me" || b.Node.GetUserAgentVersion() != "7" {
		t.Errorf("configured user agent is replaced: %v", b.Node)
	}
}

// Errors say which source they come from.
func TestLoadErrors(t *testing.T) {
	good := write(t, "node: {id: a}")
	bad := write(t, "nod: {id: a}")
	tests := []struct {
		name string
		in   Sources
		want string
	}{
		{"nothing", Sources{}, "bootstrap: neither a file nor inline configuration given"},
		{"bad file", Sources{ConfigPath: bad, ConfigYAML: "{}"}, "bootstrap " + bad + ": nod: no such field in envoy.config.bootstrap.v3.Bootstrap"},
		{"bad inline", Sources{ConfigPath: good, ConfigYAML: "node: 1"}, "bootstrap --config-yaml: node: want an object, have 1"},
		{"invalid inline", Sources{ConfigYAML: "static_resources: {clusters: {}}"}, "bootstrap --config-yaml: static_resources.clusters[0].name: value length must be at least 1 runes"},
		{"invalid together", Sources{ConfigPath: good, ConfigYAML: "static_resources: {clusters: {}}"}, "bootstrap " + good + " with --config-yaml: static_resources.clusters[0].name: value length must be at least 1 runes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tt.in)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if _, err := Load(Sources{ConfigPath: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestADS(t *testing.T) {
	// The part of ads_config beside api_type and version.
	load := func(t *testing.T, ads string) (*Source, error) {
		b, err := Load(Sources{ConfigYAML: "dynamic_resources: {ads_config: " + ads + "}\nstatic_resources: {clusters: [{name: xds}]}"})
		if err != nil {
			t.Fatal(err)
		}
		return ADS(b)
	}
	tests := []struct {
		name, in string
		want     *Source
		err      string
	}{
		{
			name: "envoy_grpc, all given",
			in: `{api_type: DELTA_GRPC, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{timeout: 7s,
				initial_metadata: [{key: k, value: v}],
				envoy_grpc: {cluster_name: xds, authority: a, retry_policy: {retry_back_off: {base_interval: 1s, max_interval: 2s}}}}]}`,
			want: &Source{
				Delta: true, Aggregated: true, Cluster: "xds", Authority: "a", Timeout: 7 * time.Second, SetNodeOnFirstMessageOnly: true,
				Metadata:    []*corev3.HeaderValue{{Key: "k", Value: "v"}},
				BackoffBase: time.Second, BackoffMax: 2 * time.Second,
			},
		},
		{
			name: "google_grpc",
			in: `{api_type: GRPC, grpc_services: {google_grpc: {target_uri: "dns:x:1", stat_prefix: s},
				retry_policy: {retry_back_off: {base_interval: 3s}}}}`,
			want: &Source{Aggregated: true, Target: "dns:x:1", BackoffBase: 3 * time.Second},
		},
		{
			name: "aggregated",
			in:   `{api_type: AGGREGATED_DELTA_GRPC, grpc_services: {envoy_grpc: {cluster_name: xds}}}`,
			want: &Source{Delta: true, Aggregated: true, Cluster: "xds"},
		},
		{
			name: "unknown cluster",
			in:   `{api_type: GRPC, grpc_services: {envoy_grpc: {cluster_name: other}}}`,
			err:  `dynamic_resources.ads_config: cluster "other" is not among static_resources.clusters`,
		},
		{
			name: "no service",
			in:   `{api_type: GRPC}`,
			err:  `dynamic_resources.ads_config.grpc_services: want exactly one, have 0`,
		},
		{
			name: "REST",
			in:   `{api_type: REST, cluster_names: [xds]}`,
			err:  `dynamic_resources.ads_config.api_type: REST is not supported`,
		},
		{
			name: "version 2",
			in:   `{api_type: GRPC, transport_api_version: V2, grpc_services: {envoy_grpc: {cluster_name: xds}}}`,
			err:  `dynamic_resources.ads_config.transport_api_version: V2 is not supported`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := load(t, tt.in)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got  %v\nwant %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if s, err := ADS(&bootstrapv3.Bootstrap{}); s != nil || err != nil {
		t.Errorf("without ads_config: %v, %v", s, err)
	}
}

func TestAdminAddress(t *testing.T) {
	tests := []struct{ in, want string }{
		{"{}", "  false"},
		{"admin: {}", "  false"},
		{"admin: {address: {pipe: {path: /run/x}}}", "unix /run/x true"},
		{"admin: {address: {socket_address: {address: 0.0.0.0, port_value: 0}}}", "tcp 0.0.0.0:0 true"},
		{"admin: {address: {socket_address: {address: '::1', port_value: 19000}}}", "tcp [::1]:19000 true"},
		{"admin: {address: {socket_address: {address: '[::1]', port_value: 19000}}}", "tcp [::1]:19000 true"},
	}
	for _, tt := range tests {
		b, err := Parse([]byte(tt.in), Options{})
		if err != nil {
			t.Fatal(err)
		}
		network, address, ok := AdminAddress(b)
		got := strings.Join([]string{network, address, map[bool]string{true: "true", false: "false"}[ok]}, " ")
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestSecret(t *testing.T) {
	b, err := Parse([]byte(`static_resources: {secrets: [{name: a}, {name: b, generic_secret: {secret: {inline_string: x}}}]}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s := Secret(b, "b"); s.GetGenericSecret() == nil {
		t.Errorf("secret b: %v", s)
	}
	if s := Secret(b, "c"); s != nil {
		t.Errorf("secret c: %v", s)
	}
}

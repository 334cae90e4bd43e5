package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

// Group is a set of proxies that get the same resources.
type Group struct {
	Name      string
	Nodes     NodeMatch
	Resources Resources
}

// NodeMatch says which nodes belong to a group. Each entry is a glob
// (path.Match). A node belongs to the group if its id matches one of IDs or
// its cluster one of Clusters. Without both, the cluster must be the group's
// name.
type NodeMatch struct {
	IDs      []string `json:"ids,omitempty"`
	Clusters []string `json:"clusters,omitempty"`
}

// groupFile is the content of a folder's group.yaml.
type groupFile struct {
	Include []string  `json:"include,omitempty"`
	Nodes   NodeMatch `json:"nodes,omitempty"`
}

const groupFileName = "group.yaml"

// Config is what a directory holds: its groups by name, and what is wrong with
// those that could not be read.
type Config struct {
	Groups map[string]*Group
	Errors map[string]error // group name -> all its faults, joined
}

// LoadDir reads a configuration directory: each folder is a node group, and
// every .yaml, .yml and .json file in it holds xDS resources in Envoy's
// schema, as a list under "resources" or as one resource with an "@type". A
// folder whose name starts with "_" is no group but may be included by others.
// Hidden files and folders are skipped, "..data" folders of mounted config
// maps with them. The error is for the directory itself; faults of a group are
// in Config.Errors.
func LoadDir(root string) (*Config, error) {
	ents, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	cfg := &Config{Groups: map[string]*Group{}, Errors: map[string]error{}}
	for _, e := range ents {
		name := e.Name()
		if name[0] == '.' || name[0] == '_' || !isDir(root, e) {
			continue
		}
		g, err := loadGroup(root, name)
		if err != nil {
			cfg.Errors[name] = err
			continue
		}
		cfg.Groups[name] = g
	}
	if len(cfg.Groups)+len(cfg.Errors) == 0 {
		return nil, fmt.Errorf("%s: no node group: make a folder for each (named like the node.cluster of its proxies)", root)
	}
	return cfg, nil
}

// isDir follows symbolic links, as mounted config maps use them.
func isDir(root string, e fs.DirEntry) bool {
	if e.IsDir() {
		return true
	}
	st, err := os.Stat(filepath.Join(root, e.Name()))
	return err == nil && st.IsDir()
}

func loadGroup(root, name string) (*Group, error) {
	g := &Group{Name: name, Resources: Resources{}}
	var gf groupFile
	switch b, err := os.ReadFile(filepath.Join(root, name, groupFileName)); {
	case err == nil:
		if err := yaml.UnmarshalStrict(b, &gf); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", name, groupFileName, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	g.Nodes = gf.Nodes
	if len(g.Nodes.IDs)+len(g.Nodes.Clusters) == 0 {
		g.Nodes.Clusters = []string{name}
	}
	var errs []error
	for _, folder := range append([]string{name}, gf.Include...) {
		if !filepath.IsLocal(folder) {
			errs = append(errs, fmt.Errorf("%s/%s: include %q: not a folder of the configuration", name, groupFileName, folder))
			continue
		}
		errs = append(errs, loadFolder(root, folder, g.Resources)...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

// loadFolder adds the resources of one folder's files, in the order of their
// names.
func loadFolder(root, folder string, to Resources) (errs []error) {
	ents, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil {
		return []error{err}
	}
	for _, e := range ents {
		name := e.Name()
		if name[0] == '.' || name == groupFileName || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		file := filepath.Join(folder, name)
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, parseFile(file, b, to)...)
	}
	return errs
}

// parseFile adds the resources of one file, and returns all that is wrong with
// it.
func parseFile(file string, b []byte, to Resources) (errs []error) {
	for i, doc := range splitDocuments(b) {
		where := file
		if i > 0 {
			where = fmt.Sprintf("%s: document %d", file, i+1)
		}
		j, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
			continue
		}
		if string(j) == "null" {
			continue // only comments
		}
		list, err := resourceList(j)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
			continue
		}
		for k, raw := range list {
			origin := fmt.Sprintf("%s: resources[%d]", where, k)
			if err := parseResource(origin, raw, to); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

var documentMark = regexp.MustCompile(`(?m)^---[ \t]*(#.*)?$`)

func splitDocuments(b []byte) [][]byte {
	var out [][]byte
	for _, s := range documentMark.Split(string(b), -1) {
		if d := []byte(s); len(bytes.TrimSpace(d)) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// resourceList returns the resources of a document: the list under
// "resources", or the document itself.
func resourceList(doc []byte) ([]json.RawMessage, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(doc, &top); err != nil {
		return nil, errors.New(`want a mapping with "resources" or "@type"`)
	}
	if _, ok := top["@type"]; ok {
		return []json.RawMessage{doc}, nil
	}
	for k := range top {
		// version_info and the like belong to a DiscoveryResponse on disk.
		if !slices.Contains([]string{"resources", "version_info", "type_url", "nonce"}, k) {
			return nil, fmt.Errorf(`unknown field %q: want "resources" or "@type"`, k)
		}
	}
	raw, ok := top["resources"]
	if !ok {
		return nil, errors.New(`no "resources"`)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errors.New("resources: want a list")
	}
	return list, nil
}

// jsonPosition is protojson's place in our intermediate JSON, which says
// nothing to whoever wrote YAML.
var jsonPosition = regexp.MustCompile(`\(line \d+:\d+\): `)

func parseResource(origin string, raw json.RawMessage, to Resources) error {
	a := new(anypb.Any)
	if err := protojson.Unmarshal(raw, a); err != nil {
		return fmt.Errorf("%s: %s", origin, strings.TrimPrefix(jsonPosition.ReplaceAllString(err.Error(), ""), "proto: "))
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return fmt.Errorf("%s: %w", origin, err)
	}
	url := a.GetTypeUrl()
	if !slices.Contains(typeURLs, url) {
		return fmt.Errorf("%s: %s is not a resource that is published", origin, url)
	}
	name := cachev3.GetResourceName(m)
	if name == "" {
		return fmt.Errorf("%s: %s without a name", origin, m.ProtoReflect().Descriptor().Name())
	}
	if prev, dup := to.add(url, name, Resource{m, origin}); dup {
		return fmt.Errorf("%s: %s %q is in %s already", origin, m.ProtoReflect().Descriptor().Name(), name, prev.Origin)
	}
	return nil
}

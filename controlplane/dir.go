package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Group is a set of proxies that get the same resources. Immutable.
type Group struct {
	Name      string
	Nodes     NodeMatch
	Resources Resources

	state *state // of Resources
}

// NodeMatch says which nodes belong to a group. Each entry is a glob
// (path.Match, but "*" takes slashes as well). A node belongs to the group if
// its id matches one of IDs or its cluster one of Clusters. Without both, the
// cluster must be the group's name.
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

// Err returns all faults of all groups, joined; nil if all groups are good.
func (c *Config) Err() error {
	var errs []error
	for _, name := range sortedKeys(c.Errors) {
		errs = append(errs, at(fmt.Sprintf("group %q", name), c.Errors[name])...)
	}
	return errors.Join(errs...)
}

// Check checks each group and moves the faulty ones from Groups to Errors.
// Warnings are returned with their group's name in front.
func (c *Config) Check() (warnings []string) {
	for _, name := range sortedKeys(c.Groups) {
		w, err := Check(c.Groups[name])
		for _, w := range w {
			warnings = append(warnings, fmt.Sprintf("group %q: %s", name, w))
		}
		if err != nil {
			delete(c.Groups, name)
			c.Errors[name] = err
		}
	}
	return warnings
}

// LoadDir reads a configuration directory: each folder is a node group, and
// every .yaml, .yml and .json file in it holds xDS resources in Envoy's
// schema, as a list under "resources" or as one resource with an "@type". A
// folder whose name starts with "_" is no group but may be included by others.
// Hidden files and folders are skipped, "..data" folders of mounted config
// maps with them. The error is for the directory itself; faults of a group are
// in Config.Errors.
func LoadDir(root string) (*Config, error) { return new(loader).load(root) }

// loader reads a directory again and again, and parses only what changed. Used
// by one goroutine at a time.
type loader struct {
	parsed map[string]*parsedFile // by path below the root; of the load before
	next   map[string]*parsedFile // of this load; each file is read once
}

// maxReads bounds how often a directory is read that changes all the time.
const maxReads = 5

// load reads the directory until it has not changed while it was read: a link
// that is swapped must not give a mixture of two deployments.
func (l *loader) load(root string) (cfg *Config, err error) {
	for range maxReads {
		before := fingerprint(root)
		cfg, err = l.loadOnce(root)
		if fingerprint(root) == before {
			break
		}
	}
	return cfg, err
}

// fingerprint identifies the files of a directory as they are now.
func fingerprint(root string) string {
	var b strings.Builder
	groups, _ := os.ReadDir(root) // an error shows when the files are read
	for _, g := range groups {
		if g.Name()[0] == '.' {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Join(root, g.Name()))
		if err != nil {
			continue
		}
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			name := filepath.Join(dir, f.Name())
			if st, err := os.Stat(name); err == nil && f.Name()[0] != '.' {
				real, _ := filepath.EvalSymlinks(name)
				fmt.Fprintf(&b, "%s %s %d %d\n", name, real, st.Size(), st.ModTime().UnixNano())
			}
		}
	}
	return b.String()
}

func (l *loader) loadOnce(root string) (*Config, error) {
	ents, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	l.next = map[string]*parsedFile{}
	cfg := &Config{Groups: map[string]*Group{}, Errors: map[string]error{}}
	for _, e := range ents {
		name := e.Name()
		if name[0] == '.' || name[0] == '_' || !isDir(filepath.Join(root, name)) {
			continue
		}
		g, err := l.loadGroup(root, name)
		if err != nil {
			cfg.Errors[name] = err
			continue
		}
		cfg.Groups[name] = g
	}
	l.parsed = l.next
	if len(cfg.Groups)+len(cfg.Errors) == 0 {
		return nil, fmt.Errorf("%s: no node group: make a folder for each (named like the node.cluster of its proxies)", root)
	}
	return cfg, nil
}

// isDir follows symbolic links, as mounted config maps use them.
func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

func (l *loader) loadGroup(root, name string) (*Group, error) {
	g := &Group{Name: name, Resources: Resources{}}
	gf, errs := readGroupFile(root, name)
	g.Nodes = gf.Nodes
	if len(g.Nodes.IDs)+len(g.Nodes.Clusters) == 0 {
		g.Nodes.Clusters = []string{name}
	}
	folders := []string{name}
	for _, folder := range gf.Include {
		where := path.Join(name, groupFileName)
		switch {
		case slices.Contains(folders, folder):
		case !filepath.IsLocal(folder):
			errs = append(errs, fmt.Errorf("%s: include: %q is not a folder of the configuration", where, folder))
		case !isDir(filepath.Join(root, folder)):
			errs = append(errs, fmt.Errorf("%s: include: there is no folder %q", where, folder))
		default:
			folders = append(folders, folder)
		}
	}
	files := 0
	for _, folder := range folders {
		n, faults := l.loadFolder(root, folder, g.Resources)
		files += n
		errs = append(errs, faults...)
	}
	if files == 0 && len(errs) == 0 {
		errs = append(errs, at(name, errNoFiles)...)
	}
	if len(errs) > 0 {
		_, err := Check(g) // of what could be read: one run tells all
		return nil, errors.Join(append(errs, err)...)
	}
	g.state = newState(g.Resources)
	return g, nil
}

func readGroupFile(root, name string) (gf groupFile, errs []error) {
	where := path.Join(name, groupFileName)
	b, err := readFile(filepath.Join(root, name, groupFileName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gf, nil
	case err != nil:
		return gf, at(where, err)
	}
	if j, err := yaml.YAMLToJSON(b); err == nil && isEmpty(j) {
		return gf, at(where, errEmpty)
	}
	if err := yaml.UnmarshalStrict(b, &gf); err != nil {
		return gf, at(where, err)
	}
	for _, glob := range slices.Concat(gf.Nodes.IDs, gf.Nodes.Clusters) {
		if _, err := path.Match(glob, ""); err != nil {
			errs = append(errs, fmt.Errorf("%s: nodes: %q is no glob", where, glob))
		}
	}
	return gf, errs
}

// errNoFiles is the fault of a group whose folders have no files: they are
// probably being written, as in errEmpty.
var errNoFiles = errors.New("no file with resources; for a group that has none on purpose, make one with an empty list")

// loadFolder adds the resources of one folder's files, in the order of their
// names, and returns how many files there are.
func (l *loader) loadFolder(root, folder string, to Resources) (files int, errs []error) {
	ents, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil {
		return 0, at(folder, err)
	}
	for _, e := range ents {
		name := e.Name()
		if name[0] == '.' || name == groupFileName || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		files++
		f := l.file(root, path.Join(folder, name))
		errs = append(errs, f.errs...)
		for _, r := range f.resources {
			if err := to.add(r); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return files, errs
}

// file returns what a file holds: as parsed before, if it has not changed.
func (l *loader) file(root, file string) *parsedFile {
	if f := l.next[file]; f != nil {
		return f
	}
	b, err := readFile(filepath.Join(root, file))
	if err != nil {
		return &parsedFile{errs: at(file, err)}
	}
	f := l.parsed[file]
	if f == nil || !f.is(b) {
		f = parseFile(file, b)
	}
	l.next[file] = f
	return f
}

// readFile reads a regular file, or what a link to one leads to. Others may have
// no end, or wait for somebody who writes.
func readFile(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return os.ReadFile(name)
}

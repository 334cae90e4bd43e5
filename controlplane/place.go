package controlplane

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// document is a YAML document of a file. It is read for its lines only when
// there is something to say about one. Safe for concurrent use.
type document struct {
	file string // "edge/routes.yaml"
	name string // "document 2: "; empty if the file has one
	text []byte // with as many lines in front as in the file
	root func() *yaml.Node
}

func newDocument(file, name string, text []byte) *document {
	d := &document{file: file, name: name, text: text}
	d.root = sync.OnceValue(func() *yaml.Node {
		var n yaml.Node
		if yaml.Unmarshal(d.text, &n) != nil || len(n.Content) == 0 {
			return nil // JSON that is no YAML: there are no lines
		}
		return n.Content[0]
	})
	return d
}

// place is where a resource stands.
type place struct {
	doc  *document
	item int // in the document's "resources"; -1: the document is the resource
}

// String names the place without its line, which a change of something else
// may move: "edge/routes.yaml: resources[2]".
func (p place) String() string {
	if p.doc == nil {
		return "?"
	}
	s := p.doc.file + ": " + p.doc.name
	if p.item >= 0 {
		s += fmt.Sprintf("resources[%d]", p.item)
	}
	return strings.TrimSuffix(s, ": ")
}

// at names the place and the line of a field of the resource, or of what is
// there of it: "edge/routes.yaml:12: resources[2]".
func (p place) at(field string) string {
	if p.doc == nil {
		return p.String()
	}
	n := p.doc.root()
	if n == nil {
		return p.String()
	}
	if p.item >= 0 {
		field = fmt.Sprintf("resources[%d].%s", p.item, field)
	}
	return fmt.Sprintf("%s:%d%s", p.doc.file, lineOf(n, splitPath(field)), strings.TrimPrefix(p.String(), p.doc.file))
}

// faults returns err's faults with their places in front.
func (p place) faults(err error) []error {
	faults := Faults(err)
	for i, f := range faults {
		faults[i] = fmt.Errorf("%s: %w", p.at(fieldOf(f)), f)
	}
	return faults
}

// fieldOf returns the path of the field that a fault is about.
func fieldOf(err error) string {
	var f *bootstrap.FieldError
	var c *xdsconfig.Error
	switch {
	case errors.As(err, &f):
		return f.Path
	case errors.As(err, &c):
		return c.Path
	}
	return ""
}

// splitPath returns the steps of a path: `a[0].b["x.y"].c` has a, 0, b, x.y, c.
func splitPath(path string) (steps []string) {
	for path != "" {
		if path[0] == '.' {
			path = path[1:]
			continue
		}
		end := len(path)
		if path[0] == '[' {
			if end = strings.IndexByte(path, ']'); end < 0 {
				return steps
			}
			steps, path = append(steps, strings.Trim(path[1:end], `"`)), path[end+1:]
			continue
		}
		if i := strings.IndexAny(path, ".["); i >= 0 {
			end = i
		}
		steps, path = append(steps, path[:end]), path[end:]
	}
	return steps
}

// lineOf returns the line of what the steps lead to from n, or of the last of
// them that is there.
func lineOf(n *yaml.Node, steps []string) int {
	line := n.Line
	for _, s := range steps {
		var next *yaml.Node
		if key, value := child(n, s); value == nil {
			break
		} else if next = value; key != nil {
			line = key.Line
		} else {
			line = value.Line
		}
		n = next
	}
	return line
}

// child returns the node of a field or of a list's element, and the node of
// its key, if it has one.
func child(n *yaml.Node, step string) (key, value *yaml.Node) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return nil, n.Content[i]
		}
	case yaml.MappingNode:
		for kv := range slices.Chunk(n.Content, 2) {
			if sameField(kv[0].Value, step) {
				return kv[0], kv[1]
			}
		}
		for kv := range slices.Chunk(n.Content, 2) {
			if kv[0].Value != "<<" {
				continue
			}
			if k, v := child(kv[1], step); v != nil {
				return k, v
			}
		}
		if step == "0" {
			return nil, n // a single value where a list is expected
		}
	case yaml.ScalarNode, yaml.DocumentNode, yaml.AliasNode:
	}
	return nil, nil
}

// sameField compares names in either case: type_url, typeUrl.
func sameField(a, b string) bool {
	return a == b || strings.EqualFold(strings.ReplaceAll(a, "_", ""), strings.ReplaceAll(b, "_", ""))
}

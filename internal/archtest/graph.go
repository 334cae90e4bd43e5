package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// graph are the packages of the module by relative path, "." for the root.
type graph map[string]*pkg

type pkg struct {
	imports []string // of all non-test files, each once
	files   []string // slash-separated, relative to the root
}

// load parses the import clauses of every non-test Go file below root. Build
// constraints are ignored on purpose: a rule holds for every platform.
func load(root string) (graph, error) {
	g := graph{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		name := d.Name()
		if d.IsDir() {
			// The root's bin is what make builds; another bin is a package.
			if rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || rel == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		at := path.Dir(rel)
		if g[at] == nil {
			g[at] = &pkg{}
		}
		g[at].files = append(g[at].files, rel)
		for _, imp := range importsOf(f) {
			if !slices.Contains(g[at].imports, imp) {
				g[at].imports = append(g[at].imports, imp)
			}
		}
		return nil
	})
	return g, err
}

func importsOf(f *ast.File) []string {
	var out []string
	for _, s := range f.Imports {
		if p, err := strconv.Unquote(s.Path.Value); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// names returns the packages in order.
func (g graph) names() []string { return slices.Sorted(maps.Keys(g)) }

// walk calls visit with every import of start, and unless direct with those of
// everything it reaches through packages of this module: nearest first, each
// importing package once, with the chain of packages from start to the import.
// local is relative to the module for our packages. It ends when visit returns
// false.
func (g graph) walk(start string, direct bool, visit func(chain []string, imp string, ours bool) bool) {
	seen := map[string]bool{start: true}
	queue := [][]string{{start}}
	for len(queue) > 0 {
		chain := queue[0]
		queue = queue[1:]
		p := g[chain[len(chain)-1]]
		if p == nil {
			continue // imported, but not there
		}
		for _, imp := range p.imports {
			imp, ours := inModule(imp)
			longer := append(slices.Clone(chain), imp)
			if !visit(longer, imp, ours) {
				return
			}
			if ours && !direct && !seen[imp] {
				seen[imp] = true
				queue = append(queue, longer)
			}
		}
	}
}

// inModule returns an import path relative to the module if it is one of ours,
// else as it is.
func inModule(imp string) (string, bool) {
	if imp == module {
		return ".", true
	}
	if rel, ok := strings.CutPrefix(imp, module+"/"); ok {
		return path.Clean(rel), true
	}
	return imp, false
}

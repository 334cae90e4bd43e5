package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// graph maps each package of the module (relative path, "." for the root) to
// its non-test imports.
type graph map[string][]string

// load parses the import clauses of every non-test Go file below root. Build
// constraints are ignored on purpose: a rule holds for every platform.
func load(root string) (graph, error) {
	g := graph{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
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
		rel, err := filepath.Rel(root, filepath.Dir(p))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if _, ok := g[pkg]; !ok {
			g[pkg] = nil
		}
		for _, imp := range importsOf(f) {
			if !slices.Contains(g[pkg], imp) {
				g[pkg] = append(g[pkg], imp)
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

// Check returns the violations of rules in the module at root, each with the
// chain of imports that leads to it.
func Check(root string, rules []Rule) ([]string, error) {
	g, err := load(root)
	if err != nil {
		return nil, err
	}
	pkgs := make([]string, 0, len(g))
	for p := range g {
		pkgs = append(pkgs, p)
	}
	slices.Sort(pkgs)
	var out []string
	for _, r := range rules {
		for _, p := range pkgs {
			if !anyMatch(r.From, p) || anyMatch(r.Except, p) {
				continue
			}
			if chain := g.find(p, r); chain != nil {
				out = append(out, fmt.Sprintf("%s: %s", r.Name, strings.Join(chain, " -> ")))
			}
		}
	}
	return out, nil
}

// find returns the shortest import chain from pkg to something r denies.
func (g graph) find(pkg string, r Rule) []string {
	type step struct {
		pkg  string
		prev *step
	}
	chain := func(s *step, last string) []string {
		c := []string{last}
		for ; s != nil; s = s.prev {
			c = append(c, s.pkg)
		}
		slices.Reverse(c)
		return c
	}
	seen := map[string]bool{pkg: true}
	queue := []*step{{pkg: pkg}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for _, imp := range g[s.pkg] {
			local, ours := inModule(imp)
			if r.denies(imp, local, ours) {
				if ours {
					imp = local
				}
				return chain(s, imp)
			}
			if ours && !r.Direct && !seen[local] {
				seen[local] = true
				queue = append(queue, &step{local, s})
			}
		}
	}
	return nil
}

func (r Rule) denies(imp, local string, ours bool) bool {
	for _, d := range r.Deny {
		if rel, ok := strings.CutPrefix(d, "./"); ok {
			if ours && matches(rel, local) {
				return true
			}
		} else if !ours && matches(d, imp) {
			return true
		}
	}
	return false
}

// inModule returns an import path relative to the module.
func inModule(imp string) (string, bool) {
	if imp == module {
		return ".", true
	}
	rel, ok := strings.CutPrefix(imp, module+"/")
	return path.Clean(rel), ok
}

package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// impure tells of the packages that pure ones may import what they may not use
// of them.
var impure = map[string]func(name string) bool{
	// What reads the clock, starts timers or reads files.
	"time": func(name string) bool {
		switch name {
		case "Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep", "LoadLocation":
			return true
		}
		return false
	},
	// The functions that draw from the process's generator; a seeded one that
	// comes in as an argument is pure.
	"math/rand/v2": func(name string) bool {
		switch name {
		case "PCG", "NewPCG", "ChaCha8", "NewChaCha8", "Rand", "New", "Source", "Zipf", "NewZipf":
			return false
		}
		return true
	},
}

// CheckPurity returns the places in the named packages, and in all that they
// import of ours, that start a goroutine, use a channel, read the clock or
// draw lots.
func CheckPurity(root string, pkgs []string) ([]string, error) {
	g, err := load(root)
	if err != nil {
		return nil, err
	}
	via := map[string]string{} // what must be pure, and whom it is imported by
	for _, p := range g.names() {
		if anyMatch(pkgs, p) {
			via[p] = ""
		}
	}
	for _, p := range g.names() {
		if !anyMatch(pkgs, p) {
			continue
		}
		g.walk(p, false, func(chain []string, imp string, ours bool) bool {
			if _, known := via[imp]; ours && !known {
				via[imp] = ", which is imported: " + strings.Join(chain, " -> ")
			}
			return true
		})
	}
	var out []string
	for _, p := range g.names() {
		how, ok := via[p]
		if !ok {
			continue
		}
		slices.Sort(g[p].files)
		for _, file := range g[p].files {
			found, err := impurities(root, file)
			if err != nil {
				return nil, err
			}
			for _, what := range found {
				out = append(out, what+" in a pure package"+how)
			}
		}
	}
	return out, nil
}

// impurities parses a file and returns "file:line: what" for each.
func impurities(root, file string) (out []string, err error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.Join(root, filepath.FromSlash(file)), nil, 0)
	if err != nil {
		return nil, err
	}
	report := func(n ast.Node, what string) {
		out = append(out, fmt.Sprintf("%s:%d: %s", file, fset.Position(n.Pos()).Line, what))
	}
	names := map[string]string{} // of the impure packages here
	for _, s := range f.Imports {
		imp := strings.Trim(s.Path.Value, `"`)
		if impure[imp] == nil {
			continue
		}
		name := localName(s)
		if name == "." {
			report(s, "import . "+s.Path.Value)
		}
		names[name] = imp
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n, "a goroutine")
		case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
			report(n, "a channel")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				report(n, "a channel")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && names[x.Name] != "" && impure[names[x.Name]](n.Sel.Name) {
				report(n, names[x.Name]+"."+n.Sel.Name)
			}
		}
		return true
	})
	return slices.Compact(out), nil
}

// localName returns the name that a file calls an import by.
func localName(s *ast.ImportSpec) string {
	if s.Name != nil {
		return s.Name.Name
	}
	return path.Base(strings.TrimSuffix(strings.Trim(s.Path.Value, `"`), "/v2"))
}

package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
)

// clockReads are the functions of package time that read the clock or start
// timers.
var clockReads = map[string]bool{"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true, "NewTimer": true, "NewTicker": true, "Tick": true, "Sleep": true}

// CheckPurity returns the places in the named packages that start a
// goroutine, make a channel type or read the clock.
func CheckPurity(root string, pkgs []string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if !anyMatch(pkgs, strings.TrimSuffix(rel, "/"+filepath.Base(p))) {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, 0)
		if err != nil {
			return err
		}
		timeName := localName(f, "time")
		report := func(n ast.Node, what string) {
			out = append(out, fmt.Sprintf("%s:%d: %s in a pure package", rel, fset.Position(n.Pos()).Line, what))
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				report(n, "a goroutine")
			case *ast.ChanType:
				report(n, "a channel")
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && clockReads[n.Sel.Name] {
					report(n, "time."+n.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	return out, err
}

// localName returns the name under which f imports pkg, "" if it does not.
func localName(f *ast.File, pkg string) string {
	for _, s := range f.Imports {
		if s.Path.Value != `"`+pkg+`"` {
			continue
		}
		if s.Name != nil {
			return s.Name.Name
		}
		return pkg[strings.LastIndex(pkg, "/")+1:]
	}
	return ""
}

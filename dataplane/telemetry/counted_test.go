package telemetry

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every counter of package call is counted by somebody: a name in /stats that
// stays 0 whatever happens misleads.
func TestCountersAreCounted(t *testing.T) {
	declared := countersOf(t, "../call/stats.go")
	if len(declared) < 50 {
		t.Fatalf("%d counters in call/stats.go", len(declared))
	}
	used := map[string]bool{}
	for _, dir := range []string{"../relay", "../worker"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				collectUses(t, path, used)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Statuses are counted from the first class on: call.UpstreamRq1xx + n.
	class := regexp.MustCompile(`Rq[2-5]xx$`)
	for _, name := range declared {
		if !used[class.ReplaceAllString(name, "Rq1xx")] {
			t.Errorf("nobody counts call.%s", name)
		}
	}
}

// countersOf returns the constants of the file's lists that begin with iota,
// without the last ones, which are their lengths.
func countersOf(t *testing.T, file string) (out []string) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs[:len(g.Specs)-1] {
			out = append(out, s.(*ast.ValueSpec).Names[0].Name)
		}
	}
	return out
}

func collectUses(t *testing.T, file string, used map[string]bool) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "call" {
				used[s.Sel.Name] = true
			}
		}
		return true
	})
}

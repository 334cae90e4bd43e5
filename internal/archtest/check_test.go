package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestModule checks this module against its rules.
func TestModule(t *testing.T) {
	bad, err := Check("../..", Rules)
	if err != nil {
		t.Fatal(err)
	}
	impure, err := CheckPurity("../..", Pure)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range append(bad, impure...) {
		t.Error(v)
	}
}

// TestPurityBites plants a goroutine, a clock read and a channel in a pure
// package.
func TestPurityBites(t *testing.T) {
	const src = `package route

import clk "time"

func f() { go g() }
func g() { _ = clk.Now() }
func h() clk.Duration { return clk.Second }
func i() { ch := make(chan int); ch <- 1 }
`
	root := t.TempDir()
	dir := filepath.Join(root, "dataplane", "route")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := CheckPurity(root, Pure)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"dataplane/route/x.go:5: a goroutine in a pure package",
		"dataplane/route/x.go:6: time.Now in a pure package",
		"dataplane/route/x.go:8: a channel in a pure package",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// TestRulesBite plants a violation of each kind and expects it to be found:
// direct, through another package, behind a build constraint, and in the
// standard library.
func TestRulesBite(t *testing.T) {
	const protos = "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tests := []struct {
		name  string
		files map[string]string // path -> imports, space-separated
		want  string            // chain of the one expected violation
	}{
		{"clean", map[string]string{
			"dataplane/worker": module + "/dataplane/relay",
			"dataplane/relay":  module + "/dataplane/call",
			"dataplane/call":   "time",
		}, ""},
		{"direct", map[string]string{
			"dataplane/relay": protos,
		}, "dataplane/relay -> " + protos},
		{"transitive", map[string]string{
			"dataplane/worker":     module + "/internal/grpcclient",
			"internal/grpcclient":  "google.golang.org/grpc",
			"dataplane/worker/sub": "time",
		}, "dataplane/worker -> internal/grpcclient -> google.golang.org/grpc"},
		{"two steps", map[string]string{
			"controlplane":        module + "/dataplane/xdsconfig",
			"dataplane/xdsconfig": module + "/internal/a",
			"internal/a":          module + "/dataplane/worker",
			"dataplane/worker":    "time",
		}, "controlplane -> dataplane/xdsconfig -> internal/a -> dataplane/worker"},
		{"pure", map[string]string{
			"dataplane/route": "sync",
		}, "dataplane/route -> sync"},
		{"other platforms count", map[string]string{
			"dataplane/cluster!windows": "net",
		}, "dataplane/cluster -> net"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for p, imports := range tt.files {
				dir, tag, _ := strings.Cut(p, "!")
				src := ""
				if tag != "" {
					src = "//go:build " + tag + "\n\n"
				}
				src += "package " + filepath.Base(dir) + "\n\n"
				for _, imp := range strings.Fields(imports) {
					src += "import _ \"" + imp + "\"\n"
				}
				full := filepath.Join(root, filepath.FromSlash(dir))
				if err := os.MkdirAll(full, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(full, "x.go"), []byte(src), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Check(root, Rules)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				if len(got) != 0 {
					t.Fatalf("violations in a clean tree: %q", got)
				}
				return
			}
			for _, v := range got {
				if strings.HasSuffix(v, ": "+tt.want) {
					return
				}
			}
			t.Fatalf("got %q, want a violation ending in %q", got, tt.want)
		})
	}
}

package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestModule checks this module against its rules.
func TestModule(t *testing.T) {
	const root = "../.."
	bad, err := Check(root, Rules)
	if err != nil {
		t.Fatal(err)
	}
	impure, err := CheckPurity(root, Pure)
	if err != nil {
		t.Fatal(err)
	}
	unmatched, err := Unmatched(root, Rules, Pure)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range slices.Concat(bad, impure, unmatched) {
		t.Error(v)
	}
}

// TestEveryRuleBites plants a violation of every pattern of every rule in
// every package it is about: an import of what it denies, or of what is not
// among the only ones it permits; and the same behind a package that it lets
// pass, which must be found unless the rule is about direct imports.
func TestEveryRuleBites(t *testing.T) {
	for _, r := range Rules {
		var forbidden []string
		for _, pat := range r.Deny {
			forbidden = append(forbidden, below(pat, "planted/v9")...)
		}
		if r.Only != nil {
			for _, imp := range []string{"./test/proc", "./internal/other", "./dataplane/worker", "./dataplane/relay", "./dataplane", "./dataplane/h2",
				"net", "net/http", "os", "os/exec", "sync", "syscall", "context", "log/slog", "crypto/tls", "golang.org/x/sys/unix", "C"} {
				if local := strings.HasPrefix(imp, "./"); !slices.Contains(r.Only, others) && !local || !slices.Contains(r.Only, ours) && local {
					forbidden = append(forbidden, imp)
				}
			}
		}
		// What the rule itself lets pass, and what cannot be written.
		helper := "internal/helper"
		if r.Only != nil && !r.Direct && !slices.Contains(r.Only, ours) {
			helper = strings.TrimPrefix(r.Only[len(r.Only)-1], "./")
		}
		for _, pat := range r.From {
			for _, from := range below(pat, "planted") {
				for _, imp := range forbidden {
					if strings.TrimPrefix(imp, "./") == from || anyMatch(r.Except, from) {
						continue
					}
					want := r.Name + ": " + from + " -> " + strings.TrimPrefix(imp, "./")
					if !spared(r, from, imp) {
						expect(t, r, map[string]string{from: imp}, want)
					}
					if r.Direct || slices.Contains(r.From, "...") {
						continue
					}
					want = r.Name + ": " + from + " -> " + helper + " -> " + strings.TrimPrefix(imp, "./")
					expect(t, r, map[string]string{from: "./" + helper, helper: imp}, want)
				}
			}
		}
	}
}

// below makes packages that a pattern matches.
func below(pat, name string) []string {
	if pat == "..." {
		return []string{"dataplane/" + name}
	}
	if base, ok := strings.CutSuffix(pat, "/..."); ok {
		return []string{base, base + "/" + name}
	}
	return []string{pat}
}

func spared(r Rule, from, imp string) bool {
	return slices.ContainsFunc(r.Spare, func(e Edge) bool { return e.From == from && e.To == imp })
}

func expect(t *testing.T, r Rule, files map[string]string, want string) {
	t.Helper()
	got, err := Check(plant(t, files), []Rule{r})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// plant writes packages: path -> imports, separated by spaces, "./" for ours.
// After a "!" the path has a build constraint.
func plant(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for p, imports := range files {
		dir, tag, _ := strings.Cut(p, "!")
		src := ""
		if tag != "" {
			src = "//go:build " + tag + "\n\n"
		}
		src += "package p\n\n"
		for _, imp := range strings.Fields(imports) {
			if rel, ok := strings.CutPrefix(imp, "./"); ok {
				imp = module + "/" + rel
			}
			src += "import _ \"" + imp + "\"\n"
		}
		write(t, filepath.Join(root, filepath.FromSlash(dir), "x.go"), src)
	}
	return root
}

func write(t *testing.T, name, src string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCheck has what TestEveryRuleBites does not: clean trees, exceptions,
// long chains, build constraints, folders.
func TestCheck(t *testing.T) {
	const (
		protos = "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
		core   = "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
		disco  = "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
		grpc   = "google.golang.org/grpc"
	)
	tests := []struct {
		name  string
		files map[string]string
		want  []string // what the violations end in
	}{
		{"clean", map[string]string{
			"dataplane/worker":      "./dataplane/relay net sync",
			"dataplane/relay":       "./dataplane/call",
			"dataplane/call":        "time crypto/tls ./dataplane/h2/hpack ./dataplane/h2/hdr ./dataplane/clock",
			"dataplane/route":       "./dataplane/call net/netip",
			"xdsclient":             grpc + " " + core + " " + disco,
			"xdsclient/bootstrap":   protos,
			"controlplane":          grpc + " " + protos + " ./dataplane/xdsconfig ./xdsclient/bootstrap",
			"dataplane/xdsconfig":   protos + " ./xdsclient ./dataplane/transport",
			"dataplane/transport":   "crypto/tls os",
			"bin/made":              "./dataplane/worker " + grpc,
			"dataplane/h2/testdata": "net",
		}, nil},
		{"three steps", map[string]string{
			"controlplane":          "./dataplane/xdsconfig",
			"dataplane/xdsconfig":   "./internal/grpcclient",
			"internal/grpcclient":   "./dataplane/transport",
			"dataplane/transport":   "./dataplane/worker",
			"dataplane/worker":      "./dataplane/worker/wheel",
			"dataplane/worker/whee": "time",
		}, []string{
			"xdsconfig plugs in from outside: dataplane/xdsconfig -> internal/grpcclient -> dataplane/transport -> dataplane/worker",
			"the control plane compiles, it does not relay: controlplane -> dataplane/xdsconfig -> internal/grpcclient -> dataplane/transport -> dataplane/worker",
		}},
		{"a pure package's helper opens files", map[string]string{
			"dataplane/route": "./internal/a", "internal/a": "./internal/b", "internal/b": "os",
		}, []string{"pure packages compute: dataplane/route -> internal/a -> internal/b -> os"}},
		{"the exception of call is call's", map[string]string{
			"dataplane/cluster": "./dataplane/call crypto/tls", "dataplane/call": "crypto/tls",
		}, []string{"pure packages compute: dataplane/cluster -> crypto/tls"}},
		{"other platforms count", map[string]string{
			"dataplane/cluster!windows": "net",
		}, []string{"pure packages compute: dataplane/cluster -> net"}},
		{"a package called bin", map[string]string{
			"dataplane/h2/bin": "net",
		}, []string{"pure packages compute: dataplane/h2/bin -> net"}},
		{"bootstrap has no channels", map[string]string{
			"xdsclient/bootstrap": grpc,
		}, []string{"grpc-go only where it is the right tool: xdsclient/bootstrap -> " + grpc}},
		{"resource types through bootstrap", map[string]string{
			"xdsclient": "./xdsclient/bootstrap", "xdsclient/bootstrap": protos,
		}, []string{"xdsclient knows no resource type: xdsclient -> xdsclient/bootstrap"}},
		{"admin is no compiler", map[string]string{
			"dataplane/admin": protos + " " + core,
		}, []string{"admin speaks Envoy's admin protobufs: dataplane/admin -> " + protos}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Check(plant(t, tt.files), Rules)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPurityBites plants a goroutine, clock reads and channels in a pure
// package and in helpers of it.
func TestPurityBites(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "dataplane/route/x.go"), `package route

import clk "time"
import "math/rand/v2"
import _ "`+module+`/internal/a"

func f() { go g() }
func g() { _ = clk.Now() }
func h() clk.Duration { return clk.Second }
func i() { ch := make(chan int); ch <- 1 }
func j(r *rand.Rand) int { return r.IntN(2) + rand.IntN(2) }
`)
	write(t, filepath.Join(root, "internal/a/x.go"), "package a\n\nimport _ \""+module+"/internal/b\"\n")
	write(t, filepath.Join(root, "internal/b/x.go"), `package b

import . "time"

func f() { go f() }
func g() { select {} }
func h() { <-x() }
`)
	write(t, filepath.Join(root, "internal/c/x.go"), "package c\n\nfunc f() { go f() }\n")
	got, err := CheckPurity(root, Pure)
	if err != nil {
		t.Fatal(err)
	}
	const via = " in a pure package, which is imported: dataplane/route -> internal/a -> internal/b"
	want := []string{
		"dataplane/route/x.go:7: a goroutine in a pure package",
		"dataplane/route/x.go:8: time.Now in a pure package",
		"dataplane/route/x.go:10: a channel in a pure package",
		"dataplane/route/x.go:11: math/rand/v2.IntN in a pure package",
		`internal/b/x.go:3: import . "time"` + via,
		"internal/b/x.go:5: a goroutine" + via,
		"internal/b/x.go:6: a channel" + via,
		"internal/b/x.go:7: a channel" + via,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// TestUnmatchedBites: a rule about nothing, a plan that came true, an
// exception that nobody needs.
func TestUnmatchedBites(t *testing.T) {
	root := plant(t, map[string]string{"a": "time", "b/c": "os"})
	rules := []Rule{{
		Name: "r", From: []string{"a", "gone"}, Except: []string{"b/...", "old/...", "later"}, Planned: []string{"b/...", "later"},
		Spare: []Edge{{"a", "time", ""}, {"a", "os", ""}},
	}}
	got, err := Unmatched(root, rules, []string{"a", "h3"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pure: no package h3", "r: no package gone", "r: no package old/...", "r: b/... is there, no longer planned", "r: a does not import os, which is spared"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

package relay

import (
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// What Envoy makes of the same paths: test/envoydiff.
func TestNormalPath(t *testing.T) {
	normal := call.PathPolicy{Normalize: true}
	tests := []struct {
		policy     call.PathPolicy
		path, want string // want "": refused
	}{
		{normal, "/pkg.Svc/M", "/pkg.Svc/M"},
		{normal, "/a/./b/../c?x=/../y", "/a/c?x=/../y"},
		{normal, "/a/..", "/"},
		{normal, "/../../a", "/a"},
		{normal, "/a/b/.", "/a/b/"},
		{normal, "/a/%2e%2E/b/.%2e/c", "/c"},
		{normal, "/a/...b/..c/.d", "/a/...b/..c/.d"},
		{normal, `/a\b\..\c`, "/a/c"},
		{normal, "/%41%7e%2f%zz%2", "/A~%2f%zz%2"},
		{normal, "/\x80<>", "/%80%3C%3E"},
		{normal, "/%00", ""},
		{normal, "/a//b", "/a//b"},
		{call.PathPolicy{MergeSlashes: true}, "//a///b/?x=//y", "/a/b/?x=//y"},
		{call.PathPolicy{MergeSlashes: true}, "/a/../b", "/a/../b"},
		{call.PathPolicy{Escaped: call.EscapedForward}, "/a%2Fb%5c?%2F", `/a/b\?%2F`},
		{call.PathPolicy{Escaped: call.EscapedForward, Normalize: true}, "/a/b%2F..%2Fc", "/a/c"},
		{call.PathPolicy{Escaped: call.EscapedReject}, "/a%2fb", ""},
		{call.PathPolicy{Escaped: call.EscapedReject}, "/a%20b?%2f", "/a%20b?%2f"},
		{call.PathPolicy{Escaped: call.EscapedRedirect}, "/a%2fb", ""},
	}
	for _, tt := range tests {
		x := headerExchange(&call.Manager{Paths: tt.policy}, nil, nil, ":path", tt.path)
		rp := x.normalPath(&x.head)
		got, _ := x.head.Get(hdr.Path)
		if rp != nil {
			got = ""
		}
		if got != tt.want || rp == nil && x.call.Path != got {
			t.Errorf("%+v %q: %q, routed by %q; want %q", tt.policy, tt.path, got, x.call.Path, tt.want)
		}
	}
	x := headerExchange(&call.Manager{Paths: call.PathPolicy{Escaped: call.EscapedRedirect, MergeSlashes: true}}, nil, nil, ":path", "/a%2f/b?c")
	x.call.GRPC = false
	if rp := x.normalPath(&x.head); rp == nil || rp.HTTP != 307 || rp.Headers[0].Value != "/a/b?c" {
		t.Errorf("redirect: %+v", rp)
	}
}

// FuzzNormalizePath: a normal path stays as it is, and names no other place.
func FuzzNormalizePath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/", `/\..\`, "/%25%32%65", "/.%2e/..%2f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path := "/" + s
		once, ok := normalizePath(path)
		if !ok {
			return
		}
		if once == "" || once[0] != '/' {
			t.Fatalf("%q: %q", path, once)
		}
		for i := 0; i+1 < len(once); i++ {
			if rest := once[i+1:]; once[i] == '/' && (rest == "." || rest == ".." || len(rest) > 2 && rest[:3] == "../" || len(rest) > 1 && rest[:2] == "./") {
				t.Fatalf("%q: %q still has a dot segment", path, once)
			}
		}
	})
}

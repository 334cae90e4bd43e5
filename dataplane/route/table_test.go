package route

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// build makes a table of one virtual host "*" whose route i goes to cluster i.
func build(t testing.TB, matches ...Match) *Table {
	t.Helper()
	b := NewBuilder("test")
	vh, _ := b.AddVirtualHost("all", []string{"*"})
	for i, m := range matches {
		_ = vh.Add(m, to(fmt.Sprint(i)))
	}
	tbl, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

// post is a gRPC call with headers given as pairs.
func post(path string, headers ...string) *call.Call {
	c := &call.Call{Host: "example.com", Method: "POST", Path: path, GRPC: true, Headers: new(hpack.Block)}
	for i := 0; i < len(headers); i += 2 {
		c.Headers.Append(hpack.NewField(headers[i], headers[i+1]))
	}
	return c
}

const none = "route_not_found"

func TestVirtualHost(t *testing.T) {
	b := NewBuilder("test")
	for _, domains := range []string{"foo.com", "*.foo.com *-bar.foo.com", "*.bar.foo.com", "foo.* FOO.com:80", "foo.c*", "*"} {
		vh, err := b.AddVirtualHost(domains, strings.Fields(domains))
		if err != nil {
			t.Fatal(err)
		}
		_ = vh.Add(Match{}, to(domains))
	}
	tbl, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ host, want string }{
		{"foo.com", "foo.com"},
		{"FOO.com", "foo.com"},
		{"foo.com:80", "foo.* FOO.com:80"},
		{"a.foo.com", "*.foo.com *-bar.foo.com"},
		{"a-bar.foo.com", "*.foo.com *-bar.foo.com"},
		{"a.bar.foo.com", "*.bar.foo.com"},
		{".bar.foo.com", "*.foo.com *-bar.foo.com"}, // a wildcard needs a character
		{"foo.org", "foo.* FOO.com:80"},
		{"foo.cat", "foo.c*"},
		{"foo.c", "foo.* FOO.com:80"},
		{"foo.", "*"},
		{"bar.org", "*"},
		{strings.Repeat("a", 300) + ".foo.com", "*.foo.com *-bar.foo.com"},
		{"", none}, // no :authority
	}
	for _, tt := range tests {
		c := post("/")
		c.Host = tt.host
		if got := went(tbl.Direct(c)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.host, got, tt.want)
		}
	}
}

func TestIgnorePort(t *testing.T) {
	for host, want := range map[string]string{
		"foo.com:443": "foo.com", "foo.com:": "foo.com", "[::1]:443": "[::1]", "[::1]": "[::1]", "bar.com:443": none,
	} {
		b := NewBuilder("test")
		b.IgnorePort = true
		for _, domain := range []string{"foo.com", "[::1]"} {
			vh, _ := b.AddVirtualHost(domain, []string{domain})
			_ = vh.Add(Match{}, to(domain))
		}
		tbl, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		c := post("/")
		c.Host = host
		if got := went(tbl.Direct(c)); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

func TestPathMatch(t *testing.T) {
	regex := func(expr string) PathMatch { return PathMatch{Kind: PathRegex, Regex: compileAll(expr)[0]} }
	tests := []struct {
		match PathMatch
		yes   []string
		no    []string
	}{
		{PathMatch{}, []string{"/", "/a?b", "*", "?"}, []string{""}},
		{PathMatch{Value: "/a"}, []string{"/a", "/ab", "/a/b", "/a?x=/"}, []string{"/", "/A", "?/a"}},
		{PathMatch{Value: "/Ab", IgnoreCase: true}, []string{"/aB", "/AB/c"}, []string{"/a"}},
		{PathMatch{Kind: PathExact, Value: "/a"}, []string{"/a", "/a?b", "/a#b"}, []string{"/a/", "/A", "/", "/a;b"}},
		{PathMatch{Kind: PathExact, Value: "/A", IgnoreCase: true}, []string{"/a", "/A?b"}, []string{"/ab"}},
		{PathMatch{Kind: PathSeparatedPrefix, Value: "/a/b"}, []string{"/a/b", "/a/b/", "/a/b/c", "/a/b?c"}, []string{"/a/bc", "/a", "/a/B"}},
		{PathMatch{Kind: PathSeparatedPrefix, Value: "/A", IgnoreCase: true}, []string{"/a/b", "/A"}, []string{"/ab"}},
		{regex("/a|/b"), []string{"/a", "/b?c"}, []string{"/ab", "/a/"}},
		{regex("/a.*z"), []string{"/az", "/abz?b"}, []string{"/azb"}},
		{regex("(?i)/a"), []string{"/A"}, []string{"/b"}},
		{PathMatch{Kind: PathConnect}, nil, []string{"/", "", "CONNECT"}},
	}
	for _, tt := range tests {
		tbl := build(t, Match{Path: tt.match})
		for _, path := range tt.yes {
			if got := went(tbl.Direct(post(path))); got != "0" {
				t.Errorf("%v does not take %q", tt.match, path)
			}
		}
		for _, path := range tt.no {
			if got := went(tbl.Direct(post(path))); got != none {
				t.Errorf("%v takes %q", tt.match, path)
			}
		}
	}
}

func TestConnect(t *testing.T) {
	tbl := build(t, Match{Path: PathMatch{Value: "/"}}, Match{Path: PathMatch{Kind: PathConnect}})
	c := post("")
	c.Method = "CONNECT"
	if got := went(tbl.Direct(c)); got != "1" {
		t.Errorf("CONNECT without a path: got %s", got)
	}
	c.Path = "/chat" // extended CONNECT (RFC 8441)
	if got := went(tbl.Direct(c)); got != "0" {
		t.Errorf("CONNECT with a path: got %s", got)
	}
}

func TestIgnorePathParameters(t *testing.T) {
	b := NewBuilder("test")
	b.IgnorePathParameters = true
	vh, _ := b.AddVirtualHost("all", []string{"*"})
	_ = vh.Add(Match{Path: PathMatch{Kind: PathExact, Value: "/a"}}, to("a"))
	_ = vh.Add(Match{Path: PathMatch{Kind: PathExact, Value: "/a/b"}}, to("b"))
	_ = vh.Add(Match{Path: PathMatch{Kind: PathRegex, Regex: compileAll("/./c/")[0]}}, to("c"))
	tbl, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/a;v=1?c": "a", "/a;v=1;w?c/b": "a", "/a;v=1/b?c": "b", "/a/b;v": "b", "/a;/c;x/;y": "c", "/;a": "route_not_found", ";/a": "a",
	} {
		if got := went(tbl.Direct(post(path))); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// TestFirstMatchWins puts routes of all kinds in an order in which every
// shortcut of the index would find another one first.
func TestFirstMatchWins(t *testing.T) {
	header := []HeaderMatch{{Name: "x-go", Kind: HeaderString, String: StringMatch{Value: "1"}}}
	tbl := build(t,
		Match{Path: PathMatch{Value: "/pkg.A/"}, Headers: header},
		Match{Path: PathMatch{Kind: PathRegex, Regex: compileAll("/pkg.*/Get")[0]}, Headers: header},
		Match{Path: PathMatch{Value: "/PKG.a/g", IgnoreCase: true}},
		Match{Path: PathMatch{Kind: PathExact, Value: "/pkg.A/Get"}},
		Match{Path: PathMatch{Value: "/pkg.A/"}},
		Match{Path: PathMatch{Kind: PathRegex, Regex: compileAll(".*/Get")[0]}},
		Match{},
	)
	for _, tt := range []struct {
		c    *call.Call
		want string
	}{
		{post("/pkg.A/Get", "x-go", "1"), "0"},
		{post("/pkg.B/Get", "x-go", "1"), "1"},
		{post("/pkg.A/Get"), "2"},
		{post("/pkg.A/Put"), "4"},
		{post("/pkg.B/Get"), "5"},
		{post("/pkg.B/Put"), "6"},
	} {
		if got := went(tbl.Direct(tt.c)); got != tt.want {
			t.Errorf("%s: got %s, want %s", show(tt.c), got, tt.want)
		}
	}
}

func TestGRPC(t *testing.T) {
	tbl := build(t, Match{GRPC: true}, Match{})
	c := post("/")
	if got := went(tbl.Direct(c)); got != "0" {
		t.Errorf("gRPC: got %s", got)
	}
	c.GRPC = false
	if got := went(tbl.Direct(c)); got != "1" {
		t.Errorf("not gRPC: got %s", got)
	}
}

// TestDecisionDoesNotKeepTable holds what a long stream holds, and lets the
// table go.
func TestDecisionDoesNotKeepTable(t *testing.T) {
	tbl := build(t, Match{Path: PathMatch{Value: "/a"}}, Match{Path: PathMatch{Kind: PathExact, Value: "/b"}})
	d, err := tbl.Direct(post("/b"))
	if err != nil {
		t.Fatal(err)
	}
	table, routes := weak.Make(tbl), weak.Make(&tbl.hosts.any.vhost.routes[0])
	runtime.GC()
	if table.Value() == nil {
		t.Fatal("the table is gone while in use")
	}
	runtime.KeepAlive(tbl)
	runtime.GC()
	if table.Value() != nil || routes.Value() != nil {
		t.Error("a decision keeps its table")
	}
	runtime.KeepAlive(d)
}

func TestBuilderErrors(t *testing.T) {
	b := NewBuilder("cfg")
	if _, err := b.AddVirtualHost("a", []string{"x.com", "*.x.com", "x.*", "*"}); err != nil {
		t.Fatal(err)
	}
	vh, err := b.AddVirtualHost("b", []string{"X.com", "*.x.com", "x.*", "*", "y.com"})
	want := []string{
		`virtual host "b": `,
		`duplicate domain "x.com": virtual host "a" already has it`,
		`duplicate domain "*.x.com": virtual host "a"`,
		`duplicate domain "x.*": virtual host "a"`,
		`duplicate domain "*": virtual host "a"`,
	}
	wantAll(t, err, want)
	_, err = b.AddVirtualHost("c", nil)
	wantAll(t, err, []string{`virtual host "c": no domains`})

	header := &ClusterHeader{Name: "x", Lookup: func(string) (call.BackendSet, *call.Route) { return nil, nil }}
	set := new(backends)
	tests := []struct {
		match  Match
		action Action
		want   []string
	}{
		{Match{Path: PathMatch{Value: "/p"}}, Action{Name: "r"}, []string{`route "r" (prefix "/p"): action: want exactly one`}},
		{Match{}, Action{Reply: new(call.Reply), ClusterHeader: header}, []string{"want exactly one"}},
		{Match{Path: PathMatch{Kind: PathRegex}}, to("x"), []string{"without a regex"}},
		{Match{Path: PathMatch{Kind: PathSeparatedPrefix}}, to("x"), []string{"empty path_separated_prefix"}},
		{Match{Path: PathMatch{Kind: 99}}, to("x"), []string{"unknown kind 99"}},
		{Match{Fraction: new(Fraction)}, to("x"), []string{"denominator is 0"}},
		{Match{
			Headers: []HeaderMatch{{}, {Name: "h", Kind: HeaderString, String: StringMatch{Kind: StringRegex}}, {Name: "i", Kind: 9}},
			Query:   []QueryMatch{{}, {Name: "q", Kind: QueryString, String: StringMatch{Kind: 9}}, {Name: "p", Kind: 9}},
		}, to("x"), []string{
			"header match without a name", `header "h": a regex match without a regex`, `header "i": unknown kind 9`,
			"query parameter match without a name", `query parameter "q": unknown kind of string match 9`, `query parameter "p": unknown kind 9`,
		}},
		{Match{}, Action{Clusters: []WeightedCluster{{Weight: 0, Backends: set}, {Weight: 0, Backends: set}}}, []string{"sum must be greater than 0"}},
		{Match{}, Action{Clusters: []WeightedCluster{{Weight: 1 << 31, Backends: set}, {Weight: 1 << 31, Backends: set}}}, []string{"sum 4294967296 exceeds 4294967295"}},
		{Match{}, Action{Clusters: []WeightedCluster{{Weight: 1}, {Weight: 1, Backends: set, Header: header}}}, []string{"clusters[0]: want either", "clusters[1]: want either"}},
		{Match{}, Action{ClusterHeader: &ClusterHeader{Name: "x"}}, []string{"cluster header without name or lookup"}},
	}
	for _, tt := range tests {
		err := vh.Add(tt.match, tt.action)
		wantAll(t, err, tt.want)
		want = append(want, tt.want...)
	}
	_, err = b.Build()
	wantAll(t, err, append(want, `route configuration "cfg"`, `virtual host "c": no domains`))
}

func wantAll(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in the error:\n%v", w, err)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	tbl, err := NewBuilder("empty").Build()
	if err != nil {
		t.Fatal(err)
	}
	if got := went(tbl.Direct(post("/"))); got != none || tbl.Name() != "empty" {
		t.Errorf("got %s of %s", got, tbl.Name())
	}
}

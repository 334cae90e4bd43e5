package route

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	b := NewBuilder("cfg")
	vh, _ := b.AddVirtualHost("shop", []string{"*.shop.com"})
	add := func(name string, m Match) {
		if err := vh.Add(m, to(name)); err != nil {
			t.Fatal(err)
		}
	}
	exact := StringMatch{Value: "gold"}
	cart := PathMatch{Value: "/shop.Cart/"}
	add("other", Match{Path: PathMatch{Value: "/shop.Other/"}})
	add("gold", Match{Path: cart, Headers: []HeaderMatch{{Name: "x-tier", Kind: HeaderString, String: exact}}})
	add("no-user", Match{Path: cart, Headers: []HeaderMatch{{Name: "x-tier"}, {Name: "x-user", Absent: true}, {Name: "x-n", Kind: HeaderRange, End: 9}}})
	add("debug", Match{Path: cart, Query: []QueryMatch{{Name: "debug"}}})
	add("level", Match{Path: cart, Query: []QueryMatch{{Name: "v", Kind: QueryString, String: StringMatch{Kind: StringPrefix, Value: "A", IgnoreCase: true}}}})
	add("some", Match{Path: cart, Fraction: &Fraction{Numerator: 5, Denominator: 100}})
	add("separated", Match{Path: PathMatch{Kind: PathSeparatedPrefix, Value: "/shop.C"}})
	add("regex", Match{Path: PathMatch{Kind: PathRegex, Regex: compileAll("/shop.*/Put")[0]}})
	add("grpc", Match{Path: cart, GRPC: true})
	add("rest", Match{})
	add("never", Match{})
	tbl, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	c := post("/shop.Cart/Get?v=1", "x-tier", "silver", "x-tier", "bronze", "x-user", "u")
	c.Host, c.GRPC, c.Rand = "eu.shop.com", false, 77<<32
	want := strings.TrimLeft(`
route configuration "cfg", virtual host "shop" (domain "*.shop.com")
  1 "gold" (prefix "/shop.Cart/"): header "x-tier": want exact "gold", is "silver,bronze"
  2 "no-user" (prefix "/shop.Cart/"): header "x-user": want absent, is "u"
  3 "debug" (prefix "/shop.Cart/"): query parameter "debug": want present, is missing
  4 "level" (prefix "/shop.Cart/"): query parameter "v": want prefix (any case) "a", is "1"
  5 "some" (prefix "/shop.Cart/"): fraction: 5/100, and this request drew 77
  6 "separated" (path_separated_prefix "/shop.C"): path: "/shop.Cart/Get" is not path_separated_prefix "/shop.C"
  7 "regex" (regex "/shop.*/Put"): path: "/shop.Cart/Get" is not regex "/shop.*/Put"
  8 "grpc" (prefix "/shop.Cart/"): grpc: the content-type is not gRPC's
  9 "rest" (prefix ""): wins
  1 more ruled out by path
`, "\n")
	x := tbl.Explain(c)
	if d := cmp.Diff(want, x.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if x.Winner != 9 || went(x.Decision, x.Err) != "rest" {
		t.Errorf("got %+v", x)
	}

	c.Host = "example.org"
	if got, want := tbl.Explain(c).String(), `route configuration "cfg": no virtual host takes the host`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExplainNoRoute(t *testing.T) {
	tbl := build(t,
		Match{Path: PathMatch{Value: "/a"}},
		Match{Headers: []HeaderMatch{{Name: "x-n", Kind: HeaderRange, Start: 1, End: 9, Invert: true}}},
		Match{Path: PathMatch{Kind: PathConnect}})
	want := strings.TrimLeft(`
route configuration "test", virtual host "all" (domain "*")
  1 "1" (prefix ""): header "x-n": want not range [1, 9), is missing
  2 more ruled out by path
  no route
`, "\n")
	if d := cmp.Diff(want, tbl.Explain(post("/b")).String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

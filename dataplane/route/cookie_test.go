package route

import (
	"strings"
	"testing"
)

// TestCookies: a route that asks for cookies takes a request that has them, the
// first of each name, and Explain says what is missing.
func TestCookies(t *testing.T) {
	is := func(v string) StringMatch { return StringMatch{Value: v} }
	for _, tc := range []struct {
		name  string
		match []CookieMatch
		have  []string
		why   string // it is not taken; empty: it is
	}{
		{name: "there", match: []CookieMatch{{Name: "a", String: is("b")}}, have: []string{"x=y; a=b"}},
		{name: "in a field of its own", match: []CookieMatch{{Name: "a", String: is("b")}}, have: []string{"x=y", "a=b"}},
		{name: "quoted", match: []CookieMatch{{Name: "a", String: is("b")}}, have: []string{`x=y;a="b"`}},
		{name: "the first counts", match: []CookieMatch{{Name: "a", String: is("b")}}, have: []string{"a=c; a=b"}, why: `cookie "a": want exact "b", is "c"`},
		{name: "missing", match: []CookieMatch{{Name: "a", String: is("b")}}, why: `cookie "a": want exact "b", is missing`},
		{name: "not a cookie", match: []CookieMatch{{Name: "a", String: is("")}}, have: []string{"a"}, why: `cookie "a": want exact "", is missing`},
		{name: "missing, inverted", match: []CookieMatch{{Name: "a", String: is("b"), Invert: true}}},
		{name: "inverted", match: []CookieMatch{{Name: "a", String: is("b"), Invert: true}}, have: []string{"a=b"}, why: `cookie "a": want not exact "b", is "b"`},
		{name: "all", match: []CookieMatch{{Name: "a", String: is("b")}, {Name: "c", String: is("d")}}, have: []string{"a=b; c=e"}, why: `cookie "c": want exact "d", is "e"`},
	} {
		b := NewBuilder("cfg")
		vh, _ := b.AddVirtualHost("v", []string{"*"})
		if err := vh.Add(Match{Cookies: tc.match}, to("c")); err != nil {
			t.Fatal(err)
		}
		tbl, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		var headers []string
		for _, v := range tc.have {
			headers = append(headers, "cookie", v)
		}
		c := post("/a", headers...)
		_, err = tbl.Direct(c)
		if (err == nil) != (tc.why == "") || !strings.Contains(tbl.Explain(c).String(), tc.why) {
			t.Errorf("%s: %v, explained as %s", tc.name, err, tbl.Explain(c))
		}
	}
}

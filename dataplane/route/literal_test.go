package route

import (
	"fmt"
	"strings"
	"testing"
)

func TestLiterals(t *testing.T) {
	for expr, want := range map[string]string{
		`/a/b`: "/a/b; /a/b", `/a/.*`: "/a/; /a/", `/ab|/ac`: "/ab /ac; /ab /ac", `^/a`: "/a; /a", `.*`: "; ",
		`/a(b|c).*`: "/ab /ac; /ab /ac", `/a+b`: "/a; /a", `/a*b`: "/; /", `/a?b`: "/b /ab; /b /ab", `/(ab)+c`: "/ab; /ab",
		`/(ab){2}c`: "/ababc; /ababc", `(/a)(/b)`: "/a/b; /a/b", `/a\.b\.C/.*`: "/a.b.C/; /a.b.C/",
		`/a\x{fffd}b`: "/a; /a", `/é.`: "/é; /é", `/[é]x`: "/\xa9x /\xc3x; /\xa9x /\xc3x", `/\xe9.`: "/\xe9; /\xe9", `(?m)^/a`: "/a; /a", `\Q/a.b\E.`: "/a.b; /a.b", ``: "; ", `a|b|`: "; ",
		`.*/GetThing`: "; /GetThing", `/acme\..*/(Get|List)Thing`: "/acme.; /GetThing /ListThing",
		`/[^/]+/v[12]/x.*y`: "/; /v1/x /v2/x", `(.*abc)+d`: "; abc", `.*(abc|.*de|f.*).*`: "; f de abc", `.*(abc|.*)`: "; ",
		`a|ab`: "a; a", `[a-z]/abc`: "; /abc", `[a-d]x`: "ax bx cx dx; ax bx cx dx",
		`(?i)/A`: "/a; /a, folded", `(?i)K[^/]/ſx`: "k; k, folded", `(?i)é/a`: "; , folded", `/A(?i:b)`: "/ab; /ab, folded",
		`(?i)\.?[a-z_]+(\.[a-z_]+)*/GetBooks`: "; /getbooks, folded",
		`(?i)\x{212a}/[\x{17f}]`:              "k/s; k/s, folded", `[\x{fffd}]/abc`: "; ", `x[[:^ascii:][:ascii:]]abc`: "x; abc",
		`(?i)[kz]x`: "kx zx; kx zx, folded", `[^\x00-\x{10ffff}]`: "; ", `(x|y)+/(.*)?`: "x y; /", "/" + strings.Repeat("x", 80): "/" + strings.Repeat("x", 63) + "; /" + strings.Repeat("x", 63),
		strings.Repeat("x", 40) + "." + strings.Repeat("[yz]", 5):                strings.Repeat("x", 40) + "; " + strings.Repeat("x", 40),
		"(" + strings.Repeat("[ab]", 3) + "|" + strings.Repeat("[cd]", 4) + ")x": "; x",
	} {
		need := compileAll(expr)[0].need
		got := fmt.Sprint(strings.Join(need.prefixes, " "), "; ", strings.Join(need.inner, " "))
		if need.fold {
			got += ", folded"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}

// TestLiteralsHold looks for the literals of random expressions in random
// paths that match: none may be without.
func TestLiteralsHold(t *testing.T) {
	g := newGen(7)
	matches := 0
	for range 2_000 {
		path := g.path()
		for _, re := range append(regexes, randomRegexes...) {
			if !naiveRegex(re, path) {
				continue
			}
			matches++
			text := path
			if re.need.fold {
				text = lower(path)
			}
			if !hasOne(text, re.need.prefixes, strings.HasPrefix) || !hasOne(text, re.need.inner, strings.Contains) {
				t.Fatalf("%q matches %s, and has none of %q, %q", path, re, re.need.prefixes, re.need.inner)
			}
		}
	}
	if matches < 10_000 {
		t.Errorf("%d matches test little", matches)
	}
}

func hasOne(s string, set []string, has func(s, part string) bool) bool {
	for _, part := range set {
		if has(s, part) {
			return true
		}
	}
	return false
}

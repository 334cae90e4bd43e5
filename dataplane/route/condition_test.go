package route

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

func TestHeaderMatch(t *testing.T) {
	str := func(kind StringKind, value string) HeaderMatch {
		return HeaderMatch{Name: "X-A", Kind: HeaderString, String: StringMatch{Kind: kind, Value: value}}
	}
	fold := func(h HeaderMatch) HeaderMatch { h.String.IgnoreCase = true; return h }
	not := func(h HeaderMatch) HeaderMatch { h.Invert = true; return h }
	orEmpty := func(h HeaderMatch) HeaderMatch { h.MissingAsEmpty = true; return h }
	named := func(name string, h HeaderMatch) HeaderMatch { h.Name = name; return h }
	present := HeaderMatch{Name: "x-a"}
	absent := HeaderMatch{Name: "x-a", Absent: true}
	inRange := HeaderMatch{Name: "x-a", Kind: HeaderRange, Start: -5, End: 10}
	regex := HeaderMatch{Name: "x-a", Kind: HeaderString, String: StringMatch{Kind: StringRegex, Regex: compileAll("a.?b|")[0]}}

	missing := []string{}
	has := func(values ...string) (headers []string) {
		for _, v := range values {
			headers = append(headers, "x-b", "no", "x-a", v)
		}
		return headers
	}
	tests := []struct {
		match   HeaderMatch
		headers []string
		want    bool
	}{
		{present, has(""), true}, {present, missing, false},
		{absent, has(""), false}, {absent, missing, true},
		{not(present), has(""), false}, {not(present), missing, true},
		{not(absent), has(""), true}, {not(absent), missing, false},
		{orEmpty(present), missing, true}, {orEmpty(absent), missing, false},

		{str(StringExact, "ab"), has("ab"), true}, {str(StringExact, "ab"), has("aB"), false}, {str(StringExact, "ab"), has("abc"), false},
		{fold(str(StringExact, "Ab")), has("aB"), true},
		{str(StringPrefix, "a"), has("ab"), true}, {fold(str(StringPrefix, "A")), has("ab"), true}, {str(StringPrefix, "ab"), has("a"), false},
		{str(StringSuffix, "b"), has("ab"), true}, {fold(str(StringSuffix, "B")), has("ab"), true}, {str(StringSuffix, "ab"), has("b"), false},
		{str(StringContains, "b"), has("abc"), true}, {fold(str(StringContains, "BC")), has("abc"), true}, {fold(str(StringContains, "x")), has("abc"), false},
		{fold(str(StringContains, "")), has(""), true},
		{regex, has("axb"), true}, {regex, has("axbc"), false},

		{not(str(StringExact, "a")), has("b"), true}, {not(str(StringExact, "a")), has("a"), false},
		{not(str(StringExact, "a")), missing, false}, // missing matches nothing, inverted or not
		{orEmpty(not(str(StringExact, "a"))), missing, true},
		{orEmpty(str(StringExact, "")), missing, true}, {str(StringExact, ""), missing, false}, {orEmpty(regex), missing, true},

		{inRange, has("-5"), true}, {inRange, has("9"), true}, {inRange, has("10"), false}, {inRange, has("-6"), false},
		{inRange, has(" +7 "), true}, {inRange, has("7x"), false}, {inRange, has(""), false}, {not(inRange), has("x"), true},
		{inRange, missing, false}, {not(inRange), missing, false}, {orEmpty(not(inRange)), missing, true},

		// One of the values is enough, and inverted already too much.
		{str(StringExact, "a,b"), has("a", "b"), false}, {str(StringExact, "a"), has("b", "a"), true}, {str(StringExact, ""), has("a", "", "c"), true},
		{str(StringExact, "a,b"), has("a,b", "c"), true}, {not(str(StringExact, "a")), has("b", "a"), false}, {not(str(StringExact, "a")), has("b", "c"), true},
		{regex, has("x", "ab"), true}, {regex, has("x", "y"), false}, {inRange, has("99", "2"), true}, {inRange, has("99", "x"), false},
		{named("via", str(StringExact, "a,b")), []string{"via", "a", "via", "b"}, true}, {named("via", str(StringExact, "a")), []string{"via", "a", "via", "b"}, false},
		{named("via", regex), []string{"via", "a", "via", "b"}, true}, {named("via", regex), []string{"via", "ab", "via", "b"}, false},
		{named("cookie", str(StringExact, "a=1; b=2")), []string{"cookie", "a=1", "cookie", "b=2"}, true},

		{named(":method", str(StringExact, "POST")), missing, true},
		{named(":path", str(StringExact, "/?q=1")), missing, true},
		{named(":authority", str(StringExact, "example.com")), missing, true},
		{named("Host", str(StringExact, "example.com")), missing, true},
		{named(":scheme", str(StringExact, "https")), []string{":scheme", "https"}, true},
		{named(":scheme", present), missing, false},
	}
	for _, tt := range tests {
		tbl := build(t, Match{Headers: []HeaderMatch{tt.match}})
		if got := went(tbl.Direct(post("/?q=1", tt.headers...))) == "0"; got != tt.want {
			t.Errorf("%s %s (missing as empty: %v) with %q: got %v", tt.match.Name, tt.match.describe(), tt.match.MissingAsEmpty, tt.headers, got)
		}
	}
}

func TestQueryMatch(t *testing.T) {
	exact := func(v string) QueryMatch {
		return QueryMatch{Name: "q", Kind: QueryString, String: StringMatch{Value: v}}
	}
	tests := []struct {
		match QueryMatch
		path  string
		want  bool
	}{
		{QueryMatch{Name: "q"}, "/?q", true}, {QueryMatch{Name: "q"}, "/?a&q=&b", true}, {QueryMatch{Name: "q"}, "/?qq=1", false},
		{QueryMatch{Name: "q"}, "/q=1", false}, {QueryMatch{Name: "q", Absent: true}, "/?a", true}, {QueryMatch{Name: "q", Absent: true}, "/?q", false},
		{exact("1"), "/?a=2&q=1", true}, {exact("1"), "/?q=2&q=1", false}, {exact("1"), "/", false}, {exact(""), "/?q", true},
		{exact("1=2"), "/?q=1=2", true}, {exact("a b"), "/?q=a%20b", false}, {exact("?"), "/?q=?", true},
	}
	for _, tt := range tests {
		tbl := build(t, Match{Query: []QueryMatch{tt.match}})
		if got := went(tbl.Direct(post(tt.path))) == "0"; got != tt.want {
			t.Errorf("%+v with %q: got %v", tt.match, tt.path, got)
		}
	}
}

// TestFraction checks the share, that runtime overrides it per request, and
// that the draw is the same for every route of a request.
func TestFraction(t *testing.T) {
	runtime := map[string][2]uint32{}
	lookup := func(key string) (num, den uint32, ok bool) {
		v, ok := runtime[key]
		return v[0], v[1], ok
	}
	tbl := build(t,
		Match{Fraction: &Fraction{Numerator: 25, Denominator: 100, Key: "first", Lookup: lookup}},
		Match{Fraction: &Fraction{Numerator: 50, Denominator: 100}},
		Match{})
	count := func() (n [3]int) {
		g := newGen(1)
		for range 10_000 {
			c := post("/")
			c.Rand = g.Uint64()
			i, _ := strconv.Atoi(went(tbl.Direct(c)))
			n[i]++
		}
		return n
	}
	about := func(got [3]int, want ...int) {
		t.Helper()
		for i := range want {
			if d := got[i] - want[i]; d < -200 || d > 200 {
				t.Errorf("got %v, want about %v", got, want)
				return
			}
		}
	}
	about(count(), 2500, 2500, 5000) // the second takes draws from 25 to 50
	runtime["first"] = [2]uint32{5, 1000}
	about(count(), 50, 5000, 4950) // independent of the second: another denominator
	runtime["first"] = [2]uint32{1, 0}
	about(count(), 2500, 2500, 5000) // nonsense: the default holds
	runtime["first"] = [2]uint32{200, 100}
	about(count(), 10_000, 0, 0)
}

func TestParseIntLikeStrconv(t *testing.T) {
	for _, s := range []string{
		"", "0", "-0", "+1", "-", "+", "1-", "00012", "12a", "1_0", "0x1", "９", "--1",
		fmt.Sprint(math.MaxInt64), fmt.Sprint(math.MinInt64), "9223372036854775808", "-9223372036854775809", "99999999999999999999", "10000000000000000000000",
	} {
		want, err := strconv.ParseInt(s, 10, 64)
		got, ok := parseInt(s)
		if ok != (err == nil) || ok && got != want {
			t.Errorf("%q: got %d, %v; want %d, %v", s, got, ok, want, err)
		}
	}
}

func TestRegexErrors(t *testing.T) {
	for _, expr := range []string{`(`, `a)(b`, `[`, `(?=a)`} {
		if _, err := CompileRegex(expr); err == nil {
			t.Errorf("%s compiles", expr)
		}
	}
}

// What RE2 makes of these in Envoy, which reads expressions and values as bytes.
func TestRegexLikeEnvoy(t *testing.T) {
	for expr, want := range map[string]map[string]bool{
		`/.`:         {"/a": true, "/\xe9": true, "/é": false},
		`/..`:        {"/é": true, "/☺": false},
		`/é`:         {"/é": true, "/\xe9": false},
		`/\x{e9}`:    {"/é": false, "/\xe9": true},
		`/[é]`:       {"/é": false, "/\xc3": true, "/\xa9": true},
		`(?i)/É`:     {"/É": true, "/é": false},
		`(?i)/\xc9`:  {"/\xc9": true, "/\xe9": true},
		`/\pL+`:      {"/a\xe9": true, "/é": false},
		`/\W\W`:      {"/é": true},
		`\Q/a.b`:     {"/a.b": true, "/aab": false, "/a.b)": false},
		`/a\Q(`:      {"/a(": true},
		`/\Q\`:       {`/\`: true, `/`: false},
		`/(?:a|\Qb|`: {},
	} {
		re, err := CompileRegex(expr)
		if err != nil {
			if len(want) > 0 {
				t.Errorf("%s: %v", expr, err)
			}
			continue
		}
		for s, want := range want {
			if got := re.Match(s); got != want {
				t.Errorf("%s on %q: got %v, want %v", expr, s, got, want)
			}
			// The index must not lose it.
			if got := went(build(t, Match{Path: PathMatch{Kind: PathRegex, Regex: re}}).Direct(&call.Call{Path: s, Host: "a"})) == "0"; got != want {
				t.Errorf("%s on %q: the table says %v, want %v", expr, s, got, want)
			}
		}
	}
}

func TestNoHeaders(t *testing.T) {
	tbl := build(t, Match{Headers: []HeaderMatch{{Name: "x-a", Absent: true}}})
	if got := went(tbl.Direct(&call.Call{Path: "/", Host: "a"})); got != "0" {
		t.Errorf("a call without a header block: got %s", got)
	}
}

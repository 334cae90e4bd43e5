package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// gen makes random tables and requests out of few words, so that nearly
// everything overlaps with something.
type gen struct{ *rand.Rand }

func newGen(seed uint64) gen { return gen{rand.New(rand.NewPCG(seed, 0x5eed))} }

func (g gen) of(words ...string) string { return words[g.IntN(len(words))] }
func (g gen) maybe(percent int) bool    { return g.IntN(100) < percent }

func (g gen) path() string {
	var b strings.Builder
	for range g.IntN(4) {
		b.WriteString(g.of("/", "/", "/", "a", "b", "A", "ab", "aB", "abc", ".", ";", "é", "\xff", "k", "K", "s", "\u212a", "ſ"))
	}
	if g.maybe(80) {
		return "/" + b.String()
	}
	return b.String()
}

var regexes = compileAll(`/a.*`, `/(a|b)/.*`, `(?i)/AB.*`, `.*b`, `/a+`, `/a/[ab]+`, ``, `/a|/b`, `/a|b`, `/ab|/abc`,
	`.*/a`, `.+ab.*`, `/.*/(a|b)`, `.*(ab|a).*`, `(?i).*/ab`, `(?i)[^/]*k.*`, `(?i).*s`, `(a|b)*/ab.*`, `.*[ab]/.*`,
	`/\x{fffd}`, `/(?:ab)+/?`, `/a{2,3}`, `^/a$`, `/a\.*`, `[^/]*`, `a`, `ab?`, `(?m)^a$`, `\d+`, `/é*`)

func compileAll(exprs ...string) (all []*Regex) {
	for _, expr := range exprs {
		re, err := CompileRegex(expr)
		if err != nil {
			panic(err)
		}
		all = append(all, re)
	}
	return all
}

// regex makes an expression of the same few words.
func (g gen) regex(depth int) string {
	if depth == 0 || g.maybe(30) {
		return g.of("/", "a", "b", "ab", "/a", "k", "S", ".", ".*", "[ab]", "[^/]*", "é", "", `\b`, "^")
	}
	sub := g.regex(depth - 1)
	switch g.IntN(7) {
	case 0:
		return "(" + sub + "|" + g.regex(depth-1) + ")"
	case 1:
		return "(?:" + sub + ")" + g.of("*", "+", "?", "{2}", "{0,2}")
	case 2:
		return "(?i:" + sub + ")"
	}
	return sub + g.regex(depth-1)
}

// randomRegexes are made once: compiling them is slow.
var randomRegexes = func() []*Regex {
	g, exprs := newGen(1), make([]string, 400)
	for i := range exprs {
		exprs[i] = g.of("/", "", ".*", "(?i)") + g.regex(4)
	}
	return compileAll(exprs...)
}()

func (g gen) pathMatch() PathMatch {
	p := PathMatch{Kind: PathKind(g.IntN(4)), Value: g.path(), IgnoreCase: g.maybe(20)}
	if g.maybe(3) {
		p.Kind = PathConnect
	}
	if p.Kind == PathSeparatedPrefix && p.Value == "" {
		p.Value = "/a"
	}
	if p.Kind == PathRegex {
		p.Regex = g.someRegex()
	}
	return p
}

func (g gen) someRegex() *Regex {
	if g.maybe(50) {
		return regexes[g.IntN(len(regexes))]
	}
	return randomRegexes[g.IntN(len(randomRegexes))]
}

func (g gen) value() string {
	return g.of("", "a", "A", "ab", "b", "a,b", "1", "5", "10", "-3", "x1", "9")
}

func (g gen) stringMatch() StringMatch {
	m := StringMatch{Kind: StringKind(g.IntN(5)), Value: g.value(), IgnoreCase: g.maybe(30)}
	if m.Kind == StringRegex {
		m.Regex = regexes[g.IntN(len(regexes))]
	}
	return m
}

func (g gen) headerName() string {
	return g.of("x-a", "x-a", "x-b", "X-B", "x-c", "cookie", "via", "host", ":authority", ":method", ":path", ":scheme")
}

func (g gen) match() Match {
	m := Match{Path: g.pathMatch(), GRPC: g.maybe(10)}
	for g.maybe(30) {
		m.Headers = append(m.Headers, HeaderMatch{
			Name: g.headerName(), Kind: HeaderKind(g.IntN(3)), String: g.stringMatch(),
			Start: int64(g.IntN(8) - 4), End: int64(g.IntN(12)),
			Absent: g.maybe(30), Invert: g.maybe(30), MissingAsEmpty: g.maybe(30),
		})
	}
	for g.maybe(15) {
		m.Query = append(m.Query, QueryMatch{
			Name: g.of("p", "q", "r"), Kind: QueryKind(g.IntN(2)), String: g.stringMatch(), Absent: g.maybe(30),
		})
	}
	if g.maybe(10) {
		m.Fraction = &Fraction{Numerator: uint32(g.IntN(101)), Denominator: 100}
	}
	return m
}

// exactMatch is a match by one of few paths and exact values, so that long
// lists of candidates are split. Of names there are many or few.
func (g gen) exactMatch(paths []PathMatch, names int) Match {
	m := Match{Path: paths[g.IntN(len(paths))]}
	name := func(prefix string) string { return prefix + strconv.Itoa(g.IntN(names)) }
	exact := func() StringMatch {
		s := g.stringMatch()
		s.Value = g.of(s.Value, "a", "A", "a,b")
		if g.maybe(90) {
			s.Kind, s.IgnoreCase = StringExact, g.maybe(20)
		}
		return s
	}
	for g.maybe(65) {
		m.Headers = append(m.Headers, HeaderMatch{
			Name: g.of(name("h"), name("h"), name("h"), g.headerName()), Kind: HeaderString, String: exact(),
			Invert: g.maybe(5), MissingAsEmpty: g.maybe(10),
		})
	}
	if g.maybe(25) {
		value := exact()
		value.Value = g.of("POST", "GET", "CONNECT", "a")
		m.Headers = append(m.Headers, HeaderMatch{Name: ":method", Kind: HeaderString, String: value})
	}
	for g.maybe(30) {
		m.Query = append(m.Query, QueryMatch{Name: g.of(name("p"), "p", "q"), Kind: QueryString, String: exact()})
	}
	if g.maybe(10) {
		m.Fraction = &Fraction{Numerator: uint32(g.IntN(101)), Denominator: 100}
	}
	return m
}

// routes makes the routes of a virtual host: of any kind, of few paths told
// apart by exact values, or by regex.
func (g gen) routes() (all []Match) {
	n := g.IntN(1 + g.IntN(60))
	switch style := g.IntN(4); style {
	case 0, 1:
		paths := []PathMatch{{Value: "/"}, {Value: "/"}, g.pathMatch(), g.pathMatch()}[g.IntN(3):]
		names := 1 + g.IntN(20)*style
		for range 2 * n {
			all = append(all, g.exactMatch(paths, names))
		}
	case 2:
		for range n {
			m := g.match()
			m.Path = PathMatch{Kind: PathRegex, Regex: g.someRegex()}
			all = append(all, m)
		}
	default:
		for range n {
			all = append(all, g.match())
		}
	}
	return all
}

func (g gen) table() *naiveTable {
	t := &naiveTable{ignorePort: g.maybe(30), ignoreParameters: g.maybe(20)}
	domains := []string{"*", "a.com", "B.a.com", "a.com:80", "*.com", "*.a.com", "*-b.a.com", "*a.com", "*b.*",
		"a.*", "a.b.*", "a*", "[::1]", "[::1]:80", "x.org", "*:80"}
	g.Shuffle(len(domains), func(i, j int) { domains[i], domains[j] = domains[j], domains[i] })
	if g.maybe(50) {
		domains = []string{"*"}
	}
	for len(domains) > 0 && len(t.vhosts) < 1+g.IntN(5) {
		n := 1 + g.IntN(min(4, len(domains)))
		t.vhosts = append(t.vhosts, naiveVHost{domains: domains[:n], routes: g.routes()})
		domains = domains[n:]
	}
	return t
}

func (g gen) call() *call.Call {
	c := &call.Call{
		Host:   g.of("a.com", "a.com", "A.COM", "b.a.com", "x.a.com", "x-b.a.com", "-b.a.com", ".a.com", "a.org", "a.", "a.b.c", "a.com:80", "a.com:8080", "xb.", "[::1]:80", "[::1]", "x.org:", ":80", ""),
		Method: g.of("POST", "POST", "GET", "CONNECT"),
		Path:   g.path(),
		GRPC:   g.maybe(60),
		Rand:   g.Uint64(),
	}
	if g.maybe(20) {
		c.Path += "?p0=" + g.of("a", "A", "a,b", "")
	}
	for g.maybe(30) {
		c.Path += g.of("?", "&", "#", ";") + g.of("p", "q", "r", "pp", "", "p0", "p0", "p0", "p1", "p2") + g.of("=", "=", "") + g.of(g.value(), "a", "A")
	}
	if c.Method == "CONNECT" && g.maybe(70) {
		c.Path = ""
	}
	var b hpack.Block
	b.Fields = append(b.Fields, hpack.NewField(":method", c.Method), hpack.NewField(":scheme", g.of("http", "https")))
	for g.maybe(70) {
		b.Fields = append(b.Fields, hpack.NewField(g.of("x-a", "x-a", "x-b", "cookie", "x-d", "h0", "h0", "h1", fmt.Sprint("h", g.IntN(20))), g.value()))
	}
	if g.maybe(20) { // in two fields
		b.Fields = append(b.Fields, hpack.NewField("h0", g.of("a", "A")), hpack.NewField("h0", g.of("b", "")))
	}
	c.Headers = &b
	return c
}

// compile makes the Table. Every route has its own cluster, named by where it
// stands.
func (t *naiveTable) compile() (*Table, error) {
	b := NewBuilder("random")
	b.IgnorePort, b.IgnorePathParameters = t.ignorePort, t.ignoreParameters
	for i, vh := range t.vhosts {
		v, _ := b.AddVirtualHost(fmt.Sprint("vhost", i), vh.domains)
		for j, m := range vh.routes {
			_ = v.Add(m, to(place(i, j)))
		}
	}
	return b.Build()
}

func place(vhost, route int) string { return fmt.Sprintf("%d.%d", vhost, route) }

// backends is a cluster that is nothing but a name.
type backends string

func (b *backends) Pick(*call.Call, int) (call.Host, error) { return nil, nil }
func (b *backends) Done(call.Host, *call.Outcome)           {}

// to is the action that sends everything to one cluster.
func to(cluster string) Action {
	b := backends(cluster)
	return Action{
		Name:     cluster,
		Clusters: []WeightedCluster{{Backends: &b, Route: &call.Route{Cluster: cluster}}},
	}
}

// went returns the cluster of a decision, or the detail of the reply.
func went(d call.Decision, err error) string {
	if r := (*call.Reply)(nil); errors.As(err, &r) {
		return r.Detail
	}
	if d.Reply != nil {
		return d.Reply.Detail
	}
	return string(*d.Backends.(*backends))
}

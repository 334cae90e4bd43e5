package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
		b.WriteString(g.of("/", "/", "/", "a", "b", "A", "ab", "aB", "abc", ".", ";", "é", "\xff"))
	}
	if g.maybe(80) {
		return "/" + b.String()
	}
	return b.String()
}

var regexes = compileAll(`/a.*`, `/(a|b)/.*`, `(?i)/AB.*`, `.*b`, `/a+`, `/a/[ab]+`, ``, `/a|/b`, `/a|b`, `/ab|/abc`,
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

func (g gen) pathMatch() PathMatch {
	p := PathMatch{Kind: PathKind(g.IntN(4)), Value: g.path(), IgnoreCase: g.maybe(20)}
	if g.maybe(3) {
		p.Kind = PathConnect
	}
	if p.Kind == PathSeparatedPrefix && p.Value == "" {
		p.Value = "/a"
	}
	if p.Kind == PathRegex {
		p.Regex = regexes[g.IntN(len(regexes))]
	}
	return p
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
	return g.of("x-a", "x-a", "x-b", "X-B", "x-c", "cookie", "host", ":authority", ":method", ":path", ":scheme")
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
		vh := naiveVHost{domains: domains[:n]}
		domains = domains[n:]
		for range g.IntN(1 + g.IntN(60)) {
			vh.routes = append(vh.routes, g.match())
		}
		t.vhosts = append(t.vhosts, vh)
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
	for g.maybe(30) {
		c.Path += g.of("?", "&", "#", ";") + g.of("p", "q", "r", "pp", "") + g.of("=", "=", "") + g.value()
	}
	if c.Method == "CONNECT" && g.maybe(70) {
		c.Path = ""
	}
	var b hpack.Block
	b.Fields = append(b.Fields, hpack.NewField(":method", c.Method), hpack.NewField(":scheme", g.of("http", "https")))
	for g.maybe(70) {
		b.Fields = append(b.Fields, hpack.NewField(g.of("x-a", "x-a", "x-b", "cookie", "x-d"), g.value()))
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

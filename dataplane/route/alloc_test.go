package route

import (
	"slices"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// TestDirectDoesNotAllocate covers every kind of matcher and every outcome.
func TestDirectDoesNotAllocate(t *testing.T) {
	blue := to("blue").Clusters[0]
	byHeader := &ClusterHeader{Name: "x-cluster", Lookup: func(string) (call.BackendSet, *call.Route) { return blue.Backends, blue.Route }}
	b := NewBuilder("test")
	b.IgnorePort = true
	hosts := []string{"a.com", "*.a.com", "a.*", "*"}
	for _, host := range hosts {
		vh, _ := b.AddVirtualHost(host, []string{host})
		header := func(m StringMatch) []HeaderMatch { return []HeaderMatch{{Name: "x-a", Kind: HeaderString, String: m}} }
		for _, m := range []Match{
			{Path: PathMatch{Value: "/p"}, Headers: header(StringMatch{Kind: StringExact, Value: "no"})},
			{Path: PathMatch{Value: "/p"}, Headers: header(StringMatch{Kind: StringContains, Value: "NO", IgnoreCase: true})},
			{Path: PathMatch{Value: "/p"}, Headers: []HeaderMatch{{Name: "x-one", Kind: HeaderString, String: StringMatch{Kind: StringRegex, Regex: compileAll("n.*o")[0]}}}},
			{Path: PathMatch{Value: "/p"}, Headers: []HeaderMatch{{Name: "x-a", Kind: HeaderRange, End: 5}}},
			{Path: PathMatch{Value: "/p"}, Query: []QueryMatch{{Name: "q", Kind: QueryString, String: StringMatch{Value: "no"}}}},
			{Path: PathMatch{Value: "/p"}, Fraction: &Fraction{Denominator: 100}},
			{Path: PathMatch{Kind: PathRegex, Regex: compileAll("/p/(a|b)+/no")[0]}},
			{Path: PathMatch{Kind: PathSeparatedPrefix, Value: "/p/sep", IgnoreCase: true}},
			{Path: PathMatch{Kind: PathExact, Value: "/p/a"}},
		} {
			_ = vh.Add(m, to("x"))
		}
		_ = vh.Add(Match{Path: PathMatch{Kind: PathExact, Value: "/weighted"}}, Action{Clusters: []WeightedCluster{weighted("a", 1), weighted("b", 2)}})
		_ = vh.Add(Match{Path: PathMatch{Kind: PathExact, Value: "/header"}}, Action{ClusterHeader: byHeader})
		_ = vh.Add(Match{Path: PathMatch{Kind: PathExact, Value: "/reply"}}, Action{Reply: &call.Reply{}})
	}
	tbl, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"A.com:443", "x.a.com", "a.org", "other"} {
		for _, path := range []string{"/p/a?q=1", "/P/SEP/x", "/p/aab/nope", "/weighted", "/header", "/reply", "/none"} {
			c := post(path, "x-a", "some value", "x-b", "", "x-a", "another value", "x-one", "none", "x-cluster", "blue")
			c.Host = host
			if n := testing.AllocsPerRun(100, func() { _, _ = tbl.Direct(c) }); n != 0 {
				t.Errorf("%s%s: %v allocations", host, path, n)
			}
		}
	}
}

// TestTryNoMoreThanCandidates holds the index to its purpose: in a table of
// many routes only those that the path, a header or a parameter points to are
// tried. Finding them does not allocate.
func TestTryNoMoreThanCandidates(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 1_000
	}
	for _, shape := range shapes {
		tbl := shapeTable(t, n, shape.route)
		for _, i := range []int{0, n / 2, n - 1} {
			c := grpcCall(shape.path(i))
			if shape.call != nil {
				shape.call(c, i)
			}
			x := tbl.Explain(c)
			if tries := tries(tbl, c); x.Winner < 0 || tries > 5 {
				t.Errorf("%s: %d routes tried, winner %d", shape.name, tries, x.Winner)
			}
			if n := testing.AllocsPerRun(10, func() { _, _ = tbl.Direct(c) }); n != 0 && !raceEnabled {
				t.Errorf("%s: %v allocations", shape.name, n)
			}
		}
	}
}

// tries returns how many routes a match may have to look at.
func tries(tbl *Table, c *call.Call) (n int) {
	v := tbl.hosts.find(c.Host, false).vhost
	cu := v.index.candidates(&request{call: c, path: cutPath(c.Path, false)})
	for list := cu.next(noOrder); list != nil; list = cu.next(noOrder) {
		n += leaves(list, v.index.split(list), c)
	}
	return n
}

func leaves(orders []uint32, s *split, c *call.Call) int {
	if s == nil {
		return len(orders)
	}
	n := len(s.rest)
	keys := slices.Clone(s.keys)
	for _, k := range s.many {
		keys = append(keys, k)
	}
	for i := range keys {
		if b, ok := keys[i].find(c); ok {
			n += leaves(b.orders, b.split, c)
		}
	}
	return n
}

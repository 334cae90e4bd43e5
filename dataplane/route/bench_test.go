package route

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// shapes are the tables people have: each makes route i of n and a request
// that takes it.
var shapes = []struct {
	name  string
	route func(i int) Match
	path  func(i int) string
	call  func(c *call.Call, i int) // nil: the path is all
}{
	{"methods", // one exact path per gRPC method
		func(i int) Match { return Match{Path: PathMatch{Kind: PathExact, Value: method(i)}} },
		method, nil},
	{"services", // one prefix per gRPC service
		func(i int) Match { return Match{Path: PathMatch{Value: service(i)}} },
		method, nil},
	{"separated",
		func(i int) Match {
			return Match{Path: PathMatch{Kind: PathSeparatedPrefix, Value: fmt.Sprintf("/api/v%d/team%d/thing%d", i%3, i%100, i)}}
		},
		func(i int) string { return fmt.Sprintf("/api/v%d/team%d/thing%d/x", i%3, i%100, i) }, nil},
	{"regexes",
		func(i int) Match {
			return byRegex(`/acme\.team%d\.v1\.Service%d/.*`, i%100, i)
		},
		method, nil},
	{"suffixes", // a method of any service, as Gateway API's GRPCRoute asks for it
		func(i int) Match {
			return byRegex(`/(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*/GetThing%d`, i)
		},
		func(i int) string { return fmt.Sprintf("/acme.v1.Things/GetThing%d", i) }, nil},
	{"inside", // a service of any package
		func(i int) Match { return byRegex(`.*\.Service%d/.*`, i) },
		method, nil},
	{"alternatives",
		func(i int) Match { return byRegex(`/acme\..*\.(Read|Write)Service%d/(Get|Put|List).*`, i) },
		func(i int) string { return fmt.Sprintf("/acme.team.v1.WriteService%d/PutThing", i) }, nil},
	{"headers", // five routes a method, told apart by a header; the last one takes it
		func(i int) Match {
			m := Match{Path: PathMatch{Kind: PathExact, Value: method(i / 5)}, GRPC: true}
			if i%5 < 4 {
				m.Headers = []HeaderMatch{{Name: "x-version", Kind: HeaderString, String: StringMatch{Value: fmt.Sprint("v", i%5)}}}
			}
			return m
		},
		func(i int) string { return method(i / 5) }, nil},
	{"tenants", // one prefix, and a header with as many values as there are routes
		func(i int) Match {
			return Match{Path: PathMatch{Value: "/"}, Headers: []HeaderMatch{is("x-tenant", i)}}
		},
		func(int) string { return method(1) },
		func(c *call.Call, i int) { set(c, "x-tenant", i) }},
	{"grid", // :method and two headers of which each alone says little
		func(i int) Match {
			post := HeaderMatch{Name: ":method", Kind: HeaderString, String: StringMatch{Value: "POST"}}
			return Match{Path: PathMatch{Value: "/"}, Headers: []HeaderMatch{post, is("x-tenant", i/100), is("x-shard", i%100)}}
		},
		func(int) string { return method(1) },
		func(c *call.Call, i int) { set(c, "x-tenant", i/100); set(c, "x-shard", i%100) }},
	{"names", // every route has a header of its own
		func(i int) Match {
			return Match{Path: PathMatch{Value: "/"}, Headers: []HeaderMatch{is(fmt.Sprint("x-", i), 1)}}
		},
		func(int) string { return method(1) },
		func(c *call.Call, i int) {
			c.Headers.Fields[len(c.Headers.Fields)-1] = hpack.NewField(fmt.Sprint("x-", i), "1")
		}},
	{"parameters",
		func(i int) Match {
			q := QueryMatch{Name: "tenant", Kind: QueryString, String: StringMatch{Value: fmt.Sprint(i)}}
			return Match{Path: PathMatch{Value: "/"}, Query: []QueryMatch{q}}
		},
		func(i int) string { return fmt.Sprintf("%s?v=1&tenant=%d", method(1), i) }, nil},
}

// linear is what the index cannot help with: no matcher is exact, no text of
// a regex tells it from the others.
var linear = []struct {
	name  string
	route func(i int) Match
}{
	{"header prefixes", func(i int) Match {
		m := StringMatch{Kind: StringPrefix, Value: fmt.Sprint("tenant-", i, "-")}
		return Match{Path: PathMatch{Value: "/"}, Headers: []HeaderMatch{{Name: "x-tenant", Kind: HeaderString, String: m}}}
	}},
	{"regexes without text", func(i int) Match { return byRegex(`/[a-z.]+[0-9]{%d,}/[a-z]+`, 5+i%500) }},
}

func byRegex(format string, args ...any) Match {
	re, err := CompileRegex(fmt.Sprintf(format, args...))
	if err != nil {
		panic(err)
	}
	return Match{Path: PathMatch{Kind: PathRegex, Regex: re}}
}

func is(name string, value int) HeaderMatch {
	return HeaderMatch{Name: name, Kind: HeaderString, String: StringMatch{Value: fmt.Sprint(value)}}
}

// set gives a request a header that grpcCall left room for.
func set(c *call.Call, name string, value int) {
	for i := range c.Headers.Fields {
		if c.Headers.Fields[i].Name == name {
			c.Headers.Fields[i] = hpack.NewField(name, fmt.Sprint(value))
		}
	}
}

func service(i int) string { return fmt.Sprintf("/acme.team%d.v1.Service%d/", i%100, i) }
func method(i int) string  { return service(i) + "GetThing" }

func grpcCall(path string) *call.Call {
	return &call.Call{
		Host: "api.example.com", Method: "POST", Path: path, GRPC: true, Rand: 0x0123456789abcdef,
		Headers: &hpack.Block{Fields: []hpack.Field{
			hpack.NewField(":method", "POST"), hpack.NewField(":scheme", "https"), hpack.NewField(":path", path),
			hpack.NewField(":authority", "api.example.com"), hpack.NewField("content-type", "application/grpc"),
			hpack.NewField("user-agent", "grpc-go/1.85.0"), hpack.NewField("te", "trailers"),
			hpack.NewField("grpc-timeout", "1S"), hpack.NewField("x-version", "v9"),
			hpack.NewField("x-tenant", "?"), hpack.NewField("x-shard", "?"), hpack.NewField("x-last", "?"),
		}},
	}
}

func shapeTable(tb testing.TB, n int, route func(i int) Match) *Table {
	b := NewBuilder("bench")
	vh, err := b.AddVirtualHost("all", []string{"*.example.com", "example.com", "*"})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		if err := vh.Add(route(i), to("c")); err != nil {
			tb.Fatal(err)
		}
	}
	tbl, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return tbl
}

// BenchmarkDirect measures tables of 100 to 100,000 routes. "last" always asks
// for the last route: what the search itself costs. "spread" asks for 64
// routes all over the table in turn, as the connections of one worker do;
// "any" for one of 4,096 random ones: what the caches do to a table of that size.
func BenchmarkDirect(b *testing.B) {
	for _, shape := range shapes {
		for _, n := range []int{100, 1_000, 10_000, 100_000} {
			var tbl *Table
			for _, access := range []string{"last", "spread", "any"} {
				b.Run(fmt.Sprintf("%s/%d/%s", shape.name, n, access), func(b *testing.B) {
					if tbl == nil {
						tbl = shapeTable(b, n, shape.route)
					}
					var calls []*call.Call
					for _, i := range benchRoutes(access, n) {
						c := grpcCall(shape.path(i))
						if shape.call != nil {
							shape.call(c, i)
						}
						calls = append(calls, c)
					}
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						if _, err := tbl.Direct(calls[i%len(calls)]); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func benchRoutes(access string, n int) (routes []int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	switch access {
	case "last":
		return []int{n - 1}
	case "spread":
		for i := range 64 {
			routes = append(routes, (n-1)*i/63)
		}
		return routes
	}
	for range 1 << 12 {
		routes = append(routes, rnd.IntN(n))
	}
	return routes
}

// BenchmarkDirectLinear measures what remains linear; no route matches.
func BenchmarkDirectLinear(b *testing.B) {
	for _, shape := range linear {
		for _, n := range []int{100, 1_000, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				tbl := shapeTable(b, n, shape.route)
				c := grpcCall(method(1))
				for b.Loop() {
					if _, err := tbl.Direct(c); err == nil {
						b.Fatal("a route matches")
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/route")
			})
		}
	}
}

// BenchmarkBuild measures the making of a table, without compiling regexes.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		for _, shape := range shapes {
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				matches := make([]Match, n)
				for i := range matches {
					matches[i] = shape.route(i)
				}
				action := to("c")
				b.ReportAllocs()
				for b.Loop() {
					bl := NewBuilder("bench")
					vh, _ := bl.AddVirtualHost("all", []string{"*"})
					for i := range matches {
						if err := vh.Add(matches[i], action); err != nil {
							b.Fatal(err)
						}
					}
					if _, err := bl.Build(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/route")
			})
		}
	}
}

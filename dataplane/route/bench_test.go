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
}{
	{"methods", // one exact path per gRPC method
		func(i int) Match { return Match{Path: PathMatch{Kind: PathExact, Value: method(i)}} },
		method},
	{"services", // one prefix per gRPC service
		func(i int) Match { return Match{Path: PathMatch{Value: service(i)}} },
		method},
	{"separated",
		func(i int) Match {
			return Match{Path: PathMatch{Kind: PathSeparatedPrefix, Value: fmt.Sprintf("/api/v%d/team%d/thing%d", i%3, i%100, i)}}
		},
		func(i int) string { return fmt.Sprintf("/api/v%d/team%d/thing%d/x", i%3, i%100, i) }},
	{"regexes",
		func(i int) Match {
			re, err := CompileRegex(fmt.Sprintf(`/acme\.team%d\.v1\.Service%d/.*`, i%100, i))
			if err != nil {
				panic(err)
			}
			return Match{Path: PathMatch{Kind: PathRegex, Regex: re}}
		},
		method},
	{"headers", // five routes a method, told apart by a header; the last one takes it
		func(i int) Match {
			m := Match{Path: PathMatch{Kind: PathExact, Value: method(i / 5)}, GRPC: true}
			if i%5 < 4 {
				m.Headers = []HeaderMatch{{Name: "x-version", Kind: HeaderString, String: StringMatch{Value: fmt.Sprint("v", i%5)}}}
			}
			return m
		},
		func(i int) string { return method(i / 5) }},
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
// "any" for a random one each time: what the caches do to a table of that size.
func BenchmarkDirect(b *testing.B) {
	for _, shape := range shapes {
		for _, n := range []int{100, 1_000, 100_000} {
			if shape.name == "regexes" && n > 1_000 && testing.Short() {
				continue
			}
			var tbl *Table
			for _, access := range []string{"last", "spread", "any"} {
				b.Run(fmt.Sprintf("%s/%d/%s", shape.name, n, access), func(b *testing.B) {
					if tbl == nil {
						tbl = shapeTable(b, n, shape.route)
					}
					paths := benchPaths(access, n, shape.path)
					c := grpcCall("")
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						c.Path = paths[i%len(paths)]
						if _, err := tbl.Direct(c); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func benchPaths(access string, n int, path func(i int) string) (paths []string) {
	rnd := rand.New(rand.NewPCG(1, 2))
	switch access {
	case "last":
		return []string{path(n - 1)}
	case "spread":
		for i := range 64 {
			paths = append(paths, path((n-1)*i/63))
		}
		return paths
	}
	for range 1 << 14 {
		paths = append(paths, path(rnd.IntN(n)))
	}
	return paths
}

// BenchmarkDirectOneBucket is the worst that a table can do: all routes have
// the same prefix and differ by a header; the last one matches.
func BenchmarkDirectOneBucket(b *testing.B) {
	for _, n := range []int{100, 1_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tbl := shapeTable(b, n, func(i int) Match {
				m := Match{Path: PathMatch{Value: "/"}}
				if i < n-1 {
					m.Headers = []HeaderMatch{{Name: "x-version", Kind: HeaderString, String: StringMatch{Value: fmt.Sprint("v1.", i)}}}
				}
				return m
			})
			c := grpcCall(method(1))
			for b.Loop() {
				if _, err := tbl.Direct(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBuild measures the making of a table, without compiling regexes.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		for _, shape := range shapes[:2] {
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

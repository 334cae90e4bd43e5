package route

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

var oneSeed = flag.Uint64("route.seed", 0, "run only this seed of TestDirectLikeLinearScan")

// TestDirectLikeLinearScan holds Direct, and Explain with it, to the linear
// matcher of naive_test.go over random tables and requests. A failure is
// shrunk to the routes that matter and names its seed.
func TestDirectLikeLinearScan(t *testing.T) {
	from, to := uint64(1), uint64(4000)
	if testing.Short() {
		to = 500
	}
	if *oneSeed != 0 {
		from, to = *oneSeed, *oneSeed
	}
	routed := 0
	for seed := from; seed <= to; seed++ {
		g := newGen(seed)
		table := g.table()
		tbl, err := table.compile()
		if err != nil {
			t.Fatalf("-route.seed=%d: %v\n%s", seed, err, table)
		}
		for range 25 {
			c := g.call()
			if _, route := table.direct(c); route >= 0 {
				routed++
			}
			if diff(tbl, table, c) == "" {
				continue
			}
			tbl = shrink(table, c)
			t.Fatalf("-route.seed=%d: %s\nrequest: %s\n%s", seed, diff(tbl, table, c), show(c), table)
		}
	}
	if all := int(to-from+1) * 25; *oneSeed == 0 && (routed < all/4 || routed > all*9/10) {
		t.Errorf("%d of %d requests found a route: the generator tests little", routed, all)
	}
}

// FuzzDirect is the same with a request of the fuzzer's.
func FuzzDirect(f *testing.F) {
	f.Add(uint64(1), "/a/b?p=1", "a.com", "POST", "a")
	f.Add(uint64(2), "/AB", "x-b.a.com:80", "GET", "10")
	f.Add(uint64(3), "", "[::1]:80", "CONNECT", "")
	f.Fuzz(func(t *testing.T, seed uint64, path, host, method, value string) {
		g := newGen(seed)
		table := g.table()
		c := g.call()
		for i := range c.Headers.Fields {
			if c.Headers.Fields[i].Name == "x-a" {
				c.Headers.Fields[i].Value = value
			}
		}
		c.Path, c.Host, c.Method = path, host, method
		tbl, err := table.compile()
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(tbl, table, c); d != "" {
			t.Fatalf("%s\nrequest: %s\n%s", d, show(c), table)
		}
	})
}

// TestManyInnerLiterals sends a path that has more texts of regexes than the
// cursor remembers, and then each many times.
func TestManyInnerLiterals(t *testing.T) {
	table := &naiveTable{vhosts: []naiveVHost{{domains: []string{"*"}}}}
	for i := range 60 {
		table.vhosts[0].routes = append(table.vhosts[0].routes,
			Match{Path: PathMatch{Kind: PathRegex, Regex: compileAll(fmt.Sprintf("(?:.*x%02d)+/%d", i, i%7))[0]}})
	}
	tbl, err := table.compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, last := range []string{"x03/3", "x59/3", "x17/3", "x17/4"} {
		for _, texts := range []int{1, 3, 15, 16, 17, 60} {
			path := "/"
			for i := range 200 {
				path += fmt.Sprintf("x%02d", i%texts)
			}
			c := post(path + last)
			if d := diff(tbl, table, c); d != "" {
				t.Errorf("%d texts, %s: %s", texts, last, d)
			}
			if n := testing.AllocsPerRun(10, func() { _, _ = tbl.Direct(c) }); n != 0 && !raceEnabled {
				t.Errorf("%d texts, %s: %v allocations", texts, last, n)
			}
		}
	}
}

// diff compares the two routers; empty if they agree.
func diff(tbl *Table, table *naiveTable, c *call.Call) string {
	vhost, route := table.direct(c)
	want := "route_not_found"
	if route >= 0 {
		want = place(vhost, route)
	}
	got := went(tbl.Direct(c))
	if got != want {
		return fmt.Sprintf("got %s, a linear scan finds %s", got, want)
	}
	x := tbl.Explain(c)
	if explained := went(x.Decision, x.Err); explained != got || x.Winner != route {
		return fmt.Sprintf("Direct gives %s, Explain %s:\n%s", got, explained, x)
	}
	if route >= 0 && len(x.Tried)+x.Skipped != route+1 {
		return fmt.Sprintf("Explain accounts for %d+%d of %d routes:\n%s", len(x.Tried), x.Skipped, route+1, x)
	}
	return ""
}

// shrink removes routes and their conditions while the routers disagree.
func shrink(table *naiveTable, c *call.Call) *Table {
	agree := func() bool {
		tbl, err := table.compile()
		return err != nil || diff(tbl, table, c) == ""
	}
	for i := range table.vhosts {
		vh := &table.vhosts[i]
		for j := len(vh.routes) - 1; j >= 0; j-- {
			was := vh.routes
			vh.routes = slices.Delete(slices.Clone(was), j, j+1)
			if agree() {
				vh.routes = was
			}
		}
		for j := range vh.routes {
			was := vh.routes[j]
			vh.routes[j] = Match{Path: was.Path}
			if agree() {
				vh.routes[j] = was
			}
		}
	}
	tbl, _ := table.compile()
	return tbl
}

func show(c *call.Call) string {
	s := fmt.Sprintf("%s host %q path %q grpc %v rand %#x", c.Method, c.Host, c.Path, c.GRPC, c.Rand)
	for _, f := range c.Headers.Fields {
		s += fmt.Sprintf(" %s=%q", f.Name, f.Value)
	}
	return s
}

// String shows a table for a failed test.
func (t *naiveTable) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ignorePort %v ignoreParameters %v\n", t.ignorePort, t.ignoreParameters)
	for _, vh := range t.vhosts {
		fmt.Fprintf(&b, "%q\n", vh.domains)
		for j, m := range vh.routes {
			fmt.Fprintf(&b, "  %d %v grpc %v headers %+v query %+v fraction %+v\n", j, m.Path, m.GRPC, m.Headers, m.Query, m.Fraction)
		}
	}
	return b.String()
}

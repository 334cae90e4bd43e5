package listener

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// naiveChoose is the algorithm as Envoy documents it: "Suppose there exists N
// filter chains. Prune the filter chain set using the above steps. In each
// step, filter chains which most specifically matches the attributes continue
// to the next step. The listener guarantees at most 1 filter chain is left."
func naiveChoose(chains []*Chain, in *Info) []*Chain {
	steps := []func(m *Match) int{ // how specifically a chain matches; -1: not at all
		func(m *Match) int { return naiveOne(m.DestinationPort, in.Local.Port()) },
		func(m *Match) int { return naiveRange(m.DestinationRanges, in.Local.Addr()) },
		func(m *Match) int { return naiveName(m.ServerNames, strings.ToLower(in.ServerName)) },
		func(m *Match) int { return naiveOne(m.TransportProtocol, in.TransportProtocol) },
		func(m *Match) int {
			for i, p := range in.ALPN {
				if slices.Contains(m.ApplicationProtocols, p) {
					return 100 - i
				}
			}
			return anyIf(len(m.ApplicationProtocols) == 0)
		},
		func(m *Match) int { return naiveRange(m.DirectSourceRanges, in.Direct) },
		func(m *Match) int {
			remote := in.Remote.Addr()
			local := !remote.IsValid() || remote == in.Local.Addr() || remote.String() == "127.0.0.1" || remote.String() == "::1"
			if m.SourceType == SourceLocal && local || m.SourceType == SourceExternal && !local {
				return 1
			}
			return anyIf(m.SourceType == SourceAny)
		},
		func(m *Match) int { return naiveRange(m.SourceRanges, in.Remote.Addr()) },
		func(m *Match) int {
			if slices.Contains(m.SourcePorts, in.Remote.Port()) {
				return 1
			}
			return anyIf(len(m.SourcePorts) == 0)
		},
	}
	left := chains
	for _, step := range steps {
		best, next := 0, []*Chain(nil)
		for _, ch := range left {
			switch n := step(&ch.Match); {
			case n > best:
				best, next = n, []*Chain{ch}
			case n == best:
				next = append(next, ch)
			}
		}
		left = next
	}
	return left
}

func anyIf(asksNothing bool) int {
	if asksNothing {
		return 0
	}
	return -1
}

func naiveOne[T comparable](want, have T) int {
	var nothing T
	if want == have && want != nothing {
		return 1
	}
	return anyIf(want == nothing)
}

func naiveRange(ranges []netip.Prefix, ip netip.Addr) int {
	best := anyIf(len(ranges) == 0)
	if !ip.IsValid() {
		ip = netip.MustParseAddr("255.255.255.255")
	}
	for _, p := range ranges {
		if p.Contains(ip) {
			best = max(best, p.Bits()+1)
		}
	}
	return best
}

// naiveName lets "*.com" take ".com", which is no host name, as Envoy does.
func naiveName(names []string, name string) int {
	best := anyIf(len(names) == 0)
	for _, n := range names {
		n = strings.ToLower(n)
		if n == name {
			best = 1000
		} else if strings.HasPrefix(n, "*") && strings.HasSuffix(name, n[1:]) {
			best = max(best, len(n))
		}
	}
	return best
}

// naiveOverlap says whether two chains have a value in common everywhere.
func naiveOverlap(a, b *Match) bool {
	return a.DestinationPort == b.DestinationPort && a.TransportProtocol == b.TransportProtocol && a.SourceType == b.SourceType &&
		meet(a.DestinationRanges, b.DestinationRanges) && meet(a.ServerNames, b.ServerNames) &&
		meet(a.ApplicationProtocols, b.ApplicationProtocols) && meet(a.DirectSourceRanges, b.DirectSourceRanges) &&
		meet(a.SourceRanges, b.SourceRanges) && meet(a.SourcePorts, b.SourcePorts)
}

func meet[T comparable](a, b []T) bool {
	return len(a) == 0 && len(b) == 0 || slices.ContainsFunc(a, func(v T) bool { return slices.Contains(b, v) })
}

type gen struct{ *rand.Rand }

func pick[T any](g gen, words ...T) T { return words[g.IntN(len(words))] }

// some returns nothing mostly, else a few different words.
func some[T comparable](g gen, percent int, words ...T) (list []T) {
	for g.IntN(100) < percent {
		if w := pick(g, words...); !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	return list
}

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

var ranges = prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "127.0.0.1/32", "0.0.0.0/0", "::/0", "fd00::/8", "::1/128")

func (g gen) match() Match {
	return Match{
		DestinationPort:      pick[uint16](g, 0, 0, 0, 0, 443, 80),
		DestinationRanges:    some(g, 25, ranges...),
		ServerNames:          some(g, 35, "a.com", "b.a.com", "*.a.com", "*.com", "*.b.a.com", "*.org"),
		TransportProtocol:    pick(g, "", "", "", TransportTLS, TransportRaw),
		ApplicationProtocols: some(g, 25, "h2", "http/1.1", "x"),
		DirectSourceRanges:   some(g, 20, ranges...),
		SourceType:           pick(g, SourceAny, SourceAny, SourceLocal, SourceExternal),
		SourceRanges:         some(g, 25, ranges...),
		SourcePorts:          some[uint16](g, 20, 1000, 2000),
	}
}

func (g gen) info() *Info {
	addr := func() netip.Addr {
		return netip.MustParseAddr(pick(g, "10.1.1.1", "10.1.1.2", "10.1.2.1", "10.9.9.9", "127.0.0.1", "127.0.0.2", "8.8.8.8", "::1", "fd00::1", "2001::1"))
	}
	in := &Info{
		Local:             netip.AddrPortFrom(addr(), pick[uint16](g, 80, 443, 8080)),
		Remote:            netip.AddrPortFrom(addr(), pick[uint16](g, 1000, 2000, 3000)),
		Direct:            addr(),
		ServerName:        pick(g, "", "a.com", "b.a.com", "A.com", "c.b.a.com", "x.org", "com", ".com", "a.", "y"),
		TransportProtocol: pick(g, TransportTLS, TransportRaw),
		ALPN:              some(g, 50, "h2", "http/1.1", "y"),
	}
	if g.IntN(10) == 0 { // a Unix socket
		in.Local, in.Remote, in.Direct = netip.AddrPort{}, netip.AddrPort{}, netip.Addr{}
	}
	return in
}

// TestChooseLikeDocumentation compares Choose with naiveChoose over random
// chains and connections, and NewTable's errors with naiveOverlap.
func TestChooseLikeDocumentation(t *testing.T) {
	chosen, refused := 0, 0
	for seed := uint64(1); seed <= 4000; seed++ {
		g := gen{rand.New(rand.NewPCG(seed, 9))}
		var chains []*Chain
		for i := range 1 + g.IntN(12) {
			chains = append(chains, &Chain{Name: fmt.Sprint("c", i), Match: g.match()})
		}
		// First with whatever overlaps, then without.
		var kept []*Chain
		for _, ch := range chains {
			if !slices.ContainsFunc(kept, func(o *Chain) bool { return naiveOverlap(&o.Match, &ch.Match) }) {
				kept = append(kept, ch)
			}
		}
		if _, err := NewTable(chains, nil); (err != nil) != (len(kept) < len(chains)) {
			t.Fatalf("seed %d: NewTable: %v, but %d of %d chains overlap", seed, err, len(chains)-len(kept), len(chains))
		} else if err != nil {
			refused++
		}
		tbl, err := NewTable(kept, nil)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range 25 {
			in := g.info()
			left := naiveChoose(kept, in)
			if len(left) > 1 {
				t.Fatalf("seed %d: the documented algorithm leaves %d chains", seed, len(left))
			}
			var want *Chain
			if len(left) == 1 {
				want = left[0]
				chosen++
			}
			if got := tbl.Choose(in); got != want {
				t.Fatalf("seed %d: %+v\ngot  %+v\nwant %+v", seed, in, got, want)
			}
		}
	}
	if chosen < 10_000 || refused < 100 {
		t.Errorf("%d chosen, %d refused: the generator tests little", chosen, refused)
	}
}

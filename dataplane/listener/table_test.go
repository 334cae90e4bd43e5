package listener

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func tcp(local, remote, sni string, alpn ...string) *Info {
	in := &Info{
		Local:             netip.MustParseAddrPort(local),
		Remote:            netip.MustParseAddrPort(remote),
		ServerName:        sni,
		TransportProtocol: TransportTLS,
		ALPN:              alpn,
	}
	if sni == "" {
		in.TransportProtocol = TransportRaw
	}
	return in
}

// TestChoose shows the steps and their order, each case by a few chains.
func TestChoose(t *testing.T) {
	tests := []struct {
		name   string
		chains []Match // named "0", "1", …
		in     *Info
		want   string // "default" if none
	}{
		{"asks nothing", []Match{{}}, tcp("10.0.0.1:443", "8.8.8.8:99", ""), "0"},
		{"no chain", nil, tcp("10.0.0.1:443", "8.8.8.8:99", ""), "default"},
		{"port before address",
			[]Match{{DestinationRanges: prefixes("10.0.0.1/32")}, {DestinationPort: 443}},
			tcp("10.0.0.1:443", "8.8.8.8:99", ""), "1"},
		{"longest range", []Match{{DestinationRanges: prefixes("10.0.0.0/8")}, {DestinationRanges: prefixes("10.1.0.0/16")}},
			tcp("10.1.0.1:443", "8.8.8.8:99", ""), "1"},
		{"IPv4 in IPv6", []Match{{}, {DestinationRanges: prefixes("10.1.0.0/16")}},
			tcp("[::ffff:10.1.0.1]:443", "8.8.8.8:99", ""), "1"},
		{"exact name before wildcard", []Match{{ServerNames: []string{"*.a.com"}}, {ServerNames: []string{"B.a.com"}}},
			tcp("10.0.0.1:443", "8.8.8.8:99", "b.A.com"), "1"},
		{"longest wildcard", []Match{{ServerNames: []string{"*.com"}}, {ServerNames: []string{"*.a.com"}}},
			tcp("10.0.0.1:443", "8.8.8.8:99", "c.b.a.com"), "1"},
		{"a wildcard does not take its own domain", []Match{{ServerNames: []string{"*.a.com"}}},
			tcp("10.0.0.1:443", "8.8.8.8:99", "a.com"), "default"},
		{"name before transport protocol", []Match{{TransportProtocol: TransportTLS}, {ServerNames: []string{"a.com"}}},
			tcp("10.0.0.1:443", "8.8.8.8:99", "a.com"), "1"},
		{"transport protocol", []Match{{TransportProtocol: TransportTLS}, {TransportProtocol: TransportRaw}},
			tcp("10.0.0.1:443", "8.8.8.8:99", ""), "1"},
		{"the client's order of protocols", []Match{{ApplicationProtocols: []string{"http/1.1"}}, {ApplicationProtocols: []string{"h2"}}},
			tcp("10.0.0.1:443", "8.8.8.8:99", "a.com", "h2", "http/1.1"), "1"},
		{"loopback is local", []Match{{SourceType: SourceLocal}, {SourceType: SourceExternal}},
			tcp("10.0.0.1:443", "127.0.0.1:99", ""), "0"},
		{"the same address is local", []Match{{SourceType: SourceLocal}, {SourceType: SourceExternal}},
			tcp("10.0.0.1:443", "10.0.0.1:99", ""), "0"},
		{"others are external", []Match{{SourceType: SourceLocal}, {SourceType: SourceExternal}},
			tcp("10.0.0.1:443", "10.0.0.2:99", ""), "1"},
		{"source address before port", []Match{{SourcePorts: []uint16{99}}, {SourceRanges: prefixes("8.0.0.0/8")}},
			tcp("10.0.0.1:443", "8.8.8.8:99", ""), "1"},
		{"source port", []Match{{}, {SourcePorts: []uint16{99}}}, tcp("10.0.0.1:443", "8.8.8.8:99", ""), "1"},
		{"a unix socket is local and in no range",
			[]Match{{SourceType: SourceLocal, SourceRanges: prefixes("10.0.0.0/8")}, {SourceType: SourceLocal}, {}},
			&Info{}, "1"},
		// Envoy's documentation warns of this: the name chose branch 1, and
		// nothing leads back to 0, which would have taken the connection.
		{"no way back", []Match{{}, {ServerNames: []string{"a.com"}, SourcePorts: []uint16{1}}},
			tcp("10.0.0.1:443", "8.8.8.8:99", "a.com"), "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var chains []*Chain
			for i, m := range tt.chains {
				chains = append(chains, &Chain{Name: string(rune('0' + i)), Match: m})
			}
			tbl, err := NewTable(chains, &Chain{Name: "default"})
			if err != nil {
				t.Fatal(err)
			}
			if got := tbl.Choose(tt.in).Name; got != tt.want {
				t.Errorf("got chain %s, want %s", got, tt.want)
			}
		})
	}
}

func TestChooseDirectSource(t *testing.T) {
	// The PROXY protocol names the client; the proxy is what is connected.
	chains := []*Chain{{Name: "any"}, {Name: "proxied", Match: Match{DirectSourceRanges: prefixes("10.0.0.0/8")}}}
	tbl, err := NewTable(chains, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := tcp("10.0.0.1:443", "8.8.8.8:99", "")
	if got := tbl.Choose(in).Name; got != "any" {
		t.Errorf("straight from the client: got %s", got)
	}
	in.Direct = netip.MustParseAddr("10.0.0.7")
	if got := tbl.Choose(in).Name; got != "proxied" {
		t.Errorf("by way of the proxy: got %s", got)
	}
}

func TestNewTableErrors(t *testing.T) {
	tests := []struct {
		name   string
		chains []*Chain
		want   []string // all in the error; none: no error
	}{
		{"same",
			[]*Chain{{Name: "a", Match: Match{ServerNames: []string{"X.com"}}}, {Name: "b", Match: Match{ServerNames: []string{"x.com"}}}},
			[]string{`filter chain "b" has the same matching rules defined as "a"`}},
		{"same, without names", []*Chain{{}, {}},
			[]string{`filter chain filter_chains[1] has the same matching rules defined as filter_chains[0]`}},
		{"overlap",
			[]*Chain{{Name: "a", Match: Match{SourcePorts: []uint16{1, 2}}}, {Name: "b", Match: Match{SourcePorts: []uint16{2, 3}}}},
			[]string{`overlapping matching rules are defined: "a" and "b"`}},
		{"equal ranges",
			[]*Chain{{Name: "a", Match: Match{SourceRanges: prefixes("10.0.0.1/8", "11.0.0.0/8")}}, {Name: "b", Match: Match{SourceRanges: prefixes("10.9.9.9/8")}}},
			[]string{`overlapping matching rules are defined: "a" and "b"`}},
		{"twice in one", []*Chain{{Name: "a", Match: Match{ServerNames: []string{"x.com", "x.com"}}}},
			[]string{`filter chain "a" has the same value twice`}},
		{"partial wildcard", []*Chain{{Name: "a", Match: Match{ServerNames: []string{"*x.com", "*", "w.*.com", "*.com"}}}},
			[]string{`filter chain "a": partial wildcards are not supported in "server_names": "*x.com"`, `"*"`, `"w.*.com"`}},
		{"nested ranges do not overlap",
			[]*Chain{{Name: "a", Match: Match{SourceRanges: prefixes("10.0.0.0/8")}}, {Name: "b", Match: Match{SourceRanges: prefixes("10.0.0.0/9")}}},
			nil},
		{"all errors at once", []*Chain{{Name: "a"}, {Name: "b"}, {Name: "c", Match: Match{ServerNames: []string{"*x"}}}},
			[]string{`"b" has the same matching rules defined as "a"`, `filter chain "c": partial wildcards`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewTable(tt.chains, nil)
			if err == nil && tt.want != nil {
				t.Fatal("no error")
			}
			if err != nil && tt.want == nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in the error:\n%v", want, err)
				}
			}
		})
	}
}

func TestTableChains(t *testing.T) {
	a, def := &Chain{Name: "a"}, &Chain{Name: "default"}
	tbl, err := NewTable([]*Chain{a}, def)
	if err != nil {
		t.Fatal(err)
	}
	if got := tbl.Chains(); !slices.Equal(got, []*Chain{a, def}) {
		t.Errorf("got %v", got)
	}
}

package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Match is envoy.config.listener.v3.FilterChainMatch. An empty criterion takes
// any value that no chain still in the running asks for by itself.
type Match struct {
	DestinationPort      uint16         // destination_port; 0: any
	DestinationRanges    []netip.Prefix // prefix_ranges
	ServerNames          []string       // "a.example.com" or "*.example.com"
	TransportProtocol    string         // TransportRaw or TransportTLS
	ApplicationProtocols []string       // ALPN
	DirectSourceRanges   []netip.Prefix // direct_source_prefix_ranges
	SourceType           SourceType
	SourceRanges         []netip.Prefix // source_prefix_ranges
	SourcePorts          []uint16
}

// Values of Match.TransportProtocol and Info.TransportProtocol.
const (
	TransportRaw = "raw_buffer"
	TransportTLS = "tls"
)

// SourceType is FilterChainMatch.ConnectionSourceType.
type SourceType uint8

// Where a connection may come from.
const (
	SourceAny      SourceType = iota
	SourceLocal               // SAME_IP_OR_LOOPBACK
	SourceExternal            // EXTERNAL
	sourceTypes
)

// Info is what is known of a connection when its chain is chosen. Addresses
// that are not valid are those of a Unix socket.
type Info struct {
	Local             netip.AddrPort // destination
	Remote            netip.AddrPort // source, as the PROXY protocol says if it is used
	Direct            netip.Addr     // the peer of the socket; the same as Remote if not valid
	ServerName        string         // SNI, any case; empty if none
	TransportProtocol string         // TransportRaw (also if empty) or TransportTLS
	ALPN              []string       // protocols the client offers, in its order
}

// local is Envoy's isSameIpOrLoopback: a Unix socket, 127.0.0.1, ::1, or the
// address that was connected to.
func (in *Info) local() bool {
	remote := in.Remote.Addr().Unmap()
	return !remote.IsValid() ||
		remote == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || remote == netip.IPv6Loopback() ||
		remote == in.Local.Addr().Unmap()
}

// normal returns m in the form the table keeps: lower-case names, masked
// ranges, and an empty list's one value "any". Two matches that say the same
// are equal in it, but for the order of their lists.
func (m Match) normal() (Match, error) {
	var errs []error
	names := make([]string, 0, max(1, len(m.ServerNames)))
	for _, name := range m.ServerNames {
		if strings.Contains(name, "*") && !strings.HasPrefix(name, "*.") {
			errs = append(errs, fmt.Errorf("partial wildcards are not supported in \"server_names\": %q", name))
		}
		// "*.example.com" is kept as ".example.com", as a name's suffix is looked up.
		names = append(names, strings.TrimPrefix(strings.ToLower(name), "*"))
	}
	m.ServerNames = orAny(names)
	for _, ranges := range []*[]netip.Prefix{&m.DestinationRanges, &m.DirectSourceRanges, &m.SourceRanges} {
		masked := make([]netip.Prefix, 0, max(1, len(*ranges)))
		for _, p := range *ranges {
			if !p.IsValid() {
				errs = append(errs, errors.New("invalid address range"))
			}
			masked = append(masked, unmap(p).Masked())
		}
		*ranges = orAny(masked)
	}
	m.ApplicationProtocols = orAny(m.ApplicationProtocols)
	m.SourcePorts = orAny(m.SourcePorts)
	if m.SourceType >= sourceTypes {
		errs = append(errs, fmt.Errorf("unknown source type %d", m.SourceType))
	}
	return m, errors.Join(errs...)
}

// equal reports whether two normal matches are the same message.
func (m *Match) equal(o *Match) bool {
	return m.DestinationPort == o.DestinationPort && m.TransportProtocol == o.TransportProtocol && m.SourceType == o.SourceType &&
		slices.Equal(m.DestinationRanges, o.DestinationRanges) && slices.Equal(m.ServerNames, o.ServerNames) &&
		slices.Equal(m.ApplicationProtocols, o.ApplicationProtocols) && slices.Equal(m.DirectSourceRanges, o.DirectSourceRanges) &&
		slices.Equal(m.SourceRanges, o.SourceRanges) && slices.Equal(m.SourcePorts, o.SourcePorts)
}

// unmap turns a range of IPv4-mapped IPv6 addresses into one of IPv4.
func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// orAny returns list, or the one zero value that stands for any.
func orAny[T any](list []T) []T {
	if len(list) == 0 {
		return make([]T, 1)
	}
	return list
}

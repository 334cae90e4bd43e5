package listener

import "net/netip"

// Match is envoy.config.listener.v3.FilterChainMatch. Each empty criterion
// takes anything, but only if no chain asks for the value at hand.
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
)

// Info is what is known of a connection when its chain is chosen. Addresses
// that are not valid are those of a Unix socket.
type Info struct {
	Local             netip.AddrPort // destination
	Remote            netip.AddrPort // source, as the PROXY protocol says if it is used
	Direct            netip.Addr     // the peer of the socket; the same as Remote if not valid
	ServerName        string         // SNI, any case; empty if none
	TransportProtocol string         // TransportRaw or TransportTLS
	ALPN              []string       // protocols the client offers
}

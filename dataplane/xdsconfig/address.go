package xdsconfig

import (
	"net"
	"net/netip"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// address is a compiled core.v3.Address.
type address struct {
	network string // "tcp" or "unix"
	address string // "10.0.0.1:50051", "name:50051" or a path
	name    bool   // the host is a name, not a number
	mode    uint32 // of a unix socket
}

// address compiles an Address; ok is false if a says why not.
func (a *at) address(m *corev3.Address) (out address, ok bool) {
	switch x := m.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		s := x.SocketAddress
		here := a.field("socket_address")
		if s.GetProtocol() != corev3.SocketAddress_TCP {
			here.field("protocol").errorf("%s: not supported by this version", s.GetProtocol())
			return out, false
		}
		if s.GetNamedPort() != "" {
			return out, false // refused by the support table
		}
		_, err := netip.ParseAddr(s.GetAddress())
		return address{
			network: "tcp",
			address: net.JoinHostPort(s.GetAddress(), strconv.FormatUint(uint64(s.GetPortValue()), 10)),
			name:    err != nil,
		}, true
	case *corev3.Address_Pipe:
		return address{network: "unix", address: x.Pipe.GetPath(), mode: x.Pipe.GetMode()}, true
	case *corev3.Address_EnvoyInternalAddress:
		a.field("envoy_internal_address").unsupported()
	}
	return out, false
}

// numeric compiles an Address whose host must be a number.
func (a *at) numeric(m *corev3.Address) (out address, ok bool) {
	if out, ok = a.address(m); ok && out.name {
		a.field("socket_address").field("address").errorf("%q is not an IP address", m.GetSocketAddress().GetAddress())
		return out, false
	}
	return out, ok
}

// prefixes compiles CIDR ranges.
func (a *at) prefixes(name string, ranges []*corev3.CidrRange) []netip.Prefix {
	var out []netip.Prefix
	for i, r := range ranges {
		here := a.item(name, i)
		ip, err := netip.ParseAddr(r.GetAddressPrefix())
		if err != nil {
			here.field("address_prefix").errorf("%q is not an IP address", r.GetAddressPrefix())
			continue
		}
		// As in Envoy a length beyond the address's is all of it.
		p, err := ip.Prefix(min(int(r.GetPrefixLen().GetValue()), ip.BitLen()))
		if err != nil {
			here.field("address_prefix").errorf("%q: %s", r.GetAddressPrefix(), err)
			continue
		}
		out = append(out, p)
	}
	return out
}

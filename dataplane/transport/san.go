package transport

import (
	"crypto/x509"
	"net/netip"
	"strings"
)

// SANType is SubjectAltNameMatcher.SanType.
type SANType uint8

// Kinds of subject alternative names.
const (
	SANEmail SANType = iota + 1
	SANDNS
	SANURI
	SANIP
)

// SANMatcher is SubjectAltNameMatcher: it matches a certificate with a name of
// its type that Match accepts.
type SANMatcher struct {
	Type SANType
	// Exact, if not empty, is used instead of Match: for SANDNS, a wildcard in
	// the certificate covers one label of it (RFC 6125 §6.4.3).
	Exact string
	Match func(name string) bool
	// Text tells matchers with a Match apart: sessions of one are not resumed
	// under another. Empty: it is like no other.
	Text string
}

// matches reports whether one of c's names fits.
func (m *SANMatcher) matches(c *x509.Certificate) bool {
	one := m.Match
	switch {
	case m.Exact == "":
	case m.Type == SANDNS:
		one = func(name string) bool { return dnsMatch(m.Exact, name) }
	default:
		one = func(name string) bool { return name == m.Exact }
	}
	switch m.Type {
	case SANEmail:
		return anyOf(c.EmailAddresses, one)
	case SANDNS:
		return anyOf(c.DNSNames, one)
	case SANURI:
		for _, u := range c.URIs {
			if one(u.String()) {
				return true
			}
		}
	case SANIP:
		for _, ip := range c.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok && one(a.Unmap().String()) {
				return true
			}
		}
	}
	return false
}

func anyOf(names []string, match func(string) bool) bool {
	for _, n := range names {
		if match(n) {
			return true
		}
	}
	return false
}

// dnsMatch reports whether pattern, a DNS name of a certificate, stands for
// name. Envoy's rule: a wildcard only in the leftmost label, once, never in an
// A-label, and for one label or a part of it.
//
//	*.example.com   a.example.com     but not example.com, a.b.example.com
//	w*.example.com  www.example.com
func dnsMatch(name, pattern string) bool {
	name, pattern = strings.ToLower(name), strings.ToLower(pattern)
	if name == pattern {
		return true
	}
	label, rest, ok := strings.Cut(name, ".")
	wild, parent, ok2 := strings.Cut(pattern, ".")
	if !ok || !ok2 || rest != parent || strings.HasPrefix(wild, "xn--") || strings.Contains(parent, "*") {
		return false
	}
	before, after, ok := strings.Cut(wild, "*")
	if !ok || strings.Contains(after, "*") || label == "" {
		return false
	}
	return len(label) >= len(before)+len(after) && strings.HasPrefix(label, before) && strings.HasSuffix(label, after)
}

// sentNameMatches reports whether c is for name, which was sent as SNI: the
// check of auto_sni_san_validation.
func sentNameMatches(c *x509.Certificate, name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		m := SANMatcher{Type: SANIP, Exact: ip.Unmap().String()}
		return m.matches(c)
	}
	m := SANMatcher{Type: SANDNS, Exact: name}
	return m.matches(c)
}

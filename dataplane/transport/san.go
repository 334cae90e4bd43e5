package transport

import (
	"crypto/x509"
	"encoding/asn1"
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
	SANOther // an otherName (RFC 5280 §4.2.1.6) with SANMatcher.OID
)

// SANMatcher is SubjectAltNameMatcher: it matches a certificate with a name of
// its type that Match accepts.
type SANMatcher struct {
	Type SANType
	OID  string // of SANOther: type-id, in dots
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
	case SANOther:
		return anyOf(otherNames(c, m.OID), one)
	}
	return false
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// otherNames returns the values of c's otherNames of a type that are strings:
//
//	OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY DEFINED BY type-id }
//
// as [0] IMPLICIT in the GeneralNames. What cannot be read is no name.
func otherNames(c *x509.Certificate, oid string) (out []string) {
	for _, ext := range c.Extensions {
		var names asn1.RawValue
		if !ext.Id.Equal(oidSubjectAltName) || !into(ext.Value, &names) {
			continue
		}
		for rest := names.Bytes; len(rest) > 0; {
			var name, value, text asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				break
			}
			if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
				continue
			}
			var id asn1.ObjectIdentifier
			after, err := asn1.Unmarshal(name.Bytes, &id)
			if err != nil || id.String() != oid || !into(after, &value) || value.Class != asn1.ClassContextSpecific || value.Tag != 0 ||
				!into(value.Bytes, &text) || text.Class != asn1.ClassUniversal {
				continue
			}
			switch text.Tag {
			case asn1.TagUTF8String, asn1.TagIA5String, asn1.TagPrintableString:
				out = append(out, string(text.Bytes))
			}
		}
	}
	return out
}

// into reads the one value that b is.
func into(b []byte, v *asn1.RawValue) bool {
	rest, err := asn1.Unmarshal(b, v)
	return err == nil && len(rest) == 0
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

package transport

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

func TestDNSMatch(t *testing.T) {
	tests := []struct {
		name, pattern string
		want          bool
	}{
		{"a.example.com", "a.example.com", true},
		{"A.Example.com", "a.eXample.com", true},
		{"a.example.com", "*.example.com", true},
		{"example.com", "*.example.com", false},
		{"a.b.example.com", "*.example.com", false},
		{".example.com", "*.example.com", false},
		{"www.example.com", "w*.example.com", true},
		{"www.example.com", "w*w.example.com", true},
		{"w.example.com", "w*w.example.com", false}, // the parts may not overlap
		{"www.example.com", "*w*.example.com", false},
		{"xn--a.example.com", "xn--*.example.com", false},
		{"a.b.com", "a.*.com", false},
		{"a.b.com", "*.*.com", false},
		{"com", "*", false},
		{"a.com", "*", false},
		{"a.com", "*.com", true},
		// A wildcard that was configured is not one that a certificate has.
		{"*.example.com", "a.example.com", false},
		{"*.example.com", "*.example.com", true},
	}
	for _, tt := range tests {
		if got := dnsMatch(tt.name, tt.pattern); got != tt.want {
			t.Errorf("certificate for %q, wanted %q: %v", tt.pattern, tt.name, got)
		}
	}
}

func TestSANMatchers(t *testing.T) {
	leaf := tlstest.CA(t, "ca").Leaf(t, "x",
		tlstest.DNS("*.example.com", "b.org"), tlstest.URI("spiffe://td/ns/a/sa/b"),
		tlstest.IP("10.0.0.1", "2001:db8::1"), tlstest.Email("a@b.org")).Cert
	prefix := func(p string) func(string) bool { return func(s string) bool { return strings.HasPrefix(s, p) } }
	tests := []struct {
		name string
		m    SANMatcher
		want bool
	}{
		{"exact DNS through a wildcard", SANMatcher{Type: SANDNS, Exact: "a.example.com"}, true},
		{"exact DNS two labels", SANMatcher{Type: SANDNS, Exact: "a.b.example.com"}, false},
		{"other DNS kinds see the wildcard as text", SANMatcher{Type: SANDNS, Match: prefix("a.example")}, false},
		{"DNS prefix", SANMatcher{Type: SANDNS, Match: prefix("b.")}, true},
		{"URI", SANMatcher{Type: SANURI, Exact: "spiffe://td/ns/a/sa/b"}, true},
		{"URI is not a DNS name", SANMatcher{Type: SANURI, Exact: "b.org"}, false},
		{"URI prefix", SANMatcher{Type: SANURI, Match: prefix("spiffe://td/")}, true},
		{"another trust domain", SANMatcher{Type: SANURI, Match: prefix("spiffe://td2/")}, false},
		{"IPv4", SANMatcher{Type: SANIP, Exact: "10.0.0.1"}, true},
		{"IPv6", SANMatcher{Type: SANIP, Exact: "2001:db8::1"}, true},
		{"IP is not a DNS name", SANMatcher{Type: SANDNS, Exact: "10.0.0.1"}, false},
		{"mail", SANMatcher{Type: SANEmail, Exact: "a@b.org"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.m.matches(leaf); got != tt.want {
				t.Errorf("matches: %v", got)
			}
		})
	}
}

// TestOtherName: an otherName is found by its type, if its value is a string.
func TestOtherName(t *testing.T) {
	upn := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	ca := tlstest.CA(t, "ca")
	tests := []struct {
		tag  int
		m    SANMatcher
		want bool
	}{
		{asn1.TagUTF8String, SANMatcher{OID: upn.String(), Exact: "me@corp"}, true},
		{asn1.TagIA5String, SANMatcher{OID: upn.String(), Exact: "me@corp"}, true},
		{asn1.TagUTF8String, SANMatcher{OID: upn.String(), Match: func(s string) bool { return strings.HasSuffix(s, "@corp") }}, true},
		{asn1.TagUTF8String, SANMatcher{OID: upn.String(), Exact: "you@corp"}, false},
		{asn1.TagUTF8String, SANMatcher{OID: "1.2.3", Exact: "me@corp"}, false},
		{asn1.TagOctetString, SANMatcher{OID: upn.String(), Exact: "me@corp"}, false},
	}
	for _, tt := range tests {
		leaf := ca.Leaf(t, "x", tlstest.Other(upn, tt.tag, "me@corp")).Cert
		tt.m.Type = SANOther
		if got := tt.m.matches(leaf); got != tt.want {
			t.Errorf("tag %d, %+v: %v", tt.tag, tt.m, got)
		}
		other := SANMatcher{Type: SANDNS, Exact: "me@corp"}
		if other.matches(leaf) || (&SANMatcher{Type: SANOther, OID: "1.2.3", Exact: "x"}).matches(ca.Cert) {
			t.Error("a name of another type")
		}
	}
}

// FuzzOtherNames: whatever a certificate says, it is read without a panic.
func FuzzOtherNames(f *testing.F) {
	leaf := tlstest.CA(f, "ca").Leaf(f, "x", tlstest.Other(asn1.ObjectIdentifier{1, 2, 3}, asn1.TagUTF8String, "a")).Cert
	for _, ext := range leaf.Extensions {
		f.Add(ext.Value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		otherNames(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSubjectAltName, Value: b}}}, "1.2.3")
	})
}

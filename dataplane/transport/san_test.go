package transport

import (
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

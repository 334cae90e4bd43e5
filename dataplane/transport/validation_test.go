package transport

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// chainOf returns what p presents.
func chainOf(t *testing.T, p *tlstest.Pair) []*x509.Certificate {
	t.Helper()
	certs, _, err := parsePEM(p.Chain)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// TestValidation judges certificates under every option.
func TestValidation(t *testing.T) {
	root, other := tlstest.CA(t, "root"), tlstest.CA(t, "other")
	inter := root.Intermediate(t, "inter")
	past := tlstest.Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	leaf := root.Leaf(t, "leaf", tlstest.DNS("a.org"), tlstest.URI("spiffe://td/a"))
	deep := inter.Leaf(t, "deep", tlstest.DNS("a.org"))
	expired := root.Leaf(t, "expired", past)
	stranger := other.Leaf(t, "stranger", tlstest.URI("spiffe://td/a"))
	serverOnly := root.Leaf(t, "server", tlstest.Usage(x509.ExtKeyUsageServerAuth))
	hash := func(p *tlstest.Pair) [][32]byte { return [][32]byte{sha256.Sum256(p.Cert.Raw)} }
	spki := func(p *tlstest.Pair) [][32]byte {
		return [][32]byte{sha256.Sum256(p.Cert.RawSubjectPublicKeyInfo)}
	}
	join := func(b ...[]byte) []byte { return slices.Concat(b...) }
	dns := []SANMatcher{{Type: SANDNS, Exact: "a.org"}}
	ca := ValidationOptions{TrustedCA: root.Chain}
	with := func(f func(o *ValidationOptions)) ValidationOptions { o := ca; f(&o); return o }
	const good = Reason(255)
	tests := []struct {
		name string
		o    ValidationOptions
		peer *tlstest.Pair
		want Reason
	}{
		{"by the CA", ca, leaf, good},
		{"through an intermediate", ca, deep, good},
		{"the intermediate is the anchor", ValidationOptions{TrustedCA: inter.Chain}, deep, good},
		{"another CA", ca, stranger, BadChain},
		{"expired", ca, expired, BadChain},
		{"expired but allowed", with(func(o *ValidationOptions) { o.AllowExpired = true }), expired, good},
		{"allowing expired allows no other CA", with(func(o *ValidationOptions) { o.AllowExpired = true }), stranger, BadChain},
		{"for servers only", ca, serverOnly, BadChain},
		{"name", with(func(o *ValidationOptions) { o.SANs = dns }), leaf, good},
		{"no such name", with(func(o *ValidationOptions) { o.SANs = dns }), named(t, root), BadSAN},
		{"pinned", ValidationOptions{Hashes: hash(stranger)}, stranger, good},
		{"pinned key", ValidationOptions{SPKIs: spki(stranger)}, stranger, good},
		{"either pin", ValidationOptions{SPKIs: spki(leaf), Hashes: hash(stranger)}, stranger, good},
		{"another pin", ValidationOptions{Hashes: hash(leaf), SPKIs: spki(leaf)}, stranger, BadHash},
		{"pinned but by another CA", with(func(o *ValidationOptions) { o.Hashes = hash(stranger) }), stranger, BadChain},
		{"depth", with(func(o *ValidationOptions) { o.MaxDepth = 2 }), deep, good},
		{"too deep", with(func(o *ValidationOptions) { o.MaxDepth = 1 }), deep, BadChain},
		{"nothing to verify against", ValidationOptions{}, leaf, BadChain},

		{"not revoked", with(func(o *ValidationOptions) { o.CRL = root.CRL(t) }), leaf, good},
		{"revoked", with(func(o *ValidationOptions) { o.CRL = root.CRL(t, leaf) }), leaf, BadChain},
		{"revoked by a list in the CA file", ValidationOptions{TrustedCA: join(root.Chain, root.CRL(t, leaf))}, leaf, BadChain},
		{"the intermediate is revoked", with(func(o *ValidationOptions) { o.CRL = join(root.CRL(t, inter), inter.CRL(t)) }), deep, BadChain},
		{"only the leaf counts", with(func(o *ValidationOptions) {
			o.CRL, o.CRLLeafOnly = join(root.CRL(t, inter), inter.CRL(t)), true
		}), deep, good},
		{"no list of one authority", with(func(o *ValidationOptions) { o.CRL = root.CRL(t) }), deep, BadChain},
		{"a forged list", with(func(o *ValidationOptions) { o.CRL = tlstest.CA(t, "root").CRL(t) }), leaf, BadChain},

		{"trust domain", ValidationOptions{TrustDomains: map[string][]byte{"td": root.Chain}}, leaf, good},
		{"bundle of another domain", ValidationOptions{TrustDomains: map[string][]byte{"td": root.Chain, "o": other.Chain}}, stranger, BadChain},
		{"no SPIFFE id", ValidationOptions{TrustDomains: map[string][]byte{"td": root.Chain}}, deep, BadChain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := NewValidation(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			err = v.verify(chainOf(t, tt.peer), x509.ExtKeyUsageClientAuth, "", time.Now())
			if tt.want == good {
				if err != nil {
					t.Error(err)
				}
			} else if got := reason(err); got != tt.want {
				t.Errorf("got %v (%v), want reason %d", got, err, tt.want)
			}
		})
	}
}

// named is a leaf of another name.
func named(t *testing.T, ca *tlstest.Pair) *tlstest.Pair {
	return ca.Leaf(t, "b", tlstest.DNS("b.org"))
}

// TestValidationRefused: contexts that would not do what they seem to.
func TestValidationRefused(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	tests := []struct {
		name string
		o    ValidationOptions
		want string
	}{
		{"SANs without CA", ValidationOptions{SANs: []SANMatcher{{Type: SANDNS, Exact: "a"}}}, "insecure"},
		{"CRL without CA", ValidationOptions{CRL: ca.CRL(t)}, "without a trusted CA"},
		{"expired without CA", ValidationOptions{AllowExpired: true}, "ignored without"},
		{"no certificate in the CA", ValidationOptions{TrustedCA: []byte("hello")}, "no certificate found"},
		{"no CRL in the CRL", ValidationOptions{TrustedCA: ca.Chain, CRL: ca.Chain}, "no CRL found"},
		{"truncated", ValidationOptions{TrustedCA: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, "certificate 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewValidation(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
}

func TestSystemRoots(t *testing.T) {
	v, err := NewValidation(ValidationOptions{SystemRoots: true})
	if err != nil {
		t.Fatal(err)
	}
	leaf := tlstest.CA(t, "ca").Leaf(t, "x")
	if got := reason(v.verify(chainOf(t, leaf), x509.ExtKeyUsageServerAuth, "", time.Now())); got != BadChain {
		t.Errorf("a CA that the system does not know: %v", got)
	}
}

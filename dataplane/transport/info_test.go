package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"slices"
	"testing"
)

// certificateWith returns a certificate of ours with a URI SAN.
func certificateWith(t *testing.T, uri string) *Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), URIs: []*url.URL{u}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Certificate{pair: tls.Certificate{Leaf: leaf}}
}

// TestLocalURIs: our names are told only where there is no doubt about them.
func TestLocalURIs(t *testing.T) {
	a, again, b := certificateWith(t, "spiffe://td/a"), certificateWith(t, "spiffe://td/a"), certificateWith(t, "spiffe://td/b")
	for _, tt := range []struct {
		certs []*Certificate
		want  []string
	}{
		{[]*Certificate{a}, []string{"spiffe://td/a"}},
		{[]*Certificate{a, again}, []string{"spiffe://td/a"}},
		{[]*Certificate{a, b}, nil},
	} {
		st := &serverState{certs: tt.certs}
		if got := st.localURIs(); !slices.Equal(got, tt.want) {
			t.Errorf("%d certificates: %q, want %q", len(tt.certs), got, tt.want)
		}
	}
}

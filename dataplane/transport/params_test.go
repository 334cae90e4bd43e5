package transport

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

func TestParseNames(t *testing.T) {
	got, err := ParseCipher("[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]")
	want := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("group: %v\n%s", err, diff)
	}
	if got, err := ParseCipher("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"); err != nil || len(got) != 1 {
		t.Errorf("IANA's name: %v, %v", got, err)
	}
	if got, err := ParseCipher("TLS_AES_128_GCM_SHA256"); err != nil || len(got) != 0 {
		t.Errorf("TLS 1.3's: %v, %v", got, err)
	}
	if _, err := ParseCipher("ALL"); err == nil {
		t.Error("an unknown suite was accepted")
	}
	if c, err := ParseCurve("P-384"); c != tls.CurveP384 || err != nil {
		t.Errorf("P-384: %v, %v", c, err)
	}
	if _, err := ParseCurve("P-224"); err == nil {
		t.Error("an unknown curve was accepted")
	}
}

// TestParams: versions, ciphers and curves are those configured.
func TestParams(t *testing.T) {
	cert := certificate(t, tlstest.CA(t, "ca").Leaf(t, "x"))
	tests := []struct {
		name    string
		p       Params
		client  *tls.Config
		version uint16 // 0: refused
	}{
		{"1.3 by default", Params{}, &tls.Config{}, tls.VersionTLS13},
		{"1.2 by default", Params{}, &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12},
		{"1.1 refused by default", Params{}, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0},
		{"1.3 only", Params{MinVersion: tls.VersionTLS13}, &tls.Config{MaxVersion: tls.VersionTLS12}, 0},
		{"1.2 at most", Params{MaxVersion: tls.VersionTLS12}, &tls.Config{}, tls.VersionTLS12},
		{"no CBC by default", Params{}, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, 0},
		{"another curve", Params{}, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}}, 0},
		{"that curve", Params{Curves: []tls.CurveID{tls.CurveP521}}, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}}, tls.VersionTLS13},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := server(t, ServerOptions{Certificates: []*Secret[Certificate]{cert}, Params: tt.p}).Config()
			if err != nil {
				t.Fatal(err)
			}
			tt.client.InsecureSkipVerify = true
			m := meet(t, cfg, tt.client)
			if m.server.Version != tt.version {
				t.Errorf("version %s (%v), want %s", tls.VersionName(m.server.Version), m.serverErr, tls.VersionName(tt.version))
			}
		})
	}
}

func TestParseCertificate(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	a, b := ca.Leaf(t, "a"), ca.Leaf(t, "b")
	tests := []struct {
		name       string
		chain, key []byte
		want       string
	}{
		{"another key", a.Chain, b.PEM, "does not match"},
		{"no chain", nil, a.PEM, "chain is empty"},
		{"no key", a.Chain, nil, "key is empty"},
		{"encrypted", a.Chain, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "encrypted"},
		{"not PEM", []byte("x"), a.PEM, "PEM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseCertificate(tt.chain, tt.key); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
}

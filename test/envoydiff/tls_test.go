package envoydiff

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// socket is the transport socket of a listener.
func socket(secure bool, dir string) string {
	if !secure {
		return "name: only"
	}
	return fmt.Sprintf(`transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            tls_certificates: [{ certificate_chain: { filename: %[1]s/server.pem }, private_key: { filename: %[1]s/server.key } }]
            validation_context: { trusted_ca: { filename: %[1]s/ca.pem } }`, dir)
}

// makeCerts writes a CA and a server's certificate to dir, and returns a
// client's.
func makeCerts(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	issue := func(name string, uris ...string) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			Subject: pkix.Name{CommonName: name, Organization: []string{`Org, "quoted"`}, Country: []string{"DE"}}, BasicConstraintsValid: true, IsCA: ca == nil,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, DNSNames: []string{name + ".example", "other.example"},
		}
		for _, u := range uris {
			parsed, err := url.Parse(u)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, parsed)
		}
		parent, signer := ca, caKey
		if ca == nil {
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		write(name+".key", "PRIVATE KEY", keyDER)
		if ca == nil {
			if ca, err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
			caKey = key
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	issue("ca")
	issue("server", "spiffe://td/server", "spiffe://td/second")
	return issue("client", "spiffe://td/client", "spiffe://td/another")
}

// compareTLS sends requests with and without a client certificate, with and
// without x-forwarded-client-cert.
func compareTLS(t *testing.T, envoy, ours *side, profile string, client tls.Certificate) {
	for i := range 4 {
		t.Run(fmt.Sprintf("%s/%d", profile, i), func(t *testing.T) {
			var got [2]map[string]string
			for n, s := range []*side{envoy, ours} {
				conf := &tls.Config{InsecureSkipVerify: true} // the server is not what is tested
				if i&1 == 0 {
					conf.Certificates = []tls.Certificate{client}
				}
				tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
				req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/m/format", s.ports[profile]), nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "any.host"
				if i&2 == 0 {
					req.Header.Set("x-forwarded-client-cert", "By=before;Hash=00")
				}
				s.backend.take()
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				tr.CloseIdleConnections()
				seen := s.backend.take()
				if len(seen) != 1 {
					t.Fatalf("the backend saw %d requests", len(seen))
				}
				sameLists(seen[0])
				for k, v := range seen[0].Headers {
					seen[0].Headers[k] = strings.ReplaceAll(v, fmt.Sprint(s.ports[profile]), "PORT")
				}
				got[n] = seen[0].Headers
			}
			if profile == "tls-set" && i&1 == 0 && got[0]["x-forwarded-client-cert"] == "" {
				t.Error("no x-forwarded-client-cert from Envoy: nothing was compared")
			}
			if diff := cmp.Diff(got[0], got[1]); diff != "" {
				t.Errorf("-Envoy +ours:\n%s", diff)
			}
		})
	}
}

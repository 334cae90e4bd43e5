package xdsconfig

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// The certificates in use can be seen: those of a listener,
// which need not serve yet.
func TestCertificates(t *testing.T) {
	w := newWorld(t)
	ca := tlstest.CA(t, "ca")
	p := ca.Leaf(t, "a", tlstest.DNS("a.example"), tlstest.IP("10.0.0.1"), tlstest.Valid(time.Now().Add(-time.Hour), time.Now().Add(49*time.Hour)))
	m, _ := attach(t, w, testBootstrap+"  listeners:\n  "+strings.ReplaceAll(listItem(tlsListener(`{tls_certificates: [`+certYAML(p)+`]}`)), "\n", "\n  "), nil)
	got := m.Certificates()
	if len(got) != 1 || len(got[0].GetCertChain()) != 1 || len(got[0].GetCaCert()) != 0 {
		t.Fatalf("certificates %v", got)
	}
	d := got[0].GetCertChain()[0]
	if d.GetDaysUntilExpiration() != 2 || d.GetSubjectAltNames()[0].GetDns() != "a.example" || d.GetSubjectAltNames()[1].GetIpAddress() != "10.0.0.1" {
		t.Errorf("details %v", d)
	}
}

package relay

import (
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// clientCert does to x-forwarded-client-cert what the manager says. A client
// without a certificate has none to forward.
func (x *Exchange) clientCert(b *hpack.Block, has notes) {
	m := x.m
	if m.ClientCert == call.CertAlwaysForward {
		return
	}
	var tls *call.TLSInfo
	if x.call.Conn != nil {
		tls = x.call.Conn.TLS
	}
	if m.ClientCert == call.CertSanitize || tls == nil || len(tls.PeerDER) == 0 {
		if has&noteCert != 0 {
			drop(b, noteCert)
		}
		return
	}
	if m.ClientCert == call.CertForward {
		return
	}
	if x.d.certFor != m { // once for a connection
		x.d.certFor, x.d.cert = m, certElement(tls, m.ClientCertDetails)
	}
	if m.ClientCert == call.CertAppend && has&noteCert != 0 {
		x.joinField(b, "x-forwarded-client-cert", ",", x.d.cert, true)
		return
	}
	set(b, hpack.NewField("x-forwarded-client-cert", x.d.cert))
}

// certElement describes the client's certificate as an element of
// x-forwarded-client-cert.
func certElement(t *call.TLSInfo, details call.CertDetails) string {
	var parts []string
	for _, u := range t.LocalURIs {
		parts = append(parts, "By="+u)
	}
	parts = append(parts, "Hash="+t.PeerSHA256)
	if details&call.CertPEM != 0 {
		parts = append(parts, `Cert="`+call.URLPEM(t.PeerDER[:1])+`"`)
	}
	if details&call.CertChain != 0 {
		parts = append(parts, `Chain="`+call.URLPEM(t.PeerDER)+`"`)
	}
	if details&call.CertSubject != 0 {
		parts = append(parts, `Subject="`+t.Subject+`"`)
	}
	if details&call.CertURI != 0 {
		if len(t.PeerURIs) == 0 {
			parts = append(parts, "URI=")
		}
		for _, u := range t.PeerURIs {
			parts = append(parts, "URI="+u)
		}
	}
	if details&call.CertDNS != 0 {
		for _, n := range t.PeerDNS {
			parts = append(parts, "DNS="+n)
		}
	}
	return strings.Join(parts, ";")
}

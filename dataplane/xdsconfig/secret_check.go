package xdsconfig

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-proxy/sluice/dataplane/transport"
)

// secret checks what of m can be judged without the context that uses it.
func (a *at) secret(m *tlsv3.Secret) {
	switch m.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		a.field("tls_certificate").certificateData(m.GetTlsCertificate())
	case *tlsv3.Secret_ValidationContext:
		a.field("validation_context").validationData(m.GetValidationContext())
	case *tlsv3.Secret_SessionTicketKeys:
		here := a.field("session_ticket_keys")
		wholly(here, here.ticketKeys(m.GetSessionTicketKeys()))
	case *tlsv3.Secret_GenericSecret:
		a.field("generic_secret").warnf("nothing in this version uses it")
	case nil:
		a.errorf("a secret of no type")
	}
}

func (a *at) certificateData(m *tlsv3.TlsCertificate) {
	chain := a.field("certificate_chain")
	if !chain.pem(m.GetCertificateChain(), "certificate") {
		return
	}
	for _, d := range []struct {
		field string
		data  *corev3.DataSource
	}{{"certificate_chain", m.GetCertificateChain()}, {"private_key", m.GetPrivateKey()}} {
		if d.data.GetSpecifier() == nil {
			a.field(d.field).errorf("value is required")
			return
		}
	}
	wholly(a, a.certificate(m))
}

// validationData checks a context which may be merged with a default one: that
// it is of no use alone is no fault.
func (a *at) validationData(m *tlsv3.CertificateValidationContext) {
	a.field("trusted_ca").pem(m.GetTrustedCa(), "certificate")
	a.field("crl").pem(m.GetCrl(), "CRL")
	a.validationContext(m)
}

// pem checks a PEM that stands in the configuration; it must hold at least one
// of what, "certificate" or "CRL". It returns false if a says why not.
func (a *at) pem(d *corev3.DataSource, what string) bool {
	var text []byte
	switch s := d.GetSpecifier().(type) {
	case *corev3.DataSource_InlineBytes:
		text = s.InlineBytes
	case *corev3.DataSource_InlineString:
		text = []byte(s.InlineString)
	default:
		return true // judged by who reads it
	}
	certs, crls, err := transport.CountPEM(text)
	switch {
	case err != nil:
		a.errorf("%s", err)
	case what == "CRL" && crls == 0, what != "CRL" && certs == 0:
		a.errorf("no %s found in the PEM", what)
	default:
		return true
	}
	return false
}

// wholly checks a secret that stands in the configuration as a whole.
func wholly[T any](a *at, mat *material[T]) {
	if mat == nil || mat.unread || len(mat.paths()) > 0 {
		return
	}
	if _, err := mat.value(nil); err != nil {
		a.errorf("%s", err)
	}
}

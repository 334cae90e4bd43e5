package xdsconfig

import (
	"crypto/tls"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/dataplane/transport"
)

const (
	typeRawBuffer     = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
	typeDownstreamTLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
	typeUpstreamTLS   = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
)

// transportSocket returns the configuration of a transport socket of that
// type; nil for one that leaves the bytes as they are, or if a says why not.
func (a *at) transportSocket(m *corev3.TransportSocket, want string) *anypb.Any {
	if m == nil {
		return nil
	}
	switch t := typeName(m.GetTypedConfig()); {
	case t == want:
		return m.GetTypedConfig()
	case t == typeRawBuffer, t == "" && m.GetName() == "envoy.transport_sockets.raw_buffer":
	default:
		a.errorf("transport_socket %q of type %q: no such transport socket in this version", m.GetName(), t)
	}
	return nil
}

// serverTLS compiles the transport socket of a filter chain; nil: plaintext.
func (a *at) serverTLS(m *corev3.TransportSocket, needs *Secrets) *transport.Server {
	x := a.transportSocket(m, typeDownstreamTLS)
	if x == nil {
		return nil
	}
	here := a.field("transport_socket").field("typed_config")
	c, ok := unpackAs[*tlsv3.DownstreamTlsContext](here, x)
	if !ok {
		return nil
	}
	before := a.r.faults()
	common := here.field("common_tls_context")
	t := &tlsCompiler{common: c.GetCommonTlsContext(), needs: needs}
	o := transport.ServerOptions{
		Certificates:             t.certificates(common),
		Validation:               t.validation(common),
		RequireClientCertificate: c.GetRequireClientCertificate().GetValue(),
		RequireSNI:               c.GetRequireSni().GetValue(),
		FullScan:                 c.GetFullScanCertsOnSniMismatch().GetValue(),
		ALPN:                     t.common.GetAlpnProtocols(),
		Params:                   t.params(common.field("tls_params")),
		DisableTickets:           c.GetDisableStatelessSessionResumption(),
		SessionTimeout:           c.GetSessionTimeout().AsDuration().Truncate(time.Second),
	}
	switch k := c.GetSessionTicketKeysType().(type) {
	case *tlsv3.DownstreamTlsContext_SessionTicketKeys:
		o.TicketKeys = transport.NewSecret[transport.TicketKeys](nil)
		keep(t, here.field("session_ticket_keys"), o.TicketKeys, here.field("session_ticket_keys").ticketKeys(k.SessionTicketKeys))
	case *tlsv3.DownstreamTlsContext_SessionTicketKeysSdsSecretConfig:
		o.TicketKeys = transport.NewSecret[transport.TicketKeys](nil)
		follow(t, here.field("session_ticket_keys_sds_secret_config"), k.SessionTicketKeysSdsSecretConfig, o.TicketKeys,
			func(a *at, s *tlsv3.Secret) *material[transport.TicketKeys] {
				return a.field("session_ticket_keys").ticketKeys(s.GetSessionTicketKeys())
			})
	}
	if p := c.GetOcspStaplePolicy(); p != tlsv3.DownstreamTlsContext_LENIENT_STAPLING {
		here.field("ocsp_staple_policy").errorf("%s: not supported by this version", p)
	}
	if a.r.faults() > before {
		return nil
	}
	s, err := transport.NewServer(o)
	if err == nil && s.Ready() {
		_, err = s.Config() // what only the secrets can show
	}
	if err != nil {
		here.errorf("%s", err)
		return nil
	}
	return s
}

// clientTLS compiles the transport socket of a cluster; nil: plaintext.
func (a *at) clientTLS(m *corev3.TransportSocket, needs *Secrets) *transport.Client {
	x := a.transportSocket(m, typeUpstreamTLS)
	if x == nil {
		return nil
	}
	here := a.field("transport_socket").field("typed_config")
	c, ok := unpackAs[*tlsv3.UpstreamTlsContext](here, x)
	if !ok {
		return nil
	}
	before := a.r.faults()
	common := here.field("common_tls_context")
	t := &tlsCompiler{common: c.GetCommonTlsContext(), needs: needs}
	o := transport.ClientOptions{
		Validation:  t.validation(common),
		ServerName:  c.GetSni(),
		HostSNI:     c.GetAutoHostSni(),
		VerifySNI:   c.GetAutoSniSanValidation(),
		ALPN:        t.common.GetAlpnProtocols(),
		Params:      t.params(common.field("tls_params")),
		MaxSessions: -1,
	}
	if v := c.GetMaxSessionKeys(); v != nil {
		o.MaxSessions = int(v.GetValue())
	}
	switch certs := t.certificates(common); len(certs) {
	case 0:
	case 1:
		o.Certificate = certs[0]
	default:
		common.errorf("a client has one TLS certificate, not %d", len(certs))
	}
	if o.Validation == nil {
		here.warnf("no validation_context: servers are not verified, as in Envoy")
	}
	if a.r.faults() > before {
		return nil
	}
	cl, err := transport.NewClient(o)
	if err == nil && cl.Ready() {
		_, err = cl.Config("")
	}
	if err != nil {
		here.errorf("%s", err)
		return nil
	}
	return cl
}

// tlsCompiler compiles one CommonTlsContext.
type tlsCompiler struct {
	common *tlsv3.CommonTlsContext
	needs  *Secrets
}

// certificates compiles those of the context: its own, else those by SDS.
func (t *tlsCompiler) certificates(a *at) (out []*transport.Secret[transport.Certificate]) {
	for i, c := range t.common.GetTlsCertificates() {
		cell := transport.NewSecret[transport.Certificate](nil)
		here := a.item("tls_certificates", i)
		keep(t, here, cell, here.certificate(c))
		out = append(out, cell)
	}
	if len(out) > 0 {
		return out
	}
	for i, s := range t.common.GetTlsCertificateSdsSecretConfigs() {
		cell := transport.NewSecret[transport.Certificate](nil)
		follow(t, a.item("tls_certificate_sds_secret_configs", i), s, cell,
			func(a *at, s *tlsv3.Secret) *material[transport.Certificate] {
				return a.field("tls_certificate").certificate(s.GetTlsCertificate())
			})
		out = append(out, cell)
	}
	return out
}

// validation compiles the validation context, whichever way it comes; nil:
// there is none.
func (t *tlsCompiler) validation(a *at) *transport.Secret[transport.Validation] {
	cell := transport.NewSecret[transport.Validation](nil)
	switch v := t.common.GetValidationContextType().(type) {
	case *tlsv3.CommonTlsContext_ValidationContext:
		here := a.field("validation_context")
		keep(t, here, cell, here.validationContext(v.ValidationContext))
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		follow(t, a.field("validation_context_sds_secret_config"), v.ValidationContextSdsSecretConfig, cell,
			func(a *at, s *tlsv3.Secret) *material[transport.Validation] {
				return a.field("validation_context").validationContext(s.GetValidationContext())
			})
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		c := v.CombinedValidationContext
		follow(t, a.field("combined_validation_context").field("validation_context_sds_secret_config"), c.GetValidationContextSdsSecretConfig(), cell,
			func(a *at, s *tlsv3.Secret) *material[transport.Validation] {
				if s.GetValidationContext() == nil { // the default alone is not what was meant
					return a.field("validation_context").validationContext(nil)
				}
				m := new(tlsv3.CertificateValidationContext)
				proto.Merge(m, c.GetDefaultValidationContext())
				proto.Merge(m, s.GetValidationContext())
				return a.field("validation_context").validationContext(m)
			})
	default:
		return nil
	}
	return cell
}

var tlsVersions = map[tlsv3.TlsParameters_TlsProtocol]uint16{
	tlsv3.TlsParameters_TLSv1_0: tls.VersionTLS10,
	tlsv3.TlsParameters_TLSv1_1: tls.VersionTLS11,
	tlsv3.TlsParameters_TLSv1_2: tls.VersionTLS12,
	tlsv3.TlsParameters_TLSv1_3: tls.VersionTLS13,
}

func (t *tlsCompiler) params(a *at) transport.Params {
	m := t.common.GetTlsParams()
	p := transport.Params{
		MinVersion: tlsVersions[m.GetTlsMinimumProtocolVersion()],
		MaxVersion: tlsVersions[m.GetTlsMaximumProtocolVersion()],
	}
	for i, s := range m.GetCipherSuites() {
		ids, err := transport.ParseCipher(s)
		if err != nil {
			a.item("cipher_suites", i).errorf("%s", err)
		}
		p.CipherSuites = append(p.CipherSuites, ids...)
	}
	for i, s := range m.GetEcdhCurves() {
		id, err := transport.ParseCurve(s)
		if err != nil {
			a.item("ecdh_curves", i).errorf("%s", err)
			continue
		}
		p.Curves = append(p.Curves, id)
	}
	return p
}

// connectionSocket returns what of a transport socket binds connections: not
// the certificates and authorities themselves, which may be replaced while
// connections stay, as they are when they come by SDS.
func connectionSocket(m *corev3.TransportSocket) proto.Message {
	var c tlsv3.DownstreamTlsContext
	if typeName(m.GetTypedConfig()) != typeDownstreamTLS || m.GetTypedConfig().UnmarshalTo(&c) != nil {
		return m
	}
	c.SessionTicketKeysType = nil
	if common := c.GetCommonTlsContext(); common != nil {
		common.TlsCertificates = nil
		forgetAuthorities(common.GetValidationContext())
		forgetAuthorities(common.GetCombinedValidationContext().GetDefaultValidationContext())
	}
	return &c
}

// forgetAuthorities leaves of a context's authorities only that there are some.
func forgetAuthorities(v *tlsv3.CertificateValidationContext) {
	for _, d := range []*corev3.DataSource{v.GetTrustedCa(), v.GetCrl()} {
		if d != nil {
			d.Reset()
		}
	}
}

package xdsconfig

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/sluice-proxy/sluice/dataplane/route"
	"github.com/sluice-proxy/sluice/dataplane/transport"
)

// material is what a secret is made of: data that stand in the configuration,
// and files that are followed from then on.
type material[T any] struct {
	parts  [][]byte // in the order that parse takes; nil where a file is
	files  []string // by part; "" where there is none
	dir    string   // watched_directory
	unread bool     // files are not read here: there is no value
	parse  func(parts [][]byte) (*T, error)
}

// value makes the secret of the parts and of what the files contain.
func (m *material[T]) value(contents [][]byte) (*T, error) {
	parts := append([][]byte(nil), m.parts...)
	for i, f := range m.files {
		if f != "" {
			parts[i], contents = contents[0], contents[1:]
		}
	}
	return m.parse(parts)
}

// paths returns the files, in the order of the parts.
func (m *material[T]) paths() (out []string) {
	for _, f := range m.files {
		if f != "" {
			out = append(out, f)
		}
	}
	return out
}

// read returns the value as it is now; nil if files are not read here.
func (m *material[T]) read(a *at) (*T, error) {
	var contents [][]byte
	for _, p := range m.paths() {
		if a.r.env.ReadFile == nil {
			return nil, nil
		}
		b, err := a.r.env.ReadFile(p)
		if err != nil {
			return nil, err
		}
		contents = append(contents, b)
	}
	if m.unread {
		return nil, nil
	}
	return m.value(contents)
}

// add appends a part.
func (m *material[T]) add(a *at, d *corev3.DataSource) {
	file := d.GetFilename()
	m.files = append(m.files, file)
	if file == "" {
		m.parts = append(m.parts, a.data(d))
	} else {
		m.parts = append(m.parts, nil)
	}
	switch {
	case file != "" && a.r.env.ReadFile == nil:
		a.field("filename").warnf("%s: read by each node for itself", file)
		m.unread = true
	case d.GetEnvironmentVariable() != "" && a.r.env.ReadFile == nil && a.r.env.LookupEnv == nil:
		m.unread = true
	}
	if w := d.GetWatchedDirectory().GetPath(); w != "" {
		m.dir = w
	}
}

// certificate compiles a TlsCertificate.
func (a *at) certificate(m *tlsv3.TlsCertificate) *material[transport.Certificate] {
	if m == nil {
		a.errorf("value is required")
		return nil
	}
	before := a.r.faults()
	out := &material[transport.Certificate]{
		dir:   m.GetWatchedDirectory().GetPath(),
		parse: func(p [][]byte) (*transport.Certificate, error) { return transport.ParseCertificate(p[0], p[1]) },
	}
	out.add(a.field("certificate_chain"), m.GetCertificateChain())
	out.add(a.field("private_key"), m.GetPrivateKey())
	if a.r.faults() > before { // an environment variable is not set
		return nil
	}
	return out
}

// ticketKeys compiles TlsSessionTicketKeys.
func (a *at) ticketKeys(m *tlsv3.TlsSessionTicketKeys) *material[transport.TicketKeys] {
	if m == nil {
		a.errorf("value is required")
		return nil
	}
	out := &material[transport.TicketKeys]{parse: func(p [][]byte) (*transport.TicketKeys, error) { return transport.NewTicketKeys(p...) }}
	for i, k := range m.GetKeys() {
		out.add(a.item("keys", i), k)
	}
	return out
}

const typeSPIFFE = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"

// validationContext compiles a CertificateValidationContext.
func (a *at) validationContext(m *tlsv3.CertificateValidationContext) *material[transport.Validation] {
	if m == nil {
		a.errorf("value is required")
		return nil
	}
	before := a.r.faults()
	o := transport.ValidationOptions{
		SystemRoots:     m.GetSystemRootCerts() != nil,
		CRLLeafOnly:     m.GetOnlyVerifyLeafCertCrl(),
		SANs:            a.sanMatchers(m),
		AllowExpired:    m.GetAllowExpiredCertificate(),
		AcceptUntrusted: m.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED,
		MaxDepth:        int(m.GetMaxVerifyDepth().GetValue()),
		HideCAs:         m.GetSuppressClientCaList(),
	}
	for i, s := range m.GetVerifyCertificateHash() {
		b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
		if err != nil || len(b) != sha256.Size {
			a.item("verify_certificate_hash", i).errorf("%q is not a SHA-256 in hexadecimal digits", s)
			continue
		}
		o.Hashes = append(o.Hashes, [sha256.Size]byte(b))
	}
	for i, s := range m.GetVerifyCertificateSpki() {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(b) != sha256.Size {
			a.item("verify_certificate_spki", i).errorf("%q is not a SHA-256 in base64", s)
			continue
		}
		o.SPKIs = append(o.SPKIs, [sha256.Size]byte(b))
	}
	out := &material[transport.Validation]{dir: m.GetWatchedDirectory().GetPath()}
	out.add(a.field("trusted_ca"), m.GetTrustedCa())
	out.add(a.field("crl"), m.GetCrl())
	var domains []string
	if x := m.GetCustomValidatorConfig(); x != nil {
		domains = a.field("custom_validator_config").spiffe(x, out)
	}
	if a.r.faults() > before {
		return nil
	}
	out.parse = func(p [][]byte) (*transport.Validation, error) {
		for i, name := range []string{"trusted_ca", "crl"} {
			if out.files[i] != "" && len(bytes.TrimSpace(p[i])) == 0 {
				// It is being written. Taken for "none" it would let everybody in.
				return nil, fmt.Errorf("%s: the file is empty", name)
			}
		}
		o := o
		o.TrustedCA, o.CRL = p[0], p[1]
		for i, d := range domains {
			if o.TrustDomains == nil {
				o.TrustDomains = make(map[string][]byte)
			}
			o.TrustDomains[d] = p[2+i]
		}
		return transport.NewValidation(o)
	}
	return out
}

// spiffe compiles a SPIFFECertValidatorConfig, whose bundles become parts of
// out, and returns their trust domains.
func (a *at) spiffe(x *corev3.TypedExtensionConfig, out *material[transport.Validation]) (domains []string) {
	if t := typeName(x.GetTypedConfig()); t != typeSPIFFE {
		a.errorf("validator %q of type %q: no such validator in this version", x.GetName(), t)
		return nil
	}
	here := a.field("typed_config")
	c, ok := unpackAs[*tlsv3.SPIFFECertValidatorConfig](here, x.GetTypedConfig())
	if !ok {
		return nil
	}
	for i, d := range c.GetTrustDomains() {
		out.add(here.item("trust_domains", i).field("trust_bundle"), d.GetTrustBundle())
		domains = append(domains, d.GetName())
	}
	if len(domains) == 0 {
		here.field("trust_domains").errorf("value is required")
	}
	return domains
}

var sanTypes = map[tlsv3.SubjectAltNameMatcher_SanType]transport.SANType{
	tlsv3.SubjectAltNameMatcher_EMAIL:      transport.SANEmail,
	tlsv3.SubjectAltNameMatcher_DNS:        transport.SANDNS,
	tlsv3.SubjectAltNameMatcher_URI:        transport.SANURI,
	tlsv3.SubjectAltNameMatcher_IP_ADDRESS: transport.SANIP,
	tlsv3.SubjectAltNameMatcher_OTHER_NAME: transport.SANOther,
}

// sanMatchers compiles the names that peers may have.
func (a *at) sanMatchers(m *tlsv3.CertificateValidationContext) (out []transport.SANMatcher) {
	for i, s := range m.GetMatchTypedSubjectAltNames() {
		here := a.item("match_typed_subject_alt_names", i)
		kind, ok := sanTypes[s.GetSanType()]
		if !ok {
			here.field("san_type").errorf("%s: not supported by this version", s.GetSanType())
			continue
		}
		matcher := here.field("matcher").sanMatcher(kind, s.GetMatcher())
		if kind == transport.SANOther {
			if _, err := x509.ParseOID(s.GetOid()); err != nil {
				here.field("oid").errorf("OTHER_NAME needs an object identifier, not %q", s.GetOid())
			}
			matcher.OID = s.GetOid()
		}
		out = append(out, matcher)
	}
	if len(out) > 0 {
		return out
	}
	// The deprecated list matches names of every type, as in Envoy.
	for i, s := range m.GetMatchSubjectAltNames() {
		for _, kind := range []transport.SANType{transport.SANDNS, transport.SANURI, transport.SANEmail, transport.SANIP} {
			out = append(out, a.item("match_subject_alt_names", i).sanMatcher(kind, s))
		}
	}
	return out
}

func (a *at) sanMatcher(kind transport.SANType, m *matcherv3.StringMatcher) transport.SANMatcher {
	out := transport.SANMatcher{Type: kind}
	fold := func(s string) string { return s }
	if m.GetIgnoreCase() {
		fold = strings.ToLower
	}
	by := func(f func(s, want string) bool, want string) func(string) bool {
		want = fold(want)
		return func(s string) bool { return f(fold(s), want) }
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		if kind == transport.SANDNS || !m.GetIgnoreCase() {
			out.Exact = p.Exact
		}
		out.Match = by(func(s, want string) bool { return s == want }, p.Exact)
	case *matcherv3.StringMatcher_Prefix:
		out.Match = by(strings.HasPrefix, p.Prefix)
	case *matcherv3.StringMatcher_Suffix:
		out.Match = by(strings.HasSuffix, p.Suffix)
	case *matcherv3.StringMatcher_Contains:
		out.Match = by(strings.Contains, p.Contains)
	case *matcherv3.StringMatcher_SafeRegex:
		a.foldedRegex(m)
		re, err := route.CompileRegex(p.SafeRegex.GetRegex())
		if err != nil {
			a.field("safe_regex").errorf("%s", err)
			return out
		}
		out.Match = re.Match
	case *matcherv3.StringMatcher_Custom:
		a.field("custom").unsupported()
	}
	out.Text = fmt.Sprintf("%T %v", m.GetMatchPattern(), canonical(nil, m))
	return out
}

package transport

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ValidationOptions are CertificateValidationContext. File contents are PEM.
type ValidationOptions struct {
	TrustedCA   []byte // trusted_ca; empty: chains are not verified, as in Envoy
	SystemRoots bool   // system_root_certs, if TrustedCA is empty
	CRL         []byte
	CRLLeafOnly bool // only_verify_leaf_cert_crl
	SANs        []SANMatcher
	Hashes      [][sha256.Size]byte // of the certificate (verify_certificate_hash)
	SPKIs       [][sha256.Size]byte // of its public key (verify_certificate_spki)
	// AllowExpired takes certificates before and after their time.
	AllowExpired bool
	// AcceptUntrusted lets every peer in; whether its certificate was good is
	// in call.TLSInfo.Verified. (trust_chain_verification: ACCEPT_UNTRUSTED)
	AcceptUntrusted bool
	// MaxDepth bounds the chain above the leaf, trust anchor included; 0: not.
	MaxDepth int
	// TrustDomains replaces TrustedCA: bundles by SPIFFE trust domain. The peer
	// must have one SPIFFE id, and its trust domain chooses the bundle.
	TrustDomains map[string][]byte
	// HideCAs leaves the names of the authorities out of certificate requests.
	HideCAs bool
}

// Validation judges the certificates of peers. Immutable.
type Validation struct {
	o       ValidationOptions
	roots   *x509.CertPool            // nil: chains are not verified
	domains map[string]*x509.CertPool // by SPIFFE trust domain; nil: not SPIFFE
	crls    []*x509.RevocationList
	offered *x509.CertPool // whose names a server sends
	digest  [sha256.Size]byte
}

// NewValidation compiles o.
func NewValidation(o ValidationOptions) (*Validation, error) {
	v := &Validation{o: o}
	var err error
	switch {
	case o.TrustDomains != nil:
		v.domains = make(map[string]*x509.CertPool)
		v.offered = x509.NewCertPool()
		for name, bundle := range o.TrustDomains {
			if v.domains[name], err = v.pool(bundle); err != nil {
				return nil, fmt.Errorf("trust domain %q: %w", name, err)
			}
		}
	case len(strings.TrimSpace(string(o.TrustedCA))) > 0:
		v.offered = x509.NewCertPool()
		if v.roots, err = v.pool(o.TrustedCA); err != nil {
			return nil, fmt.Errorf("trusted CA: %w", err)
		}
	case o.SystemRoots:
		if v.roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("the system's CA certificates: %w", err)
		}
	}
	if len(o.CRL) > 0 {
		_, crls, err := parsePEM(o.CRL)
		if err != nil {
			return nil, err
		}
		if len(crls) == 0 {
			return nil, errors.New("no CRL found in what should be one")
		}
		v.crls = append(v.crls, crls...)
	}
	if o.HideCAs {
		v.offered = nil
	}
	if !v.verifiesChain() {
		// Envoy refuses these, too: they would not protect.
		switch {
		case len(v.crls) > 0:
			return nil, errors.New("a CRL without a trusted CA")
		case len(o.SANs) > 0:
			return nil, errors.New("SAN-based verification of peer certificates without trusted CA is insecure and not allowed")
		case o.AllowExpired:
			return nil, errors.New("certificate validity period is always ignored without trusted CA")
		}
	}
	v.digest = v.fingerprint()
	return v, nil
}

// pool makes a pool of a PEM bundle; the bundle's CRLs join v's.
func (v *Validation) pool(bundle []byte) (*x509.CertPool, error) {
	certs, crls, err := parsePEM(bundle)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate found")
	}
	p := x509.NewCertPool()
	for _, c := range certs {
		v.offered.AddCert(c)
		if v.o.AllowExpired {
			c = timeless(c)
		}
		p.AddCert(c)
	}
	v.crls = append(v.crls, crls...)
	return p, nil
}

// fingerprint tells validations apart that may judge differently.
func (v *Validation) fingerprint() [sha256.Size]byte {
	h := sha256.New()
	o := v.o
	o.SANs = nil
	_, _ = fmt.Fprintf(h, "%+v", o) // maps are printed in the order of their keys
	for _, m := range v.o.SANs {
		if m.Exact == "" && m.Text == "" {
			m.Text = rand.Text()
		}
		_, _ = fmt.Fprintf(h, "%d %q %q %q", m.Type, m.OID, m.Exact, m.Text)
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

func (v *Validation) verifiesChain() bool { return v != nil && (v.roots != nil || v.domains != nil) }

// pins reports that a certificate must be there whatever else is configured.
func (v *Validation) pins() bool {
	return v != nil && (len(v.o.SANs) > 0 || len(v.o.Hashes) > 0 || len(v.o.SPKIs) > 0)
}

// judges reports that peers' certificates are looked at, at all.
func (v *Validation) judges() bool {
	return v != nil && (v.verifiesChain() || v.pins() || v.o.AcceptUntrusted)
}

// A VerifyError says why a peer's certificate was refused.
type VerifyError struct {
	Reason Reason
	Err    error
}

// Reason is the kind of a VerifyError, as Envoy counts them.
type Reason uint8

// Reasons, with the names of Envoy's counters.
const (
	NoCertificate Reason = iota // ssl.fail_verify_no_cert
	BadChain                    // ssl.fail_verify_error
	BadSAN                      // ssl.fail_verify_san
	BadHash                     // ssl.fail_verify_cert_hash
)

func (e *VerifyError) Error() string { return "peer certificate: " + e.Err.Error() }
func (e *VerifyError) Unwrap() error { return e.Err }

// verify judges a peer's chain as it was presented. sentName, if not empty,
// replaces the SAN matchers (auto_sni_san_validation). It ignores
// AcceptUntrusted.
func (v *Validation) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, sentName string, now time.Time) error {
	if len(chain) == 0 {
		return &VerifyError{NoCertificate, errors.New("none was presented")}
	}
	leaf := chain[0]
	if v.verifiesChain() {
		if err := v.verifyChain(chain, usage, now); err != nil {
			return &VerifyError{BadChain, err}
		}
	}
	checked := v.verifiesChain()
	switch {
	case sentName != "":
		if !sentNameMatches(leaf, sentName) {
			return &VerifyError{BadSAN, fmt.Errorf("not for %q but for %s", sentName, sansOf(leaf))}
		}
		checked = true
	case len(v.o.SANs) > 0:
		if !slices.ContainsFunc(v.o.SANs, func(m SANMatcher) bool { return m.matches(leaf) }) {
			return &VerifyError{BadSAN, fmt.Errorf("no subject alternative name of %s is allowed", sansOf(leaf))}
		}
		checked = true
	}
	if len(v.o.Hashes) > 0 || len(v.o.SPKIs) > 0 {
		if !slices.Contains(v.o.Hashes, sha256.Sum256(leaf.Raw)) && !slices.Contains(v.o.SPKIs, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)) {
			return &VerifyError{BadHash, errors.New("neither its hash nor that of its public key is allowed")}
		}
		checked = true
	}
	if !checked {
		return &VerifyError{BadChain, errors.New("nothing is configured to verify it against")}
	}
	return nil
}

func (v *Validation) verifyChain(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	roots := v.roots
	if v.domains != nil {
		var err error
		if roots, err = v.bundleOf(chain[0]); err != nil {
			return err
		}
		usage = x509.ExtKeyUsageAny // SPIFFE asks for none
	}
	if v.o.AllowExpired {
		chain = slices.Clone(chain)
		for i, c := range chain {
			chain[i] = timeless(c)
		}
	}
	pool := x509.NewCertPool()
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "x509: "))
	}
	for _, c := range chains {
		if depth := len(c) - 1; v.o.MaxDepth > 0 && depth > v.o.MaxDepth {
			err = fmt.Errorf("the chain is %d certificates deep, %d are allowed", depth, v.o.MaxDepth)
		} else if err = v.revoked(c, now); err == nil {
			return nil
		}
	}
	return err
}

// bundleOf returns the trust bundle for the SPIFFE id of leaf (X509-SVID §2-4).
func (v *Validation) bundleOf(leaf *x509.Certificate) (*x509.CertPool, error) {
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return nil, errors.New("an authority's certificate is no X.509-SVID")
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" || leaf.URIs[0].Host == "" {
		return nil, fmt.Errorf("needs exactly one SPIFFE id, has %s", sansOf(leaf))
	}
	p := v.domains[leaf.URIs[0].Host]
	if p == nil {
		return nil, fmt.Errorf("no bundle of trust domain %q", leaf.URIs[0].Host)
	}
	return p, nil
}

// timeless returns c as if it were valid for ever. The signature is that of the
// raw bytes, which do not change.
func timeless(c *x509.Certificate) *x509.Certificate {
	d := *c
	d.NotBefore, d.NotAfter = time.Time{}, time.Unix(1<<40, 0)
	return &d
}

// sansOf lists the names of c for people.
func sansOf(c *x509.Certificate) string {
	names := slices.Concat(c.DNSNames, c.EmailAddresses)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "(no subject alternative names)"
	}
	return strings.Join(names, ", ")
}

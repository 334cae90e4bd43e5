// Package tlstest makes certificates for tests.
package tlstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

var serial atomic.Int64

// Pair is a certificate with its key.
type Pair struct {
	Cert  *x509.Certificate
	Key   crypto.Signer
	Chain []byte // PEM: the certificate, then its intermediates
	PEM   []byte // PEM of the key
}

// Option changes the template of a certificate, or the kind of its key.
type Option func(*spec)

type spec struct {
	x509.Certificate
	rsa bool
}

// DNS adds DNS names.
func DNS(names ...string) Option {
	return func(s *spec) { s.DNSNames = append(s.DNSNames, names...) }
}

// URI adds URI names.
func URI(uris ...string) Option {
	return func(s *spec) {
		for _, u := range uris {
			p, err := url.Parse(u)
			if err != nil {
				panic(err) // a fault of the test
			}
			s.URIs = append(s.URIs, p)
		}
	}
}

// IP adds IP addresses.
func IP(ips ...string) Option {
	return func(s *spec) {
		for _, ip := range ips {
			s.IPAddresses = append(s.IPAddresses, netip.MustParseAddr(ip).AsSlice())
		}
	}
}

// Other makes an otherName of a type (RFC 5280 §4.2.1.6) with a value that is a
// string with the given tag the one subject alternative name.
func Other(oid asn1.ObjectIdentifier, tag int, value string) Option {
	return func(s *spec) {
		wrap := func(class, tag int, b []byte) []byte {
			b, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: tag == 0 || tag == asn1.TagSequence, Bytes: b})
			if err != nil {
				panic(err) // a fault of the test
			}
			return b
		}
		id, err := asn1.Marshal(oid)
		if err != nil {
			panic(err)
		}
		name := append(id, wrap(asn1.ClassContextSpecific, 0, wrap(asn1.ClassUniversal, tag, []byte(value)))...)
		s.ExtraExtensions = append(s.ExtraExtensions, pkix.Extension{
			Id:    asn1.ObjectIdentifier{2, 5, 29, 17},
			Value: wrap(asn1.ClassUniversal, asn1.TagSequence, wrap(asn1.ClassContextSpecific, 0, name)),
		})
	}
}

// Email adds mail addresses.
func Email(names ...string) Option {
	return func(s *spec) { s.EmailAddresses = append(s.EmailAddresses, names...) }
}

// Valid sets the time of validity.
func Valid(from, to time.Time) Option { return func(s *spec) { s.NotBefore, s.NotAfter = from, to } }

// RSA makes the key RSA of 2,048 bits; otherwise it is ECDSA P-256.
func RSA() Option { return func(s *spec) { s.rsa = true } }

// Usage replaces the extended key usages.
func Usage(u ...x509.ExtKeyUsage) Option { return func(s *spec) { s.ExtKeyUsage = u } }

// CA returns a new self-signed authority.
func CA(t testing.TB, name string, opts ...Option) *Pair { return issue(t, nil, name, true, opts) }

// Intermediate returns an authority below p.
func (p *Pair) Intermediate(t testing.TB, name string, opts ...Option) *Pair {
	return issue(t, p, name, true, opts)
}

// Leaf returns a certificate for servers and clients, signed by p.
func (p *Pair) Leaf(t testing.TB, name string, opts ...Option) *Pair {
	return issue(t, p, name, false, opts)
}

// CRL returns a PEM revocation list of p.
func (p *Pair) CRL(t testing.TB, revoked ...*Pair) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.Cert.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func issue(t testing.TB, by *Pair, name string, ca bool, opts []Option) *Pair {
	t.Helper()
	s := &spec{Certificate: x509.Certificate{
		SerialNumber:          big.NewInt(serial.Add(1)),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}}
	if ca {
		s.IsCA, s.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	} else {
		s.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, o := range opts {
		o(s)
	}
	key := newKey(t, s.rsa)
	parent, signer := &s.Certificate, key
	if by != nil {
		parent, signer = by.Cert, by.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, &s.Certificate, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pair{
		Cert: c, Key: key,
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		PEM:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
	}
	if by != nil && by.Cert.Issuer.String() != by.Cert.Subject.String() {
		p.Chain = append(p.Chain, by.Chain...)
	}
	return p
}

func newKey(t testing.TB, rsaKey bool) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if rsaKey {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

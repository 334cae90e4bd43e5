package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Certificate is a certificate chain with the private key of its leaf.
// Immutable.
type Certificate struct {
	pair  tls.Certificate
	names []string // lower case; a wildcard "*.a.b" is kept as ".a.b"
	rsa   bool     // else the key is of a newer kind, which needs a capable client
}

// ParseCertificate reads a PEM certificate chain, leaf first, and the PEM key
// of the leaf. It fails if they do not belong together.
func ParseCertificate(chain, key []byte) (*Certificate, error) {
	if len(bytes.TrimSpace(chain)) == 0 {
		return nil, errors.New("the certificate chain is empty")
	}
	if len(bytes.TrimSpace(key)) == 0 {
		return nil, errors.New("the private key is empty")
	}
	if b, _ := pem.Decode(key); b != nil && (b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "") {
		return nil, errors.New("the private key is encrypted: not supported by this version")
	}
	if isCut(chain) {
		return nil, errCut
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	leaf := pair.Leaf
	c := &Certificate{pair: pair, rsa: leaf.PublicKeyAlgorithm == x509.RSA}
	// As in Envoy, the common name counts only if there is no DNS name.
	names := leaf.DNSNames
	if len(names) == 0 && leaf.Subject.CommonName != "" {
		names = []string{leaf.Subject.CommonName}
	}
	for _, n := range names {
		n = strings.ToLower(n)
		if strings.HasPrefix(n, "*.") {
			n = n[1:]
		}
		c.names = append(c.names, n)
	}
	return c, nil
}

// Leaf returns the certificate itself. Callers must not change it.
func (c *Certificate) Leaf() *x509.Certificate { return c.pair.Leaf }

// certificates chooses the certificate of a handshake by server name, as
// Envoy's default certificate selector does: the exact name, then the wildcard
// of one label, then, with fullScan, any that suits the client, then the
// first. Among those of one name a client that can do better than RSA does.
type certificates struct {
	all      []*Certificate
	byName   map[string][]*Certificate
	fullScan bool
}

func newCertificates(all []*Certificate, fullScan bool) *certificates {
	cs := &certificates{all: all, byName: make(map[string][]*Certificate), fullScan: fullScan}
	for _, c := range all {
		for _, n := range c.names {
			cs.byName[n] = append(cs.byName[n], c)
		}
	}
	return cs
}

// choose implements tls.Config.GetCertificate.
func (cs *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(cs.all) == 1 {
		return &cs.all[0].pair, nil // also for a name it does not have
	}
	// Without the name, so that only what the client can do is judged.
	able := *hello
	able.ServerName = ""
	if name := strings.ToLower(strings.TrimSuffix(hello.ServerName, ".")); name != "" {
		if c := best(&able, cs.byName[name]); c != nil {
			return &c.pair, nil
		}
		if i := strings.IndexByte(name[1:], '.'); i >= 0 {
			if c := best(&able, cs.byName[name[1+i:]]); c != nil {
				return &c.pair, nil
			}
		}
		if !cs.fullScan {
			return &cs.all[0].pair, nil
		}
	}
	if c := best(&able, cs.all); c != nil {
		return &c.pair, nil
	}
	return &cs.all[0].pair, nil
}

// best returns the first certificate that the client can do and whose key is
// not RSA, else the first RSA one, else nil.
func best(able *tls.ClientHelloInfo, cs []*Certificate) *Certificate {
	var second *Certificate
	for _, c := range cs {
		switch {
		case c.rsa && second == nil:
			second = c
		case !c.rsa && able.SupportsCertificate(&c.pair) == nil:
			return c
		}
	}
	return second
}

// CountPEM reads a PEM bundle and returns how many certificates and CRLs it
// has.
func CountPEM(data []byte) (certificates, crls int, err error) {
	certs, lists, err := parsePEM(data)
	return len(certs), len(lists), err
}

// errCut is a PEM file that ends within a block: it is being written, or was
// not to its end.
var errCut = errors.New("the last block of the PEM is cut")

// isCut reports that data end within a block, which pem.Decode passes over.
func isCut(data []byte) bool {
	for {
		b, rest := pem.Decode(data)
		if b == nil {
			return bytes.Contains(data, []byte("-----BEGIN "))
		}
		data = rest
	}
}

// parsePEM reads all certificates of a PEM file, and its CRLs.
func parsePEM(data []byte) (certs []*x509.Certificate, crls []*x509.RevocationList, err error) {
	if isCut(data) {
		return nil, nil, errCut
	}
	for len(data) > 0 {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		switch b.Type {
		case "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE":
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
			}
			certs = append(certs, c)
		case "X509 CRL":
			l, err := parseCRL(b.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("CRL %d: %w", len(crls)+1, err)
			}
			crls = append(crls, l)
		}
	}
	return certs, crls, nil
}

package transport

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

// Extensions of CRLs that may be critical without changing what one says.
var (
	oidAuthorityKey = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber    = asn1.ObjectIdentifier{2, 5, 29, 20}
)

// parseCRL reads a DER CRL. One that covers only a part of what its issuer has
// issued (delta, partitioned, indirect) is refused: it cannot say that a
// certificate is good.
func parseCRL(der []byte) (*x509.RevocationList, error) {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	for _, e := range l.Extensions {
		if e.Critical && !e.Id.Equal(oidAuthorityKey) && !e.Id.Equal(oidCRLNumber) {
			return nil, fmt.Errorf("critical extension %v: partial CRLs are not supported", e.Id)
		}
	}
	return l, nil
}

// errNoCRL is OpenSSL's "unable to get certificate CRL".
var errNoCRL = errors.New("no CRL of its issuer")

// revoked returns why the certificates of a verified chain, leaf first, cannot
// be taken as not revoked. If there is any CRL, one of every authority of the
// chain must be there (Envoy), or, with leafOnly, of the leaf's issuer.
func (v *Validation) revoked(chain []*x509.Certificate, now time.Time) error {
	if len(v.crls) == 0 {
		return nil
	}
	n := len(chain)
	if v.o.CRLLeafOnly {
		n = 1
	}
	for i, c := range chain[:n] {
		issuer := c
		if i+1 < len(chain) {
			issuer = chain[i+1]
		} else if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			break // an intermediate is the trust anchor: its issuer is unknown
		}
		if err := v.revokedBy(issuer, c, now); err != nil {
			return fmt.Errorf("certificate %q: %w", c.Subject, err)
		}
	}
	return nil
}

func (v *Validation) revokedBy(issuer, c *x509.Certificate, now time.Time) error {
	found := errNoCRL
	for _, l := range v.crls {
		if !bytes.Equal(l.RawIssuer, issuer.RawSubject) {
			continue
		}
		if err := l.CheckSignatureFrom(issuer); err != nil {
			found = fmt.Errorf("its issuer's CRL: %w", err)
			continue
		}
		if now.Before(l.ThisUpdate) || !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
			found = errors.New("the CRL of its issuer is out of date")
			continue
		}
		for i := range l.RevokedCertificateEntries {
			if l.RevokedCertificateEntries[i].SerialNumber.Cmp(c.SerialNumber) == 0 {
				return errors.New("it is revoked")
			}
		}
		return nil // as OpenSSL, the first good CRL decides
	}
	return found
}

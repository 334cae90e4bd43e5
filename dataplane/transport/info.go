package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Info says what a finished handshake told. cs must be of a handshake with a
// config of s.
func (s *Server) Info(cs *tls.ConnectionState) *call.TLSInfo {
	t := &call.TLSInfo{
		ServerName: cs.ServerName,
		Protocol:   cs.NegotiatedProtocol,
		Version:    cs.Version,
		Cipher:     cs.CipherSuite,
		Resumed:    cs.DidResume,
		LocalURIs:  s.localURIs(),
	}
	if len(cs.PeerCertificates) == 0 {
		return t
	}
	leaf := cs.PeerCertificates[0]
	for _, u := range leaf.URIs {
		t.PeerURIs = append(t.PeerURIs, u.String())
	}
	t.PeerDNS = leaf.DNSNames
	t.Subject = leaf.Subject.String()
	sum := sha256.Sum256(leaf.Raw)
	t.PeerSHA256 = hex.EncodeToString(sum[:])
	for _, c := range cs.PeerCertificates {
		t.PeerDER = append(t.PeerDER, c.Raw)
	}
	t.Verified = s.verified(cs)
	return t
}

// localURIs returns the URI SANs of our certificates, if all have the same:
// which of them a handshake took is not known afterwards.
func (s *Server) localURIs() (out []string) {
	for i, secret := range s.o.Certificates {
		c := secret.Get()
		if c == nil || c.pair.Leaf == nil {
			return nil
		}
		var uris []string
		for _, u := range c.pair.Leaf.URIs {
			uris = append(uris, u.String())
		}
		if i > 0 && !slices.Equal(uris, out) {
			return nil
		}
		out = uris
	}
	return out
}

// verified reports whether the client's certificate is good. Under
// AcceptUntrusted the handshake did not ask.
func (s *Server) verified(cs *tls.ConnectionState) bool {
	v := s.o.Validation.Get()
	if !v.judges() {
		return false
	}
	return !v.o.AcceptUntrusted || v.verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, "", s.time()) == nil
}

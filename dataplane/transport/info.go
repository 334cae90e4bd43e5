package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Info says what the handshake, which has ended in cs, told.
func (h Handshake) Info(cs *tls.ConnectionState) *call.TLSInfo {
	t := &call.TLSInfo{
		ServerName: cs.ServerName,
		Protocol:   cs.NegotiatedProtocol,
		Version:    cs.Version,
		Cipher:     cs.CipherSuite,
		Resumed:    cs.DidResume,
		LocalURIs:  h.st.localURIs(),
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
	t.Verified = h.verified(cs)
	return t
}

// localURIs returns the URI SANs of our certificates, if all have the same:
// which of them a handshake took is not known afterwards.
func (st *serverState) localURIs() (out []string) {
	for i, c := range st.certs {
		if c.pair.Leaf == nil {
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
func (h Handshake) verified(cs *tls.ConnectionState) bool {
	v := h.st.validation
	if !v.judges() {
		return false
	}
	return !v.o.AcceptUntrusted || v.verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, "", h.s.time()) == nil
}

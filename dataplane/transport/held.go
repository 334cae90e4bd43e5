package transport

import "crypto/x509"

// Held are the certificates that a context has now, for people.
type Held struct {
	Own         []*x509.Certificate // leaves, in the order of the configuration
	Authorities []*x509.Certificate
}

// Held returns the server's certificates and the authorities of its clients.
func (s *Server) Held() (h Held) {
	for _, secret := range s.o.Certificates {
		h.own(secret.Get())
	}
	h.Authorities = s.o.Validation.Get().authorities()
	return h
}

// Held returns the client's certificate and the authorities of its servers.
func (c *Client) Held() (h Held) {
	h.own(c.o.Certificate.Get())
	h.Authorities = c.o.Validation.Get().authorities()
	return h
}

func (h *Held) own(c *Certificate) {
	if c != nil && c.Leaf() != nil {
		h.Own = append(h.Own, c.Leaf())
	}
}

// authorities returns those that the configuration names: not the system's.
func (v *Validation) authorities() (out []*x509.Certificate) {
	if v == nil {
		return nil
	}
	bundles := [][]byte{v.o.TrustedCA}
	for _, b := range v.o.TrustDomains {
		bundles = append(bundles, b)
	}
	for _, b := range bundles {
		certs, _, _ := parsePEM(b) // it was read before
		out = append(out, certs...)
	}
	return out
}

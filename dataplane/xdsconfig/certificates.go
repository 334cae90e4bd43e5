package xdsconfig

import (
	"crypto/x509"
	"maps"
	"slices"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-proxy/sluice/dataplane/transport"
)

// Certificates returns what the TLS contexts of all that serves or warms hold:
// one entry for each context, clusters first.
func (m *Manager) Certificates() []*adminv3.Certificate {
	var held []transport.Held
	m.do(func() {
		for _, name := range slices.Sorted(maps.Keys(m.clusters)) {
			for _, u := range []*clusterUnit{m.clusters[name].active, m.clusters[name].warming} {
				if u == nil {
					continue
				}
				if c, ok := u.cl.Config().Options.TLS.(*transport.Client); ok {
					held = append(held, c.Held())
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(m.listeners)) {
			for _, u := range []*listenerUnit{m.listeners[name].active, m.listeners[name].warming} {
				if u == nil {
					continue
				}
				for _, ch := range u.res.value.Chains.Chains() {
					if s, ok := ch.TLS.(*transport.Server); ok {
						held = append(held, s.Held())
					}
				}
			}
		}
	})
	var out []*adminv3.Certificate
	now := time.Now()
	for _, h := range held {
		if len(h.Own)+len(h.Authorities) == 0 {
			continue
		}
		out = append(out, &adminv3.Certificate{CaCert: certificateDetails(h.Authorities, now), CertChain: certificateDetails(h.Own, now)})
	}
	return out
}

func certificateDetails(certs []*x509.Certificate, now time.Time) (out []*adminv3.CertificateDetails) {
	for _, c := range certs {
		d := &adminv3.CertificateDetails{
			SerialNumber:        c.SerialNumber.Text(16),
			DaysUntilExpiration: uint64(max(c.NotAfter.Sub(now)/(24*time.Hour), 0)),
			ValidFrom:           timestamppb.New(c.NotBefore),
			ExpirationTime:      timestamppb.New(c.NotAfter),
		}
		for _, n := range c.DNSNames {
			d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Dns{Dns: n}})
		}
		for _, u := range c.URIs {
			d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Uri{Uri: u.String()}})
		}
		for _, ip := range c.IPAddresses {
			d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_IpAddress{IpAddress: ip.String()}})
		}
		out = append(out, d)
	}
	return out
}

package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// TestCertificateChoice: which certificate a server name gets.
func TestCertificateChoice(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	first := ca.Leaf(t, "first", tlstest.DNS("first.org"))
	exact := ca.Leaf(t, "exact", tlstest.DNS("a.example.com"))
	wild := ca.Leaf(t, "wild", tlstest.DNS("*.example.com"))
	rsa := ca.Leaf(t, "rsa", tlstest.DNS("both.org"), tlstest.RSA())
	ecdsa := ca.Leaf(t, "ecdsa", tlstest.DNS("both.org"))
	byCN := ca.Leaf(t, "cn.org")
	certs := []*Secret[Certificate]{}
	for _, p := range []*tlstest.Pair{first, exact, wild, rsa, ecdsa, byCN} {
		certs = append(certs, certificate(t, p))
	}
	onlyRSA := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	tests := []struct {
		sni     string
		ciphers []uint16 // of a TLS 1.2 client; nil: TLS 1.3
		want    string
	}{
		{"first.org", nil, "first"},
		{"a.example.com", nil, "exact"},
		{"A.EXAMPLE.com", nil, "exact"},
		{"b.example.com", nil, "wild"},
		{"c.b.example.com", nil, "first"},
		{"example.com", nil, "first"},
		{"unknown.org", nil, "first"},
		{"cn.org", nil, "cn.org"},
		{"both.org", nil, "ecdsa"},
		{"both.org", onlyRSA, "rsa"},
		{"", nil, "first"},
		{"", onlyRSA, "rsa"}, // without a name, what suits the client
	}
	s := server(t, ServerOptions{Certificates: certs})
	cfg, err := s.Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		cc := &tls.Config{ServerName: tt.sni, InsecureSkipVerify: true}
		if tt.ciphers != nil {
			cc.MaxVersion, cc.CipherSuites = tls.VersionTLS12, tt.ciphers
		}
		m := meet(t, cfg, cc)
		if !m.ok() {
			t.Fatalf("%q: server %v, client %v", tt.sni, m.serverErr, m.clientErr)
		}
		if got := m.client.PeerCertificates[0].Subject.CommonName; got != tt.want {
			t.Errorf("%q (ciphers %v): certificate %q, want %q", tt.sni, tt.ciphers, got, tt.want)
		}
	}
}

// TestALPN: exactly what is configured, or nothing; no offer is fatal.
func TestALPN(t *testing.T) {
	cert := certificate(t, tlstest.CA(t, "ca").Leaf(t, "x"))
	tests := []struct {
		name    string
		server  []string
		offered []string
		want    string
	}{
		{"none on either side", nil, nil, ""},
		{"unexpected offer", nil, []string{"kuma"}, ""},
		{"chosen", []string{"h2", "http/1.1"}, []string{"http/1.1", "h2"}, "h2"},
		{"client without", []string{"h2"}, nil, ""},
		{"no overlap", []string{"h2"}, []string{"kuma"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := server(t, ServerOptions{Certificates: []*Secret[Certificate]{cert}, ALPN: tt.server}).Config()
			if err != nil {
				t.Fatal(err)
			}
			m := meet(t, cfg, &tls.Config{NextProtos: tt.offered, InsecureSkipVerify: true})
			if !m.ok() || m.server.NegotiatedProtocol != tt.want {
				t.Errorf("server: %v, %q; want %q", m.serverErr, m.server.NegotiatedProtocol, tt.want)
			}
		})
	}
}

// TestClientCertificates: who is let in, and what is known of them.
func TestClientCertificates(t *testing.T) {
	ca, other := tlstest.CA(t, "ca"), tlstest.CA(t, "other")
	srv := certificate(t, ca.Leaf(t, "server"))
	good := ca.Leaf(t, "good", tlstest.URI("spiffe://td/good"), tlstest.DNS("good.org"))
	bad := other.Leaf(t, "bad")
	type who = *tlstest.Pair
	tests := []struct {
		name    string
		o       ServerOptions
		v       *ValidationOptions
		peer    who
		fails   bool
		reason  any // of the failure, if it was ours
		present bool
		valid   bool
	}{
		{"not asked", ServerOptions{}, nil, good, false, nil, false, false},
		{"optional, none", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain}, nil, false, nil, false, false},
		{"optional, good", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain}, good, false, nil, true, true},
		{"optional, bad", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain}, bad, true, BadChain, false, false},
		{"required, good", ServerOptions{RequireClientCertificate: true}, &ValidationOptions{TrustedCA: ca.Chain}, good, false, nil, true, true},
		{"required, none", ServerOptions{RequireClientCertificate: true}, &ValidationOptions{TrustedCA: ca.Chain}, nil, true, nil, false, false},
		{"names require one", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain, SANs: []SANMatcher{{Type: SANDNS, Exact: "good.org"}}}, nil, true, nil, false, false},
		{"names", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain, SANs: []SANMatcher{{Type: SANDNS, Exact: "good.org"}}}, good, false, nil, true, true},
		{"wrong name", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain, SANs: []SANMatcher{{Type: SANDNS, Exact: "else.org"}}}, good, true, BadSAN, false, false},
		{"untrusted accepted", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain, AcceptUntrusted: true}, bad, false, nil, true, false},
		{"trusted seen", ServerOptions{}, &ValidationOptions{TrustedCA: ca.Chain, AcceptUntrusted: true}, good, false, nil, true, true},
		{"an empty CA verifies nothing and asks nobody", ServerOptions{}, &ValidationOptions{TrustedCA: []byte(" ")}, bad, false, nil, false, false},
		{"no server name", ServerOptions{RequireSNI: true}, nil, nil, true, nil, false, false},
	}
	for _, tt := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tt.name+" "+tls.VersionName(version), func(t *testing.T) {
				tt.o.Certificates = []*Secret[Certificate]{srv}
				if tt.v != nil {
					tt.o.Validation = validation(t, *tt.v)
				}
				s := server(t, tt.o)
				co := ClientOptions{Params: Params{MaxVersion: version}}
				if tt.peer != nil {
					co.Certificate = certificate(t, tt.peer)
				}
				m := between(t, s, client(t, co), "")
				if (m.serverErr != nil) != tt.fails || tt.reason != nil && reason(m.serverErr) != tt.reason {
					t.Fatalf("server: %v; want failing %v (%v)", m.serverErr, tt.fails, tt.reason)
				}
				if tt.fails {
					if m.clientErr == nil {
						t.Error("the client was not told")
					}
					return
				}
				info := m.hs.Info(&m.server)
				if (info.PeerSHA256 != "") != tt.present || info.Verified != tt.valid {
					t.Errorf("present %v, verified %v; want %v, %v", info.PeerSHA256 != "", info.Verified, tt.present, tt.valid)
				}
				if tt.peer == good && tt.present {
					if diff := cmp.Diff([]string{"spiffe://td/good", "good.org", "CN=good"}, []string{info.PeerURIs[0], info.PeerDNS[0], info.Subject}); diff != "" {
						t.Errorf("identity (-want +got):\n%s", diff)
					}
				}
			})
		}
	}
}

func TestServerRefused(t *testing.T) {
	cert := certificate(t, tlstest.CA(t, "ca").Leaf(t, "x"))
	for want, o := range map[string]ServerOptions{
		"no TLS certificate": {},
		"nothing says how":   {Certificates: []*Secret[Certificate]{cert}, RequireClientCertificate: true},
		"above the maximum":  {Certificates: []*Secret[Certificate]{cert}, Params: Params{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}},
	} {
		if _, err := NewServer(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ...%s...", err, want)
		}
	}
	s := server(t, ServerOptions{Certificates: []*Secret[Certificate]{cert}, RequireClientCertificate: true, Validation: validation(t, ValidationOptions{})})
	if _, err := s.Config(); err == nil {
		t.Error("required client certificates that nothing verifies were accepted")
	}
}

// TestSecretsReplaced: handshakes use the newest secrets; before the first one
// there is none.
func TestSecretsReplaced(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	cell := NewSecret[Certificate](nil)
	s := server(t, ServerOptions{Certificates: []*Secret[Certificate]{cell}})
	if _, err := s.Config(); !errors.Is(err, ErrNotReady) || s.Ready() {
		t.Fatalf("without a certificate: %v", err)
	}
	c := client(t, ClientOptions{Validation: validation(t, ValidationOptions{TrustedCA: ca.Chain})})
	for _, name := range []string{"one", "two"} {
		cell.Set(certificate(t, ca.Leaf(t, name)).Get())
		m := between(t, s, c, "")
		if !m.ok() {
			t.Fatal(m.serverErr, m.clientErr)
		}
		if got := m.client.PeerCertificates[0].Subject.CommonName; got != name {
			t.Errorf("certificate %q, want %q", got, name)
		}
	}
	one, _ := s.Config()
	if two, _ := s.Config(); one != two {
		t.Error("a new config although nothing changed")
	}
}

// TestResumption: sessions are resumed within a context, and only as long as
// nothing that judged the client has changed.
func TestResumption(t *testing.T) {
	ca, other := tlstest.CA(t, "ca"), tlstest.CA(t, "other")
	srv := certificate(t, ca.Leaf(t, "server"))
	key := make([]byte, 80)
	keys, err := NewTicketKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	trust := func(p ...*tlstest.Pair) *Validation {
		var pem []byte
		for _, x := range p {
			pem = append(pem, x.Chain...)
		}
		return validation(t, ValidationOptions{TrustedCA: pem}).Get()
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			now := time.Now()
			cell := NewSecret(trust(ca))
			newServer := func(tk *Secret[TicketKeys], v *Secret[Validation]) *Server {
				s := server(t, ServerOptions{Certificates: []*Secret[Certificate]{srv}, Validation: v, TicketKeys: tk, SessionTimeout: time.Hour})
				s.now = func() time.Time { return now }
				return s
			}
			shared := NewSecret(keys)
			a, b, c := newServer(nil, cell), newServer(shared, cell), newServer(shared, cell)
			optional := newServer(shared, validation(t, ValidationOptions{TrustedCA: ca.Chain, AcceptUntrusted: true}))
			cl := client(t, ClientOptions{Certificate: certificate(t, ca.Leaf(t, "c")), Params: Params{MaxVersion: version}, MaxSessions: -1, ServerName: "x.org"})
			steps := []struct {
				name    string
				s       *Server
				before  func()
				resumed bool
			}{
				{"first", a, func() {}, false},
				{"again", a, func() {}, true},
				{"another context", b, func() {}, false},
				{"same keys and validation", c, func() {}, true},
				{"same keys, other validation", optional, func() {}, false},
				{"back", b, func() {}, false},
				{"validation replaced", b, func() { cell.Set(trust(ca, other)) }, false},
				{"again with it", b, func() {}, true},
				{"its time is over", b, func() { now = now.Add(2 * time.Hour) }, false},
				{"certificate has expired", c, func() { now = now.Add(48 * time.Hour) }, false},
			}
			for _, st := range steps {
				st.before()
				m := between(t, st.s, cl, "")
				if st.name == "certificate has expired" {
					if reason(m.serverErr) != BadChain {
						t.Errorf("%s: %v", st.name, m.serverErr)
					}
					continue
				}
				if !m.ok() {
					t.Fatalf("%s: %v, %v", st.name, m.serverErr, m.clientErr)
				}
				if m.server.DidResume != st.resumed {
					t.Errorf("%s: resumed %v", st.name, m.server.DidResume)
				}
				if info := m.hs.Info(&m.server); info.PeerSHA256 == "" || info.Resumed != st.resumed {
					t.Errorf("%s: the client's certificate is unknown", st.name)
				}
			}
		})
	}
}

// TestVerifiedByItsOwnSecrets: what is told of a client is what its handshake
// saw, not what came after it began: one that nobody verified is not verified.
func TestVerifiedByItsOwnSecrets(t *testing.T) {
	ca, other := tlstest.CA(t, "ca"), tlstest.CA(t, "other")
	open, strict := ValidationOptions{TrustedCA: ca.Chain, AcceptUntrusted: true}, ValidationOptions{TrustedCA: ca.Chain}
	for name, tt := range map[string]struct {
		first, then ValidationOptions
		peer        *tlstest.Pair
		verified    bool
	}{
		"stranger, then none is let in": {open, strict, other.Leaf(t, "bad"), false},
		"good, then another CA":         {strict, ValidationOptions{TrustedCA: other.Chain, AcceptUntrusted: true}, ca.Leaf(t, "good"), true},
	} {
		t.Run(name, func(t *testing.T) {
			cell, cert := validation(t, tt.first), certificate(t, ca.Leaf(t, "server", tlstest.URI("spiffe://td/old")))
			s := server(t, ServerOptions{Certificates: []*Secret[Certificate]{cert}, Validation: cell})
			m := between(t, s, client(t, ClientOptions{Certificate: certificate(t, tt.peer)}), "")
			if !m.ok() {
				t.Fatalf("server %v, client %v", m.serverErr, m.clientErr)
			}
			cell.Set(validation(t, tt.then).Get())
			cert.Set(certificate(t, ca.Leaf(t, "server", tlstest.URI("spiffe://td/new"))).Get())
			info := m.hs.Info(&m.server)
			if info.Verified != tt.verified || info.LocalURIs[0] != "spiffe://td/old" {
				t.Errorf("verified %v, want %v; our URI %v", info.Verified, tt.verified, info.LocalURIs)
			}
		})
	}
}

// TestClientVerifies: what a server must show.
func TestClientVerifies(t *testing.T) {
	ca, other := tlstest.CA(t, "ca"), tlstest.CA(t, "other")
	trusted := &ValidationOptions{TrustedCA: ca.Chain}
	tests := []struct {
		name string
		o    ClientOptions
		v    *ValidationOptions
		host string
		srv  *tlstest.Pair
		want any // reason; nil: it is content
		sni  string
	}{
		{"no CA, no verification", ClientOptions{ServerName: "a.org"}, nil, "h.org", other.Leaf(t, "x"), nil, "a.org"},
		{"an empty CA", ClientOptions{}, &ValidationOptions{}, "", other.Leaf(t, "x"), nil, ""},
		{"a CA asks for no name", ClientOptions{ServerName: "a.org"}, trusted, "", ca.Leaf(t, "x"), nil, "a.org"},
		{"another CA", ClientOptions{}, trusted, "", other.Leaf(t, "x"), BadChain, ""},
		{"sent name", ClientOptions{ServerName: "a.org", VerifySNI: true}, trusted, "", ca.Leaf(t, "x", tlstest.DNS("*.org")), nil, "a.org"},
		{"not the sent name", ClientOptions{ServerName: "a.org", VerifySNI: true}, trusted, "", ca.Leaf(t, "x", tlstest.DNS("b.org")), BadSAN, ""},
		{"the host's name", ClientOptions{ServerName: "a.org", HostSNI: true, VerifySNI: true}, trusted, "h.org", ca.Leaf(t, "x", tlstest.DNS("h.org")), nil, "h.org"},
		{"a host without name", ClientOptions{ServerName: "a.org", HostSNI: true, VerifySNI: true}, trusted, "", ca.Leaf(t, "x", tlstest.DNS("a.org")), nil, "a.org"},
		{"no name to send", ClientOptions{VerifySNI: true}, trusted, "", ca.Leaf(t, "x", tlstest.DNS("a.org")), BadSAN, ""},
		{"the sent name replaces matchers", ClientOptions{ServerName: "a.org", VerifySNI: true},
			&ValidationOptions{TrustedCA: ca.Chain, SANs: []SANMatcher{{Type: SANDNS, Exact: "z.org"}}}, "", ca.Leaf(t, "x", tlstest.DNS("a.org")), nil, "a.org"},
		{"for clients only", ClientOptions{}, trusted, "", ca.Leaf(t, "x", tlstest.Usage(x509.ExtKeyUsageClientAuth)), BadChain, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.v != nil {
				tt.o.Validation = validation(t, *tt.v)
			}
			s := server(t, ServerOptions{Certificates: []*Secret[Certificate]{certificate(t, tt.srv)}, ALPN: []string{"h2"}})
			m := between(t, s, client(t, tt.o), tt.host)
			if got := reason(m.clientErr); got != tt.want || tt.want == nil && !m.ok() {
				t.Fatalf("client: %v, server: %v; want %v", m.clientErr, m.serverErr, tt.want)
			}
			if tt.want == nil && (m.server.ServerName != tt.sni || m.server.NegotiatedProtocol != "h2") {
				t.Errorf("sent %q and agreed on %q, want %q and h2", m.server.ServerName, m.server.NegotiatedProtocol, tt.sni)
			}
		})
	}
}

// TestClientForgetsSessions: a new client certificate is shown at once, not
// after the last session of the old one.
func TestClientForgetsSessions(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	s := server(t, ServerOptions{Certificates: []*Secret[Certificate]{certificate(t, ca.Leaf(t, "s"))}, Validation: validation(t, ValidationOptions{TrustedCA: ca.Chain})})
	cell := certificate(t, ca.Leaf(t, "old"))
	c := client(t, ClientOptions{Certificate: cell, MaxSessions: -1, ServerName: "x"})
	between(t, s, c, "")
	if m := between(t, s, c, ""); !m.server.DidResume {
		t.Error("no session was resumed")
	}
	cell.Set(certificate(t, ca.Leaf(t, "new")).Get())
	if m := between(t, s, c, ""); m.server.DidResume || m.server.PeerCertificates[0].Subject.CommonName != "new" {
		t.Errorf("after the rotation: resumed %v as %v", m.server.DidResume, m.server.PeerCertificates[0].Subject)
	}
	if c0 := client(t, ClientOptions{}); c0.o.MaxSessions != 0 {
		t.Error("max_session_keys 0 keeps sessions")
	}
}

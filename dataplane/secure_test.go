//go:build unix

package dataplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/transport"
	"github.com/sluice-proxy/sluice/internal/tlstest"
	"github.com/sluice-proxy/sluice/test/echo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// secret turns a certificate into what contexts use.
func secret(t *testing.T, p *tlstest.Pair) *transport.Secret[transport.Certificate] {
	t.Helper()
	c, err := transport.ParseCertificate(p.Chain, p.PEM)
	if err != nil {
		t.Fatal(err)
	}
	return transport.NewSecret(c)
}

func trust(t *testing.T, ca *tlstest.Pair) *transport.Secret[transport.Validation] {
	t.Helper()
	v, err := transport.NewValidation(transport.ValidationOptions{TrustedCA: ca.Chain})
	if err != nil {
		t.Fatal(err)
	}
	return transport.NewSecret(v)
}

func serverTLS(t *testing.T, o transport.ServerOptions) *transport.Server {
	t.Helper()
	s, err := transport.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tlsClient is a gRPC client of the first listener of s that shows p, if it
// is not nil.
func tlsClient(t *testing.T, s *Server, sni string, ca, p *tlstest.Pair) echo.EchoClient {
	t.Helper()
	cfg := &tls.Config{ServerName: sni, RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AddCert(ca.Cert)
	if p != nil {
		cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key}}
	}
	cc, err := grpc.NewClient("passthrough:///"+s.Listeners()[0].Addresses[0], grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return echo.NewEchoClient(cc)
}

// secured returns a listener whose chains are chosen by what clients say first.
func secured(t *testing.T, chains ...*listener.Chain) *listener.Listener {
	t.Helper()
	tbl, err := listener.NewTable(chains, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &listener.Listener{
		Name: "a", ReusePort: true, Chains: tbl, Inspect: true, FiltersTimeout: 15 * time.Second,
		Addresses: []listener.Address{{Network: "tcp", Address: "127.0.0.1:0"}},
	}
}

// answer is a Director that says who asked.
type answer struct{ name string }

func (a answer) Direct(c *call.Call) (call.Decision, error) {
	who := "plaintext"
	if c.Conn.TLS != nil {
		who = strings.Join(append([]string{"TLS"}, c.Conn.TLS.PeerURIs...), " ")
	}
	return call.Decision{Reply: &call.Reply{HTTP: 404, GRPC: call.Code(codes.NotFound), Message: a.name + " " + who}}, nil
}

func said(t *testing.T, c echo.EchoClient) string {
	t.Helper()
	_, err := c.Say(testContext(t), &echo.SayRequest{})
	if status.Code(err) != codes.NotFound {
		return "fails"
	}
	return status.Convert(err).Message()
}

// TestChainsByHello: one port takes plaintext and TLS; the server name chooses
// the chain, its certificate, and who is let in.
func TestChainsByHello(t *testing.T) {
	ca, other := tlstest.CA(t, "ca"), tlstest.CA(t, "other")
	a, b := ca.Leaf(t, "a", tlstest.DNS("a.org")), ca.Leaf(t, "b", tlstest.DNS("b.org"))
	peer, stranger := ca.Leaf(t, "peer", tlstest.URI("spiffe://td/peer")), other.Leaf(t, "stranger")
	s := newServer(t)
	chain := func(key uint64, name string, m listener.Match, ctx any) *listener.Chain {
		return &listener.Chain{Key: key, Name: name, Match: m, Manager: &call.Manager{Director: answer{name}}, TLS: ctx}
	}
	mustServe(t, s, secured(t,
		chain(1, "plain", listener.Match{TransportProtocol: listener.TransportRaw}, nil),
		chain(2, "open", listener.Match{ServerNames: []string{"a.org"}},
			serverTLS(t, transport.ServerOptions{Certificates: []*transport.Secret[transport.Certificate]{secret(t, a)}, ALPN: []string{"h2"}})),
		chain(3, "mutual", listener.Match{ServerNames: []string{"b.org"}},
			serverTLS(t, transport.ServerOptions{
				Certificates: []*transport.Secret[transport.Certificate]{secret(t, b)}, ALPN: []string{"h2"},
				Validation: trust(t, ca), RequireClientCertificate: true,
			})),
	))
	tests := []struct {
		name string
		c    echo.EchoClient
		want string
	}{
		{"plaintext", client(t, s), "plain plaintext"},
		{"by name", tlsClient(t, s, "a.org", ca, nil), "open TLS"},
		{"mutual", tlsClient(t, s, "b.org", ca, peer), "mutual TLS spiffe://td/peer"},
		{"without certificate", tlsClient(t, s, "b.org", ca, nil), "fails"},
		{"by another CA", tlsClient(t, s, "b.org", ca, stranger), "fails"},
		{"unknown name", tlsClient(t, s, "c.org", ca, nil), "fails"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := said(t, tt.c); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestMutualTLS relays over TLS on both sides; both certificates are replaced
// while calls run, and none fails. Streams stay on their connections.
func TestMutualTLS(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	upLeaf, cliLeaf := ca.Leaf(t, "up", tlstest.DNS("up.org")), ca.Leaf(t, "me")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, stop := echo.Start(ln, &echo.Server{Instance: "up"}, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{upLeaf.Cert.Raw}, PrivateKey: upLeaf.Key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool,
	})))
	t.Cleanup(stop)
	up, err := transport.NewClient(transport.ClientOptions{
		Certificate: secret(t, cliLeaf), Validation: trust(t, ca), ServerName: "up.org", VerifySNI: true, MaxSessions: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{target: call.Target{Network: "tcp", Address: ln.Addr().String(), Options: &call.UpstreamOptions{TLS: up, MaxRequests: 50}}}
	cell := secret(t, ca.Leaf(t, "first", tlstest.DNS("a.org")))
	tbl, err := listener.NewTable(nil, &listener.Chain{Key: 1, Manager: &call.Manager{Director: h}, TLS: serverTLS(t, transport.ServerOptions{
		Certificates: []*transport.Secret[transport.Certificate]{cell}, Validation: trust(t, ca), RequireClientCertificate: true, ALPN: []string{"h2"},
	})})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	mustServe(t, s, &listener.Listener{Name: "a", Chains: tbl, Addresses: []listener.Address{{Network: "tcp", Address: "127.0.0.1:0"}}})

	peer := ca.Leaf(t, "peer")
	st, ping := chat(t, tlsClient(t, s, "a.org", ca, peer))
	ping()
	var wg sync.WaitGroup
	stopCalls := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				c := tlsClient(t, s, "a.org", ca, peer) // each has a connection of its own
				for range 10 {
					if _, err := c.Say(t.Context(), &echo.SayRequest{Text: strings.Repeat("x", 1000)}); err != nil {
						t.Error(err)
						return
					}
				}
				select {
				case <-stopCalls:
					return
				default:
				}
			}
		})
	}
	for range 10 {
		cell.Set(secret(t, ca.Leaf(t, "next", tlstest.DNS("a.org"))).Get())
		ping()
	}
	close(stopCalls)
	wg.Wait()
	finish(t, st)
	if conn := peek(t, s, "a.org"); conn.Subject.CommonName != "next" {
		t.Errorf("the certificate of new connections is %v", conn.Subject)
	}
}

// TestPrefaceDecides: a client whose protocols are not the listener's, and one
// that names none, get HTTP/2 all the same if they speak it.
func TestPrefaceDecides(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	for _, inspect := range []bool{false, true} {
		s := newServer(t)
		ctx := serverTLS(t, transport.ServerOptions{Certificates: []*transport.Secret[transport.Certificate]{secret(t, ca.Leaf(t, "a", tlstest.DNS("a.org")))}, ALPN: []string{"h2"}})
		l := secured(t, &listener.Chain{Key: 1, Manager: &call.Manager{Director: answer{"x"}}, TLS: ctx})
		l.Inspect = inspect
		mustServe(t, s, l)
		for _, offer := range [][]string{{"h2"}, {"foo"}, nil} {
			nc, err := tls.Dial("tcp", s.Listeners()[0].Addresses[0], &tls.Config{ServerName: "a.org", InsecureSkipVerify: true, NextProtos: offer})
			if err != nil {
				t.Errorf("inspect %v, %q: %v", inspect, offer, err)
				continue
			}
			_, _ = io.WriteString(nc, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
			_ = nc.SetReadDeadline(time.Now().Add(patience))
			b := make([]byte, 9)
			if _, err := io.ReadFull(nc, b); err != nil || b[3] != 4 {
				t.Errorf("inspect %v, %q: read %x, %v; want SETTINGS", inspect, offer, b, err)
			}
			_ = nc.Close()
		}
	}
}

// peek returns the certificate that s shows.
func peek(t *testing.T, s *Server, sni string) *x509.Certificate {
	t.Helper()
	nc, err := tls.Dial("tcp", s.Listeners()[0].Addresses[0], &tls.Config{ServerName: sni, InsecureSkipVerify: true, NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	return nc.ConnectionState().PeerCertificates[0]
}

// TestSilentClients: clients that say nothing, or half a ClientHello, neither
// stop handshakes nor outlive a shutdown; beyond the limit they are refused.
func TestSilentClients(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	s := newServer(t)
	ctx := serverTLS(t, transport.ServerOptions{Certificates: []*transport.Secret[transport.Certificate]{secret(t, ca.Leaf(t, "a", tlstest.DNS("a.org")))}, ALPN: []string{"h2"}})
	mustServe(t, s, secured(t, &listener.Chain{Key: 1, Match: listener.Match{TransportProtocol: listener.TransportTLS}, Manager: &call.Manager{Director: answer{"x"}}, TLS: ctx}))
	addr := s.Listeners()[0].Addresses[0]
	var silent []net.Conn
	for i := range 200 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		// Nothing; too little to tell; a record that says it will be long.
		if _, err := c.Write([][]byte{{}, {22, 3}, {22, 3, 1, 2, 0, 1, 0, 1}}[i%3]); err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	c := tlsClient(t, s, "a.org", ca, nil)
	start := time.Now()
	if got := said(t, c); got != "x TLS" {
		t.Fatalf("got %q", got)
	}
	if d := time.Since(start); d > pendingTime*9/10 {
		t.Errorf("a handshake among silent clients took %v", d)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	start = time.Now()
	_ = s.Shutdown(done)
	if d := time.Since(start); d > pendingTime*9/10 {
		t.Errorf("Shutdown waited %v for silent clients", d)
	}
	for _, c := range silent {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal("a silent client outlived the server")
		}
	}
}

// TestSniffTimeout: a client that says nothing in time is refused, or, if the
// listener says so, served as what it may become.
func TestSniffTimeout(t *testing.T) {
	for _, goOn := range []bool{false, true} {
		s := newServer(t)
		l := secured(t, &listener.Chain{Key: 1, Match: listener.Match{TransportProtocol: listener.TransportRaw}, Manager: &call.Manager{Director: answer{"x"}}})
		l.FiltersTimeout, l.ContinueOnTimeout = 10*time.Millisecond, goOn
		mustServe(t, s, l)
		c, err := net.Dial("tcp", s.Listeners()[0].Addresses[0])
		if err != nil {
			t.Fatal(err)
		}
		if goOn {
			time.Sleep(4 * l.FiltersTimeout) // the time runs out in the kernel
			if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 9)
		n, err := io.ReadFull(c, b) // the server's SETTINGS
		if goOn && (err != nil || b[3] != 4) || !goOn && (n > 0 || err == nil) {
			t.Errorf("continue %v: read %x, %v", goOn, b[:n], err)
		}
		_ = c.Close()
	}
}

func TestLooksLikeTLS(t *testing.T) {
	tests := []struct {
		b                  string
		encrypted, decided bool
	}{
		{"", false, false},
		{"PRI * HTTP/2.0", false, true},
		{"\x16", false, false},
		{"\x16\x03\x01", false, false},
		{"\x16\x03\x01\x02\x00\x01", true, true},
		{"\x16\x03\x01\x02\x00\x02", false, true}, // not a ClientHello
		{"\x16\x04\x01\x02\x00\x01", false, true},
		{"\x15\x03\x01\x02\x00\x01", false, true}, // an alert
	}
	for _, tt := range tests {
		if e, d := looksLikeTLS([]byte(tt.b)); e != tt.encrypted || d != tt.decided {
			t.Errorf("%q: encrypted %v, decided %v", tt.b, e, d)
		}
	}
}

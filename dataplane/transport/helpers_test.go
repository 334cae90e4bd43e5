package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

func certificate(t *testing.T, p *tlstest.Pair) *Secret[Certificate] {
	t.Helper()
	c, err := ParseCertificate(p.Chain, p.PEM)
	if err != nil {
		t.Fatal(err)
	}
	return NewSecret(c)
}

func validation(t *testing.T, o ValidationOptions) *Secret[Validation] {
	t.Helper()
	v, err := NewValidation(o)
	if err != nil {
		t.Fatal(err)
	}
	return NewSecret(v)
}

func server(t *testing.T, o ServerOptions) *Server {
	t.Helper()
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func client(t *testing.T, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connected returns the two ends of a TCP connection: a pipe without a buffer
// blocks when both sides have something to say, such as an alert.
func connected(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if b, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if a, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(longest))
	}
	return a, b
}

// meeting is what came of a handshake and one byte each way.
type meeting struct {
	hs                   Handshake // of the server's context, if between made it
	server, client       tls.ConnectionState
	serverErr, clientErr error
}

// ok is true if both sides are content.
func (m *meeting) ok() bool { return m.serverErr == nil && m.clientErr == nil }

// meet runs a handshake between configs. The byte from the server makes the
// client see its tickets, and a refusal that TLS 1.3 tells late.
func meet(t *testing.T, sc, cc *tls.Config) *meeting {
	t.Helper()
	a, b := connected(t)
	m := new(meeting)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = a.Close() }()
		s := tls.Server(a, sc)
		if m.serverErr = s.Handshake(); m.serverErr != nil {
			return
		}
		m.server = s.ConnectionState()
		if _, err := s.Write([]byte{1}); err != nil {
			m.serverErr = err
			return
		}
		_, m.serverErr = io.ReadFull(s, make([]byte, 1))
	}()
	c := tls.Client(b, cc)
	m.clientErr = c.Handshake()
	if m.clientErr == nil {
		m.client = c.ConnectionState()
		_, m.clientErr = io.ReadFull(c, make([]byte, 1))
	}
	if m.clientErr == nil {
		_, m.clientErr = c.Write([]byte{1})
	}
	<-done
	_ = b.Close()
	return m
}

// between runs a handshake between two contexts.
func between(t *testing.T, s *Server, c *Client, host string) *meeting {
	t.Helper()
	hs, err := s.Handshake()
	if err != nil {
		t.Fatal(err)
	}
	cc, err := c.Config(host)
	if err != nil {
		t.Fatal(err)
	}
	m := meet(t, hs.Config(), cc)
	m.hs = hs
	return m
}

func reason(err error) any {
	var v *VerifyError
	if errors.As(err, &v) {
		return v.Reason
	}
	return nil
}

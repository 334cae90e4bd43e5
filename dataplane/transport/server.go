package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ServerOptions are DownstreamTlsContext.
type ServerOptions struct {
	Certificates []*Secret[Certificate] // at least one
	Validation   *Secret[Validation]    // nil: clients are not asked for certificates
	// RequireClientCertificate refuses clients without one. There must be a
	// Validation to judge it.
	RequireClientCertificate bool
	RequireSNI               bool     // refuses clients that send no server name
	FullScan                 bool     // full_scan_certs_on_sni_mismatch
	ALPN                     []string // exactly as configured; a client that offers none of them gets none
	Params                   Params
	DisableTickets           bool                // disable_stateless_session_resumption
	TicketKeys               *Secret[TicketKeys] // nil: keys of our own, renewed daily
	SessionTimeout           time.Duration       // 0: 7 days
}

// Server is the TLS context of a filter chain. Safe for concurrent use.
type Server struct {
	o   ServerOptions
	now func() time.Time // nil: time.Now
	cur atomic.Pointer[serverState]
	mu  sync.Mutex // guards the making of a new state
}

// serverState is a generation of a Server: what was made of one set of secrets.
type serverState struct {
	certs      []*Certificate
	validation *Validation
	keys       *TicketKeys
	id         [sha256.Size]byte // of what sessions must agree with
	config     *tls.Config
}

// NewServer returns the context of o.
func NewServer(o ServerOptions) (*Server, error) {
	if len(o.Certificates) == 0 {
		return nil, errors.New("no TLS certificate: a server needs one")
	}
	if o.RequireClientCertificate && o.Validation == nil {
		return nil, errors.New("client certificates are required, but nothing says how to validate them")
	}
	if err := o.Params.check(); err != nil {
		return nil, err
	}
	return &Server{o: o}, nil
}

// String says what the context asks for.
func (s *Server) String() string {
	out := fmt.Sprintf("TLS with %d certificate(s)", len(s.o.Certificates))
	switch {
	case s.o.RequireClientCertificate:
		out += ", client certificate required"
	case s.o.Validation != nil:
		out += ", client certificate validated"
	}
	return out + describe(s.o.ALPN, s.Ready())
}

// describe is what servers and clients have in common.
func describe(alpn []string, ready bool) (out string) {
	if len(alpn) > 0 {
		out = ", ALPN " + strings.Join(alpn, " ")
	}
	if !ready {
		out += ", secrets missing"
	}
	return out
}

// ErrNotReady is the answer while a secret has not come yet.
var ErrNotReady = errors.New("a secret of the TLS context is missing")

// Ready reports whether all secrets have come.
func (s *Server) Ready() bool {
	for _, c := range s.o.Certificates {
		if c.missing() {
			return false
		}
	}
	return !s.o.Validation.missing() && !s.o.TicketKeys.missing()
}

// Handshake is one handshake: it keeps to the secrets that there were when it
// began.
type Handshake struct {
	s  *Server
	st *serverState
}

// Handshake returns one that begins now.
func (s *Server) Handshake() (Handshake, error) {
	st, err := s.state()
	return Handshake{s, st}, err
}

// Config returns what the handshake needs. It is shared: not to be changed. As
// long as no secret is replaced it is the same. If it has a GetConfigForClient,
// that never returns nil.
func (h Handshake) Config() *tls.Config { return h.st.config }

// Config returns the config of a handshake that begins now.
func (s *Server) Config() (*tls.Config, error) {
	st, err := s.state()
	if err != nil {
		return nil, err
	}
	return st.config, nil
}

// state returns what is made of the secrets as they are now.
func (s *Server) state() (*serverState, error) {
	if st := s.cur.Load(); st != nil && s.current(st) {
		return st, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.cur.Load(); st != nil && s.current(st) {
		return st, nil
	}
	st, err := s.make()
	if err != nil {
		return nil, err
	}
	s.cur.Store(st)
	return st, nil
}

func (s *Server) current(st *serverState) bool {
	for i, c := range s.o.Certificates {
		if c.Get() != st.certs[i] {
			return false
		}
	}
	return s.o.Validation.Get() == st.validation && s.o.TicketKeys.Get() == st.keys
}

func (s *Server) make() (*serverState, error) {
	if !s.Ready() {
		return nil, ErrNotReady
	}
	st := &serverState{validation: s.o.Validation.Get(), keys: s.o.TicketKeys.Get()}
	for _, c := range s.o.Certificates {
		st.certs = append(st.certs, c.Get())
	}
	c := &tls.Config{
		Time:                        s.now,
		NextProtos:                  s.o.ALPN,
		GetCertificate:              newCertificates(st.certs, s.o.FullScan).choose,
		SessionTicketsDisabled:      s.o.DisableTickets,
		DynamicRecordSizingDisabled: true, // the worker writes whole batches
	}
	s.o.Params.apply(c)
	v := st.validation
	switch {
	case s.o.RequireClientCertificate && !v.judges():
		return nil, errors.New("client certificates are required, but the validation context has nothing to verify them against")
	case v.judges() && !v.o.AcceptUntrusted && (s.o.RequireClientCertificate || v.pins()), s.o.RequireClientCertificate:
		c.ClientAuth = tls.RequireAnyClientCert
	case v.judges():
		c.ClientAuth = tls.RequestClientCert
	}
	if c.ClientAuth != tls.NoClientCert {
		c.ClientCAs = v.offered // only their names: verify judges
	}
	st.config = c
	st.id = s.identity(v)
	c.VerifyConnection = func(cs tls.ConnectionState) error { return s.verify(st, &cs) }
	if !s.o.DisableTickets {
		s.resumption(st)
	}
	if len(s.o.ALPN) > 0 {
		without := c.Clone()
		without.NextProtos = nil
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if s.overlaps(hello.SupportedProtos) {
				return c, nil
			}
			return without, nil
		}
	}
	return st, nil
}

// overlaps reports whether one of the protocols that a client offers is ours.
// To crypto/tls it is an error if none is (RFC 7301 §3.2); in Envoy
// (ContextImpl::alpnSelectCallback) the handshake goes on as if the client had
// offered none, and its first bytes decide.
func (s *Server) overlaps(offered []string) bool {
	return slices.ContainsFunc(offered, func(p string) bool { return slices.Contains(s.o.ALPN, p) })
}

// verify is the last step of a handshake, resumed ones included.
func (s *Server) verify(st *serverState, cs *tls.ConnectionState) error {
	if s.o.RequireSNI && cs.ServerName == "" {
		return errors.New("the client sent no server name, and one is required")
	}
	v := st.validation
	if len(cs.PeerCertificates) == 0 || !v.judges() || v.o.AcceptUntrusted {
		return nil // crypto/tls has seen to it that a required one is there
	}
	if cs.DidResume {
		return stillValid(v, cs.PeerCertificates[0], s.time())
	}
	return v.verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, "", s.time())
}

// stillValid is what can have changed since a session was made under the same
// validation.
func stillValid(v *Validation, leaf *x509.Certificate, now time.Time) error {
	if !v.verifiesChain() || v.o.AllowExpired || !now.After(leaf.NotAfter) && !now.Before(leaf.NotBefore) {
		return nil
	}
	return &VerifyError{BadChain, errors.New("certificate has expired or is not yet valid")}
}

func (s *Server) time() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}

// identity is the hash of what must not differ between the handshake that made
// a session and the one that resumes it: how the client was judged.
func (s *Server) identity(v *Validation) [sha256.Size]byte {
	h := sha256.New()
	_, _ = fmt.Fprint(h, s.o.RequireClientCertificate, s.o.ALPN)
	if v != nil {
		h.Write(v.digest[:])
	}
	var id [sha256.Size]byte
	h.Sum(id[:0])
	return id
}

// resumption makes the tickets of st's config its own: of this context and this
// generation of its secrets. Left to itself, crypto/tls would use the keys of
// the config that the handshake began with, which many contexts share.
func (s *Server) resumption(st *serverState) {
	keys := &tls.Config{Time: s.now} // holds nothing but the keys
	if st.keys != nil {
		keys.SetSessionTicketKeys(st.keys.keys)
	}
	st.config.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, s.stamp(st))
		return keys.EncryptTicket(cs, ss)
	}
	st.config.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := keys.DecryptTicket(ticket, cs)
		if err != nil || ss == nil || !s.fresh(st, ss) {
			return nil, nil // a bad ticket means a full handshake, never a failure
		}
		return ss, nil
	}
}

// stamp is what a ticket carries besides crypto/tls's own: the identity and the
// time of the full handshake.
func (s *Server) stamp(st *serverState) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), st.id[:]...), uint64(s.time().Unix()))
}

func (s *Server) fresh(st *serverState, ss *tls.SessionState) bool {
	if len(ss.Extra) == 0 {
		return false
	}
	stamp := ss.Extra[0]
	if len(stamp) != sha256.Size+8 || [sha256.Size]byte(stamp) != st.id {
		return false
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(stamp[sha256.Size:])), 0)
	ss.Extra = nil
	return s.o.SessionTimeout <= 0 || s.time().Sub(made) < s.o.SessionTimeout
}

// TicketKeys encrypt session tickets: new ones by the first key; those of any
// key are accepted. Immutable.
type TicketKeys struct{ keys [][32]byte }

// ticketKeySize is what Envoy asks for: a name, a MAC key and an AES key.
const ticketKeySize = 80

// NewTicketKeys takes keys of 80 random bytes each, as Envoy does. They are
// shared with other proxies of this kind, not with Envoys: the tickets differ.
func NewTicketKeys(keys ...[]byte) (*TicketKeys, error) {
	if len(keys) == 0 {
		return nil, errors.New("no session ticket key")
	}
	t := new(TicketKeys)
	for i, k := range keys {
		if len(k) != ticketKeySize {
			return nil, fmt.Errorf("session ticket key %d has %d bytes instead of %d", i, len(k), ticketKeySize)
		}
		t.keys = append(t.keys, sha256.Sum256(k))
	}
	return t, nil
}

package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ClientOptions are UpstreamTlsContext.
type ClientOptions struct {
	Certificate *Secret[Certificate] // shown to servers that ask; nil: none
	Validation  *Secret[Validation]  // nil: servers are not verified, as in Envoy
	ServerName  string               // sni
	HostSNI     bool                 // auto_host_sni: the host's name, if it has one, instead
	VerifySNI   bool                 // auto_sni_san_validation
	ALPN        []string             // none: "h2"
	Params      Params
	// MaxSessions bounds the sessions kept for resumption; 0: none are kept,
	// negative: DefaultSessions.
	MaxSessions int
}

// DefaultSessions are the sessions that a client context keeps. Envoy keeps
// one; here they are kept apart by server.
const DefaultSessions = 64

// Client is the TLS context of a cluster. Safe for concurrent use.
type Client struct {
	o   ClientOptions
	now func() time.Time // nil: time.Now
	cur atomic.Pointer[clientState]
	mu  sync.Mutex // guards the making of a new state
}

// clientState is a generation of a Client.
type clientState struct {
	cert       *Certificate
	validation *Validation
	config     *tls.Config // for ServerName
}

// NewClient returns the context of o.
func NewClient(o ClientOptions) (*Client, error) {
	if o.VerifySNI && o.Validation == nil {
		return nil, errors.New("the server name cannot be verified without a trusted CA")
	}
	if err := o.Params.check(); err != nil {
		return nil, err
	}
	if len(o.ALPN) == 0 {
		o.ALPN = []string{"h2"} // Envoy's fallback for a cluster that speaks HTTP/2
	}
	if o.MaxSessions < 0 {
		o.MaxSessions = DefaultSessions
	}
	return &Client{o: o}, nil
}

// String says what the context asks for.
func (c *Client) String() string {
	out := "TLS"
	switch {
	case c.o.HostSNI:
		out += fmt.Sprintf(" to the host's name, else %q", c.o.ServerName)
	case c.o.ServerName != "":
		out += fmt.Sprintf(" to %q", c.o.ServerName)
	}
	if c.o.Certificate != nil {
		out += ", with a certificate"
	}
	switch {
	case c.o.VerifySNI:
		out += ", the server is validated by that name"
	case c.o.Validation != nil:
		out += ", the server is validated"
	}
	return out + describe(c.o.ALPN, c.Ready())
}

// Ready reports whether all secrets have come.
func (c *Client) Ready() bool { return !c.o.Certificate.missing() && !c.o.Validation.missing() }

// Config implements call.ClientTLS: it returns what a handshake with a host
// needs that begins now. hostname is the host's, "" if it has none. The result
// is shared: not to be changed.
func (c *Client) Config(hostname string) (*tls.Config, error) {
	st, err := c.state()
	if err != nil {
		return nil, err
	}
	if !c.o.HostSNI || hostname == "" || hostname == c.o.ServerName {
		return st.config, nil
	}
	return c.named(st, hostname), nil
}

func (c *Client) state() (*clientState, error) {
	if st := c.cur.Load(); st != nil && c.current(st) {
		return st, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.cur.Load(); st != nil && c.current(st) {
		return st, nil
	}
	if !c.Ready() {
		return nil, ErrNotReady
	}
	st := &clientState{cert: c.o.Certificate.Get(), validation: c.o.Validation.Get()}
	if c.o.VerifySNI && !st.validation.verifiesChain() {
		return nil, errors.New("the server name cannot be verified without a trusted CA")
	}
	st.config = c.make(st)
	c.cur.Store(st)
	return st, nil
}

func (c *Client) current(st *clientState) bool {
	return c.o.Certificate.Get() == st.cert && c.o.Validation.Get() == st.validation
}

func (c *Client) make(st *clientState) *tls.Config {
	cfg := &tls.Config{
		Time:       c.now,
		NextProtos: c.o.ALPN,
		// verify does it, by Envoy's rules.
		InsecureSkipVerify:          true,
		DynamicRecordSizingDisabled: true,
	}
	c.o.Params.apply(cfg)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if st.cert == nil {
			return new(tls.Certificate), nil
		}
		return &st.cert.pair, nil // whatever authorities the server names, as BoringSSL
	}
	if c.o.MaxSessions > 0 {
		// A generation has its own: a session stands for the identities and
		// the judgement it was made with.
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(c.o.MaxSessions)
	}
	c.name(cfg, st, c.o.ServerName)
	return cfg
}

// named returns the config for another server name.
func (c *Client) named(st *clientState, name string) *tls.Config {
	cfg := st.config.Clone()
	c.name(cfg, st, name)
	return cfg
}

func (c *Client) name(cfg *tls.Config, st *clientState, name string) {
	cfg.ServerName = name
	sent := ""
	if c.o.VerifySNI {
		sent = name
	}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return c.verify(st.validation, &cs, sent) }
}

// verify is the last step of a handshake, resumed ones included.
func (c *Client) verify(v *Validation, cs *tls.ConnectionState, sent string) error {
	if !v.judges() || v.o.AcceptUntrusted {
		return nil
	}
	if c.o.VerifySNI && sent == "" {
		return &VerifyError{BadSAN, errors.New("no server name was sent to verify it by")}
	}
	now := time.Now()
	if c.now != nil {
		now = c.now()
	}
	return v.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, sent, now)
}

package grpcproxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/listener"
)

// XDSOptions configure an XDSDirector. The zero value is usable.
type XDSOptions struct {
	// Listener is the name of the listener whose routes hold; empty: there is
	// only one.
	Listener string
	// DialOptions are added to those of connections to hosts.
	DialOptions []grpc.DialOption
	// Logger gets what operators should know: panics of directors and filters.
	// nil: nothing is logged.
	Logger *slog.Logger
}

// XDSDirector is a StreamDirector that takes its orders from xDS: filter
// chains, routes and clusters are those that the data plane compiles, and are
// swapped as there, one atomic store each.
//
// It is the Server of a xdsconfig.Manager: give it to xdsconfig.Attach with a
// bootstrap, and its method Direct to TransparentHandler. The addresses of the
// listeners mean nothing to it, as the grpc.Server has its own.
//
// Of a route it honours the match, the cluster or direct response, header
// changes, path and host rewrites, and timeouts; it does not retry. Of a
// manager it honours the filters, which see messages decompressed, and a
// Director that asks for the first message or answers later.
type XDSDirector struct {
	// Set at creation.

	listener string
	hosts    *hostConns
	slots    xdsSlots
	start    time.Time
	log      *slog.Logger

	mu        sync.Mutex                                    // held to change listeners
	listeners atomic.Pointer[map[string]*listener.Listener] // replaced, never changed
	ids       atomic.Uint64
}

// NewXDSDirector returns a director without configuration: until it gets one,
// calls fail with UNAVAILABLE. It must be closed.
func NewXDSDirector(o XDSOptions) *XDSDirector {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &XDSDirector{listener: o.Listener, start: time.Now(), hosts: newHostConns(o.DialOptions), log: o.Logger}
	d.listeners.Store(&map[string]*listener.Listener{})
	return d
}

// Bind is for xdsconfig.Manager. There is nothing to bind.
func (d *XDSDirector) Bind(*listener.Listener) error { return nil }

// Serve is for xdsconfig.Manager: l's routes hold from now on.
func (d *XDSDirector) Serve(l *listener.Listener) error {
	d.change(func(m map[string]*listener.Listener) { m[l.Name] = l })
	return nil
}

// Remove is for xdsconfig.Manager.
func (d *XDSDirector) Remove(name string) {
	d.change(func(m map[string]*listener.Listener) { delete(m, name) })
}

// Sweep is for xdsconfig.Manager: connections to hosts that are gone close
// when their calls have ended.
func (d *XDSDirector) Sweep() { d.hosts.sweep() }

// Close closes all connections; calls on them fail with UNAVAILABLE.
func (d *XDSDirector) Close() { d.hosts.close() }

func (d *XDSDirector) change(f func(map[string]*listener.Listener)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := maps.Clone(*d.listeners.Load())
	f(m)
	d.listeners.Store(&m)
}

// chosen returns the listener whose routes hold.
func (d *XDSDirector) chosen() *listener.Listener {
	m := *d.listeners.Load()
	if d.listener != "" || len(m) != 1 {
		return m[d.listener]
	}
	for _, l := range m {
		return l
	}
	return nil
}

// Direct is a StreamDirector.
func (d *XDSDirector) Direct(ctx context.Context, method string) (Mode, []Backend, error) {
	l := d.chosen()
	if l == nil {
		return One2One, nil, status.Error(codes.Unavailable, "grpcproxy: no listener is configured")
	}
	conn := connOf(ctx, l.Name)
	conn.ID = d.ids.Add(1)
	chain := l.Chains.Choose(infoOf(conn))
	if chain == nil || chain.Manager == nil {
		return One2One, nil, status.Error(codes.Unavailable, "grpcproxy: no filter chain matches the connection")
	}
	x := newXDSCall(ctx, d, chain.Manager, method, conn)
	err := x.filterRequestHeaders(ctx)
	var decision call.Decision
	if err == nil {
		decision, err = x.direct(ctx)
		x.route = decision.Route
	}
	switch {
	case err != nil:
	case decision.Reply != nil:
		err = decision.Reply
	case decision.Backends == nil:
		err = call.ReplyNoCluster
	}
	if err != nil {
		return One2One, nil, x.refuse(ctx, err)
	}
	b := &xdsBackend{xdsCall: x, decision: decision}
	// A director around this one may refuse the call after all.
	b.used = context.AfterFunc(ctx, func() {
		x.end(&call.Outcome{Code: call.Canceled, HasCode: true, Side: call.SideLocal, End: d.now()})
	})
	return One2One, []Backend{b}, nil
}

func (d *XDSDirector) now() clock.Nanos { return clock.Nanos(time.Since(d.start)) + 1 }

// direct is the status of a direct response. One that is no error is no gRPC
// response either: gRPC's mapping makes 200 without a grpc-status UNKNOWN.
func direct(r *call.Reply) error {
	code, msg := codes.Code(r.GRPC), r.Message
	if code == codes.OK {
		code = codes.Unknown
	}
	if len(r.Body) > 0 {
		msg = string(r.Body)
	}
	return status.Error(code, msg)
}

// connOf returns what is known of the client's connection.
func connOf(ctx context.Context, listenerName string) *call.Conn {
	c := &call.Conn{Listener: listenerName}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return c
	}
	c.Remote, c.Local = addrPort(p.Addr), addrPort(p.LocalAddr)
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		c.TLS = tlsOf(&info.State)
	}
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

func tlsOf(s *tls.ConnectionState) *call.TLSInfo {
	t := &call.TLSInfo{
		ServerName: s.ServerName, Protocol: s.NegotiatedProtocol, Version: s.Version, Cipher: s.CipherSuite,
		Resumed: s.DidResume, Verified: len(s.VerifiedChains) > 0,
	}
	for i, c := range s.PeerCertificates {
		t.PeerDER = append(t.PeerDER, c.Raw)
		if i > 0 {
			continue
		}
		t.Subject, t.PeerDNS = c.Subject.String(), c.DNSNames
		for _, u := range c.URIs {
			t.PeerURIs = append(t.PeerURIs, u.String())
		}
	}
	return t
}

func infoOf(c *call.Conn) *listener.Info {
	in := &listener.Info{Local: c.Local, Remote: c.Remote}
	if c.TLS != nil {
		in.ServerName, in.TransportProtocol = c.TLS.ServerName, listener.TransportTLS
		if c.TLS.Protocol != "" {
			in.ALPN = []string{c.TLS.Protocol}
		}
	}
	return in
}

//go:build unix

package dataplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/dataplane/transport"
	"github.com/sluice-proxy/sluice/dataplane/worker"
	"golang.org/x/sys/unix"
)

// handshakeGrace is how long Shutdown lets handshakes go on.
const handshakeGrace = 500 * time.Millisecond

// Reasons to refuse a connection before a worker has it.
var (
	errNoChain   = errors.New("no filter chain matches")
	errNotTLS    = errors.New("the filter chain has TLS, the client's first bytes are not")
	errPlainTLS  = errors.New("the client speaks TLS, the filter chain is plaintext")
	errSilent    = errors.New("nothing came to tell TLS from plaintext by")
	errTooManyCx = errors.New("too many connections wait for their handshake")
)

// simple reports that the addresses decide about a connection's chain, and
// that no chain has TLS: nothing has to be read before a worker gets it.
func simple(l *listener.Listener) bool {
	if l.Inspect {
		return false
	}
	for _, ch := range l.Chains.Chains() {
		if ch.TLS != nil {
			return false
		}
	}
	return true
}

// secure is the way of a connection whose chain depends on its first bytes, or
// has TLS: on a goroutine of its own, until a worker gets it. p.drop ends ctx.
func (b *binding) secure(ctx context.Context, p *pending, st *state, nc net.Conn) {
	defer p.drop(nil)
	defer p.leave()
	ctx, cancel := context.WithTimeout(ctx, pendingTime)
	defer cancel()
	info := connInfo(b.s.connID.Add(1), b.name, nc)
	if err := b.establish(ctx, p, st, info, nc); err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errDropped) {
			err = cause
		}
		b.stats.refused(err)
		b.s.log.Debug("connection refused", "listener", b.name, "peer", info.Remote, "reason", err)
		_ = nc.Close()
	}
}

func (b *binding) establish(ctx context.Context, p *pending, st *state, info *call.Conn, nc net.Conn) error {
	in := &listener.Info{Local: info.Local, Remote: info.Remote, Direct: info.Remote.Addr(), TransportProtocol: listener.TransportRaw}
	hs := &handshake{b: b, st: st, in: in, nc: nc, p: p}
	if st.l.Inspect {
		encrypted, err := b.sniff(ctx, st.l, nc)
		if err != nil {
			return err
		}
		if encrypted {
			in.TransportProtocol = listener.TransportTLS
			return hs.run(ctx, info, &tls.Config{GetConfigForClient: hs.choose})
		}
	}
	lc := st.l.Chains.Choose(in)
	switch {
	case lc == nil:
		return errNoChain
	case lc.TLS == nil:
		b.hand(st.chains[lc.Key], func(ch *chain) { b.s.group.Serve(ch.Chain, info, nc) })
		return nil
	case st.l.Inspect:
		return errNotTLS
	}
	cfg, err := hs.of(lc)
	if err != nil {
		return err
	}
	return hs.run(ctx, info, cfg)
}

// handshake is one TLS handshake.
type handshake struct {
	b  *binding
	st *state
	in *listener.Info
	nc net.Conn
	p  *pending
	lc *listener.Chain     // chosen
	hs transport.Handshake // of its context
}

// choose implements tls.Config.GetConfigForClient: the ClientHello says what
// Envoy's tls_inspector would.
func (h *handshake) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	h.in.ServerName, h.in.ALPN = hello.ServerName, hello.SupportedProtos
	lc := h.st.l.Chains.Choose(h.in)
	if lc == nil {
		return nil, errNoChain
	}
	if lc.TLS == nil {
		return nil, errPlainTLS
	}
	cfg, err := h.of(lc)
	if err != nil || cfg.GetConfigForClient == nil {
		return cfg, err
	}
	return cfg.GetConfigForClient(hello) // crypto/tls asks the first config only
}

// of returns the config of a chain's context.
func (h *handshake) of(lc *listener.Chain) (*tls.Config, error) {
	h.lc = lc
	if d := lc.HandshakeTimeout; d > 0 && d < pendingTime {
		_ = h.nc.SetDeadline(time.Now().Add(d))
	}
	var err error
	if h.hs, err = lc.TLS.(*transport.Server).Handshake(); err != nil {
		return nil, err
	}
	return h.hs.Config(), nil
}

// run shakes hands and gives the connection to a worker.
func (h *handshake) run(ctx context.Context, info *call.Conn, cfg *tls.Config) error {
	tc, err := h.b.s.handshakes.Serve(ctx, h.nc, cfg, h.p)
	if err != nil {
		return err
	}
	_ = h.nc.SetDeadline(time.Time{}) // from here on time is the worker's
	cs := tc.State()
	info.TLS = h.hs.Info(&cs)
	h.b.stats.established(info.TLS)
	h.b.hand(h.st.chains[h.lc.Key], func(ch *chain) { h.b.s.group.ServeTLS(ch.Chain, info, tc) })
	return nil
}

// sniff looks at the first bytes of nc without taking them and reports
// whether they begin a TLS handshake.
func (b *binding) sniff(ctx context.Context, l *listener.Listener, nc net.Conn) (encrypted bool, err error) {
	wait := pendingTime
	if d := l.FiltersTimeout; d > 0 {
		wait = min(wait, d)
	}
	rc, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return false, err
	}
	_ = nc.SetReadDeadline(time.Now().Add(wait))
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() {
			_ = nc.SetReadDeadline(time.Time{})
		}
	}()
	var head [16]byte
	var seen error
	err = rc.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), head[:], unix.MSG_PEEK)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			return false
		case err != nil:
			seen = err
			return true
		case n == 0:
			seen = errSilent
			return true
		}
		var decided bool
		encrypted, decided = looksLikeTLS(head[:n])
		return decided
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if l.ContinueOnTimeout && ctx.Err() == nil {
			return false, nil
		}
		err = fmt.Errorf("%w: %w", errSilent, err)
	}
	return encrypted, errors.Join(err, seen)
}

// looksLikeTLS reports whether b begins a handshake record that a TLS client
// sends first, and whether b is long enough to say.
func looksLikeTLS(b []byte) (encrypted, decided bool) {
	const handshakeRecord, clientHello = 22, 1
	want := []func(byte) bool{
		0: func(c byte) bool { return c == handshakeRecord },
		1: func(c byte) bool { return c == 3 }, // SSL 3.0 and all of TLS
		2: func(c byte) bool { return c <= 4 },
		5: func(c byte) bool { return c == clientHello },
	}
	for i, ok := range want {
		if i >= len(b) {
			return false, false
		}
		if ok != nil && !ok(b[i]) {
			return false, true
		}
	}
	return true, true
}

// listenerStats are Envoy's listener.<address>.* of connections that no worker
// has yet.
type listenerStats struct {
	overflow, timeout, noChain         atomic.Uint64
	pressed, crowded                   atomic.Uint64 // see pendings
	handshakes, reused, noCert, failed atomic.Uint64
	badChain, badSAN, badHash          atomic.Uint64
}

// listenerStats hands out the stats of all listeners.
func (s *Server) listenerStats(add func(telemetry.Stat)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.bindings {
		st := b.state.Load()
		if st == nil {
			continue
		}
		address := strings.ReplaceAll(st.l.Addresses[0].Address, ":", "_")
		for name, v := range map[string]*atomic.Uint64{
			"downstream_cx_overflow": &b.stats.overflow, "downstream_pre_cx_timeout": &b.stats.timeout,
			"downstream_pre_cx_pressed": &b.stats.pressed, "downstream_pre_cx_crowded": &b.stats.crowded,
			"no_filter_chain_match": &b.stats.noChain,
			"ssl.handshake":         &b.stats.handshakes, "ssl.session_reused": &b.stats.reused,
			"ssl.no_certificate": &b.stats.noCert, "ssl.connection_error": &b.stats.failed,
			"ssl.fail_verify_error": &b.stats.badChain, "ssl.fail_verify_san": &b.stats.badSAN,
			"ssl.fail_verify_cert_hash": &b.stats.badHash,
		} {
			add(telemetry.Stat{
				Name: "listener." + address + "." + name, Value: v.Load(),
				Base: "listener." + name, Label: "envoy_listener_address", LabelValue: address,
			})
		}
	}
}

func (n *listenerStats) established(t *call.TLSInfo) {
	n.handshakes.Add(1)
	if t.Resumed {
		n.reused.Add(1)
	}
	if t.PeerSHA256 == "" {
		n.noCert.Add(1)
	}
}

func (n *listenerStats) refused(err error) {
	var bad *transport.VerifyError
	switch {
	case errors.Is(err, errDropped): // counted by pendings
	case errors.Is(err, worker.ErrGone): // nothing has failed but its patience
	case errors.Is(err, errTooManyCx):
		n.overflow.Add(1)
	case errors.Is(err, errNoChain):
		n.noChain.Add(1)
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		n.timeout.Add(1)
	case errors.As(err, &bad):
		switch bad.Reason {
		case transport.BadSAN:
			n.badSAN.Add(1)
		case transport.BadHash:
			n.badHash.Add(1)
		default:
			n.badChain.Add(1)
		}
	default:
		n.failed.Add(1)
	}
}

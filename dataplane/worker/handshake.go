package worker

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Handshakes runs the TLS handshakes of accepted connections, each on the
// goroutine that calls Serve. Two things bound what strangers can make the
// proxy compute: tokens, so that handshakes leave processors to the workers,
// and a rate. A handshake holds a token only while it computes: one that waits
// for its client holds none, or a few silent clients would stop all others.
type Handshakes struct {
	gate gate
	pace pace
}

// handshakeRate is how many handshakes per second and processor begin; more
// wait for their turn. An ECDSA P-256 handshake costs about 0.1 ms, so they
// take a twentieth of the machine, or a sixth with RSA keys.
const handshakeRate = 500

// NewHandshakes returns limits for the connections of g.
func NewHandshakes(g *Group) *Handshakes {
	return &Handshakes{
		gate: newGate(max(1, len(g.workers)/2)),
		pace: pace{every: time.Second / time.Duration(handshakeRate*runtime.GOMAXPROCS(0))},
	}
}

// TLSConn is a connection whose handshake is over, on its way to a worker.
type TLSConn struct {
	layer *tlsLayer
}

// State returns what the handshake told.
func (c *TLSConn) State() tls.ConnectionState { return c.layer.tc.ConnectionState() }

// Close closes a connection that no worker gets.
func (c *TLSConn) Close() { _ = c.layer.Conn.Close() }

// Steps hears how far a handshake is, on its goroutine.
type Steps interface {
	// Hello: the ClientHello is whole, from here on the handshake waits for its
	// turn.
	Hello()
	// Turn: from here on it waits for the client only.
	Turn()
}

// Serve runs the server's part of a handshake on nc, and blocks until it is
// over, ctx is done or the deadline of nc has passed. If it fails, nc is closed.
// steps may be nil.
func (h *Handshakes) Serve(ctx context.Context, nc net.Conn, cfg *tls.Config, steps Steps) (*TLSConn, error) {
	l := &tlsLayer{Conn: nc, gate: &h.gate}
	// The turn is taken when the whole ClientHello is here: what comes next is
	// what costs, and whoever sends less than that delays nobody.
	l.tc = tls.Server(l, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		h.gate.give()
		err := h.turn(ctx, nc, steps)
		h.gate.take()
		if err != nil || cfg.GetConfigForClient == nil {
			return cfg, err
		}
		return cfg.GetConfigForClient(hello)
	}})
	if err := l.handshake(ctx); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return &TLSConn{l}, nil
}

// turn waits for the turn of the handshake on nc. When clients come faster than
// they can be served some give up, and come again. A turn spent on one that has
// left is one that another client does not get in its time: so that all are
// served at last, those that are gone get none.
func (h *Handshakes) turn(ctx context.Context, nc net.Conn, steps Steps) error {
	left := func() bool { return Gone(nc) }
	if left() {
		return ErrGone
	}
	if steps == nil {
		return h.pace.wait(ctx, left)
	}
	steps.Hello()
	if err := h.pace.wait(ctx, left); err != nil {
		return err
	}
	steps.Turn()
	return nil
}

// Gone reports whether the peer has closed nc, as far as the system tells: not
// everywhere if bytes of it were not read.
func Gone(nc net.Conn) (yes bool) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	_ = rc.Control(func(fd uintptr) { yes = hungUp(int(fd)) })
	return yes
}

// handshake runs the handshake of l.tc until ctx is done.
func (l *tlsLayer) handshake(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Conn.SetDeadline(time.Unix(1, 0)) })
	l.gate.take()
	err := l.tc.Handshake()
	l.gate.give()
	if !stop() { // the deadline is, or is about to be, set
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// gate hands out tokens for computing.
type gate struct{ tokens chan struct{} }

func newGate(n int) gate { return gate{tokens: make(chan struct{}, n)} }

func (g *gate) take() { g.tokens <- struct{}{} }
func (g *gate) give() { <-g.tokens }

// read reads without a token.
func (g *gate) read(c net.Conn, p []byte) (int, error) {
	g.give()
	defer g.take()
	return c.Read(p)
}

// write writes without a token: the peer may not read.
func (g *gate) write(c net.Conn, p []byte) (int, error) {
	g.give()
	defer g.take()
	return c.Write(p)
}

// pace lets one pass every so often. Those that come faster wait in a queue,
// whose first one waits for the time.
type pace struct {
	every time.Duration

	mu      sync.Mutex // guards all below
	next    time.Time  // when the next one may pass
	waiting list.List  // of chan struct{}, closed for who becomes the first
}

// burst is how many may pass at once after a quiet time.
const burst = 32

var (
	errTooMany = errors.New("worker: too many TLS handshakes")
	// ErrGone says that the client has left while it waited.
	ErrGone = errors.New("worker: the client has left before its TLS handshake")
)

// wait returns when it is the caller's turn, or ctx is done. A client that has
// left by then takes none.
func (p *pace) wait(ctx context.Context, left func() bool) error {
	el, err := p.enter(ctx)
	if el == nil {
		return err
	}
	select {
	case <-el.Value.(chan struct{}):
	case <-ctx.Done():
		return p.leave(el, fmt.Errorf("%w: %w", errTooMany, context.Cause(ctx)))
	}
	if d := time.Until(p.turn()); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return p.leave(el, fmt.Errorf("%w: %w", errTooMany, context.Cause(ctx)))
		}
	}
	if left() {
		return p.leave(el, ErrGone)
	}
	return p.leave(el, nil)
}

// enter takes a place in the queue, unless the turn is there, or would come too
// late.
func (p *pace) enter(ctx context.Context) (*list.Element, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.forget(now)
	n := p.waiting.Len()
	if end, has := ctx.Deadline(); has && end.Before(p.next.Add(time.Duration(n)*p.every)) {
		return nil, errTooMany
	}
	if n == 0 && !p.next.After(now) {
		p.next = p.next.Add(p.every)
		return nil, nil
	}
	first := make(chan struct{})
	if n == 0 {
		close(first)
	}
	return p.waiting.PushBack(first), nil
}

// forget drops the turns that nobody took, but for a burst.
func (p *pace) forget(now time.Time) {
	if oldest := now.Add(-burst * p.every); p.next.Before(oldest) {
		p.next = oldest
	}
}

// turn returns when the first one may pass.
func (p *pace) turn() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

// leave takes el out of the queue, with its turn if err is nil, and returns err.
func (p *pace) leave(el *list.Element, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.forget(time.Now())
		p.next = p.next.Add(p.every)
	}
	wasFirst := p.waiting.Front() == el
	p.waiting.Remove(el)
	if first := p.waiting.Front(); wasFirst && first != nil {
		close(first.Value.(chan struct{}))
	}
	return err
}

// ServeTLS is Serve for a connection whose TLS handshake is over.
func (g *Group) ServeTLS(ch *Chain, info *call.Conn, tc *TLSConn) {
	g.Least().driver.(server).serve(ch, info, tc.layer.Conn, tc.layer)
}

// handshakeUp secures a dialled connection.
func (c *netConn) handshakeUp(ctx context.Context, nc net.Conn, t call.ClientTLS, hostname string) (*tlsLayer, error) {
	cfg, err := t.Config(hostname)
	if err != nil {
		return nil, err
	}
	l := &tlsLayer{Conn: nc, gate: &c.d.gate}
	l.tc = tls.Client(l, cfg)
	if err := l.handshake(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return l, nil
}

// hostname returns the name of the host that k is dialled to, "" if it has
// none.
func (k *Sock) hostname() string {
	if u, ok := k.owner.(*upConn); ok {
		if h, ok := u.p.host.(interface{ Hostname() string }); ok {
			return h.Hostname()
		}
	}
	return ""
}

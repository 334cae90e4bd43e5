package worker

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// netConn is one socket of a netpoll driver.
type netConn struct {
	d *netpoll

	// gone is true when the sock is dead. Set once under the worker's lock,
	// read by the goroutines below when they are outside.
	gone atomic.Bool

	// Guarded by the worker's lock; nc, rc, fd and tls are set before anything
	// is read and never change.

	k       *Sock
	nc      net.Conn
	rc      syscall.RawConn
	fd      int
	tls     *tlsLayer          // nil: plaintext
	cancel  context.CancelFunc // of the dial in progress
	toEnd   bool               // nobody guards against lost FINs: a short read is not the end
	ended   bool               // Sock.eof was called
	writing bool               // the goroutine write runs
}

func newNetConn(d *netpoll) *netConn { return &netConn{d: d, fd: -1} }

// setNet gives c its connected socket, and its TLS if that is not nil.
func (c *netConn) setNet(nc net.Conn, l *tlsLayer) error {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return fmt.Errorf("worker: %T has no descriptor", nc)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	if err := rc.Control(func(fd uintptr) { c.fd = int(fd) }); err != nil {
		return err
	}
	c.nc, c.rc = nc, rc
	if l != nil {
		c.tls = l
		l.live(c.d)
	}
	return nil
}

// watch starts the guard against lost FINs. Called under the lock.
func (c *netConn) watch() {
	c.toEnd = c.d.hup == nil || !c.d.hup.add(c)
}

// run reads the socket until its sock is dead and closes it. It is the one
// goroutine of a connection.
func (c *netConn) run() {
	// An error can only mean that the runtime gave the descriptor up.
	if err := c.rc.Read(c.readable); err != nil {
		w := c.d.w
		w.begin()
		if !c.k.dead && !c.ended {
			c.ended = true
			c.k.eof(err)
		}
		w.end()
	}
	_ = c.nc.Close()
}

// readable is the batch of a connection: RawConn.Read calls it when there may
// be something to read, and closes in when it returns true.
func (c *netConn) readable(uintptr) bool {
	if c.gone.Load() {
		return true
	}
	w := c.d.w
	w.begin()
	c.d.read(c.k, false)
	if c.k.down {
		c.d.yield()
	}
	w.end()
	// If the sock dies after this look, its shutdown wakes us up again.
	return c.gone.Load()
}

// reread reads on after a pause (Driver.Resume): the edges that came in
// meanwhile are gone.
func (c *netConn) reread() {
	w := c.d.w
	w.begin()
	c.d.read(c.k, true)
	w.end()
}

// write waits until the socket takes bytes again, and writes, until nothing is
// left.
func (c *netConn) write() {
	// The callback's first call is one write too many, but an edge may have
	// come between the refused write and here.
	_ = c.rc.Write(func(uintptr) bool {
		if c.gone.Load() {
			return true
		}
		w := c.d.w
		w.begin()
		done := c.k.dead || c.sent() && !c.k.writable()
		if done {
			c.writing = false
		}
		w.end()
		return done
	})
}

// sent reports whether all that was encrypted is written, after trying.
func (c *netConn) sent() bool {
	if c.tls == nil {
		return true
	}
	before := len(c.tls.out)
	done, _ := c.d.send(c) // reading tells of the error
	if !done && len(c.tls.out) < before {
		c.k.progress()
	}
	return done
}

// dialing makes the context of a dial, which Shutdown cancels.
func (c *netConn) dialing(timeout time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	c.cancel = cancel
	return ctx
}

// dial connects, shakes hands if there is TLS, answers, and goes on as the
// connection's goroutine. hostname is the host's.
func (c *netConn) dial(ctx context.Context, t *call.Target, hostname string) {
	var nd net.Dialer
	var l *tlsLayer
	nc, err := nd.DialContext(ctx, t.Network, t.Address)
	if err == nil && t.Options != nil && t.Options.TLS != nil {
		l, err = c.handshakeUp(ctx, nc, t.Options.TLS, hostname)
	}
	w := c.d.w
	w.begin()
	c.cancel()
	c.cancel = nil
	if err == nil && !c.k.dead {
		if err = c.setNet(nc, l); err == nil {
			c.watch()
		}
	}
	if !c.k.dead {
		c.k.dialed(err)
	}
	w.end()
	switch {
	case c.rc != nil:
		c.run()
	case nc != nil:
		_ = nc.Close()
	}
}

// Serve hands an accepted connection over to the least loaded worker, where it
// belongs to chain ch for its life. nc must be a *net.TCPConn or
// *net.UnixConn; it is the worker's from now on. When Serve returns, the
// connection is known to Drain. The group's drivers must be NewNetpoll's, and
// nobody may call Serve any more when Shutdown is called.
func (g *Group) Serve(ch *Chain, info *call.Conn, nc net.Conn) {
	g.Least().driver.(server).serve(ch, info, nc, nil)
}

// server is a driver that takes accepted connections: netpoll.
type server interface {
	serve(ch *Chain, info *call.Conn, nc net.Conn, l *tlsLayer)
}

// serve attaches an accepted connection and starts its goroutine.
func (d *netpoll) serve(ch *Chain, info *call.Conn, nc net.Conn, l *tlsLayer) {
	c := newNetConn(d)
	if err := c.setNet(nc, l); err != nil {
		d.w.g.opt.Logger.Warn("connection refused", "listener", info.Listener, "reason", err)
		_ = nc.Close()
		return
	}
	d.w.begin()
	c.k = d.w.attach(ch, info, c)
	if c.k != nil && !c.k.dead {
		c.watch()
	}
	d.w.end()
	if c.k == nil {
		_ = nc.Close()
		return
	}
	d.wg.Go(c.run)
}

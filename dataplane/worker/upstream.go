package worker

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/relay"
)

// upConn is an upstream connection: the sock, HTTP/2's client role, and the
// relay's view of it.
type upConn struct {
	relay.Upstream
	sock   Sock
	p      *hostPool
	ready  bool        // the server's SETTINGS came: it takes streams
	opened uint32      // streams so far
	resets resetCount  // streams that we reset
	tired  bool        // they were too many: no more streams when another is ready
	worn   bool        // another is ready
	since  clock.Nanos // when it was connected, 0: not yet
}

// newUp makes a connection to the pool's host and begins to dial it.
func (w *Worker) newUp(p *hostPool) *upConn {
	u := &upConn{p: p}
	k := &u.sock
	w.initSock(k, u)
	k.scope, k.rx, k.tx = p.scope, call.UpstreamCxRxBytes, call.UpstreamCxTxBytes
	k.conn = h2.NewConn(h2.Client, p.cfg, u, w.now)
	u.Upstream = relay.Upstream{Core: &w.core, H: k.conn}
	w.core.Counters.Inc(p.scope, call.UpstreamCxTotal)
	w.core.Counters.Inc(p.scope, call.UpstreamCxActive)
	w.driver.Dial(k, p.target, p.opt.ConnectTimeout)
	return u
}

// clientConfig translates a cluster's connection options; the worker keeps one
// for each cluster.
func (w *Worker) clientConfig(o *call.UpstreamOptions) *h2.Config {
	if c := w.clients[o]; c != nil {
		return c
	}
	c := h2.DefaultConfig(h2.Client)
	// What clients do not read must not stop a backend for the others before
	// the memory budget is used up, at which calls are evicted.
	c.HoldLimit = max(c.HoldLimit, w.budget())
	var cluster call.Scope
	if o != nil {
		cluster = o.Cluster
		applyHTTP2(c, &o.HTTP2)
		if o.MaxStreams > 0 {
			c.MaxConcurrentStreams = min(c.MaxConcurrentStreams, o.MaxStreams)
		}
		c.IdleTimeout = orDefault(o.IdleTimeout, time.Hour)
	}
	n := w.upH2[cluster]
	if n == nil {
		n = &h2.Counters{}
		w.upH2[cluster] = n
		w.upOrder = append(w.upOrder, cluster)
	}
	c = w.fitWindow(c).ForWorker(w.pool, n, &w.rnd)
	w.clients[o] = c
	return c
}

// dialSucceeded waits for the server's SETTINGS. A socket that the kernel has
// connected may belong to a process that will never take it, since it is about
// to stop: what was sent to it would be lost, and might have been seen.
func (u *upConn) dialSucceeded() {
	w := u.sock.w
	u.p.lastFailure = relay.FailClosed // unless they come
	u.since = w.now
	u.sock.conn.Connected(w.now)
	if age := u.p.opt.MaxAge; age > 0 {
		u.sock.conn.DrainAt(w.now.Add(w.jitter(age, u.p.opt.MaxAgeJitter)))
	}
	u.sock.moveTick()
}

// dialFailed ends the connection and, if it was the last hope, the wait of
// those in the queue.
func (u *upConn) dialFailed(err error) {
	w := u.sock.w
	why := relay.FailConnect
	w.core.Counters.Inc(u.p.scope, call.UpstreamCxConnectFail)
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		why = relay.FailTimeout
		w.core.Counters.Inc(u.p.scope, call.UpstreamCxConnectTimeout)
	}
	u.sock.cause = err
	u.p.lastFailure = why
	u.sock.kill()
}

// NewStream implements h2.Handler: servers open no streams.
func (u *upConn) NewStream(uint32) *h2.Stream { return nil }

// OnEnd implements h2.Handler.
func (u *upConn) OnEnd(s *h2.Stream, e h2.StreamError) {
	if e.Side == h2.SideLocal && !s.Owner.(*relay.Attempt).Over() && u.resets.add(u.p.w.now) {
		u.p.replace(u)
	}
	u.Upstream.OnEnd(s, e)
	if u.p.head != nil {
		u.sock.markDirty() // settle serves the queue
	}
}

// OnConn implements h2.Handler.
func (u *upConn) OnConn(ev h2.ConnEvent) {
	switch ev.Kind {
	case h2.EventSettings:
		u.sock.markDirty() // settle serves the queue
	case h2.EventGoAway:
		u.Core.Counters.Inc(u.p.scope, call.UpstreamCxCloseNotify)
		u.sock.markDirty()
	case h2.EventStalled:
		u.EvictHolder(ev.Stream)
	case h2.EventIdle:
		u.Core.Counters.Inc(u.p.scope, call.UpstreamCxIdleTimeout)
	case h2.EventAge:
		u.Core.Counters.Inc(u.p.scope, call.UpstreamCxMaxDuration)
	case h2.EventClosed:
		if ev.Err != nil {
			u.sock.cause = ev.Err
			var ce *h2.ConnError
			if errors.As(ev.Err, &ce) && !ce.Peer {
				u.Core.Counters.Inc(u.p.scope, call.UpstreamCxProtocolError)
				if !u.ready && u.p.w.now >= u.since.Add(u.p.cfg.PrefaceTimeout) {
					u.p.lastFailure = relay.FailTimeout
				}
			}
		}
		u.sock.markDirty()
	}
}

// Pending implements h2.Handler.
func (u *upConn) Pending() { u.sock.markDirty() }

// Flush implements h2.Handler.
func (u *upConn) Flush() { u.sock.writeNow() }

// settle implements sockOwner. A connection whose GOAWAY came with its SETTINGS
// never gets ready: it counts as a dial that failed, or its host, which is about
// to stop, would be dialled again and again.
func (u *upConn) settle() {
	if c := u.sock.conn; !u.ready && c.Established() && !c.GoingAway() && !c.Dead() {
		u.ready = true
		u.p.dials--
		u.p.replaced()
	}
	if u.full() && !u.sock.conn.GoingAway() {
		if !u.worn {
			u.Core.Counters.Inc(u.p.scope, call.UpstreamCxMaxRequests)
		}
		u.sock.conn.Shutdown(h2.ShutdownGraceful, h2.ErrCodeNo)
	}
	if u.p.retired && u.p.head == nil && u.ready && !u.sock.conn.GoingAway() {
		u.sock.conn.Shutdown(h2.ShutdownGraceful, h2.ErrCodeNo)
	}
	if u.p.head != nil && relay.Planted != relay.PlantQueueForgotten {
		u.p.serve()
		u.p.dial()
	}
}

// full reports that the connection has had all the requests it may have, or
// all the resets.
func (u *upConn) full() bool {
	limit := u.p.opt.MaxRequests
	return u.worn || limit > 0 && u.opened >= limit
}

// A server takes many resets for an attack (CVE-2023-44487) and ends the
// connection, with the calls of clients that reset nothing. One client may make
// us send 100 a second and as many as it has calls answered, and the resets of
// all meet on few connections. So a
// connection that had wornResets in wornTime finishes its streams, 100 at most
// where servers say what most do, when another has come in its place. That is
// about what Netty allows, 200 in 30 s, and within what nghttp2, 1,000 and 33 a
// second, and this proxy do.
const (
	wornResets = 100
	wornTime   = 30 * time.Second
)

// resetCount counts resets in spans of wornTime.
type resetCount struct {
	n     int
	since clock.Nanos
}

// add counts one and reports whether it was one too many.
func (r *resetCount) add(now clock.Nanos) bool {
	if now.Sub(r.since) >= wornTime {
		*r = resetCount{since: now}
	}
	r.n++
	return r.n >= wornResets
}

// name implements sockOwner.
func (u *upConn) name() string { return "upstream " + u.p.target.Address }

// drainDeadline implements sockOwner.
func (u *upConn) drainDeadline() { u.sock.doom(nil) }

// closed implements sockOwner.
func (u *upConn) closed(cause error) {
	w := u.sock.w
	c := &w.core.Counters
	u.p.releaseConnection()
	c.Dec(u.p.scope, call.UpstreamCxActive)
	c.Inc(u.p.scope, call.UpstreamCxDestroy)
	if u.sock.ended {
		c.Inc(u.p.scope, call.UpstreamCxDestroyRemote)
	} else {
		c.Inc(u.p.scope, call.UpstreamCxDestroyLocal)
	}
	u.p.remove(u)
}

package worker

import (
	"errors"
	"math"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/relay"
)

// downConn is a downstream connection: the sock, HTTP/2's server role, and the
// relay's view of it.
type downConn struct {
	relay.Downstream
	sock     Sock
	ch       *Chain
	requests uint32
	draining bool
	shown    uint64 // of sock.moved at the last shed
}

// chainState is what a worker keeps for a chain while it has connections of it.
type chainState struct {
	cfg   *h2.Config
	conns int
}

func (w *Worker) newDown(ch *Chain, info *call.Conn, impl any) *Sock {
	st := w.chains[ch]
	if st == nil {
		st = &chainState{cfg: w.fitWindow(serverConfig(ch.conn)).ForWorker(w.pool, &w.downH2, &w.rnd)}
		w.chains[ch] = st
	}
	st.conns++
	d := &downConn{ch: ch}
	k := &d.sock
	k.down, k.impl, k.connected = true, impl, true
	w.initSock(k, d)
	k.scope, k.rx, k.tx = ch.conn.Scope, call.DownstreamCxRxBytes, call.DownstreamCxTxBytes
	k.conn = h2.NewConn(h2.Server, st.cfg, d, w.now)
	d.Downstream = relay.Downstream{Core: &w.core, H: k.conn, Info: info, Manager: &ch.manager}
	if at := w.endOf(ch.conn); at != 0 {
		k.conn.DrainAt(at)
	}
	w.downs++
	w.core.Counters.Inc(k.scope, call.DownstreamCxTotal)
	w.core.Counters.Inc(k.scope, call.DownstreamCxActive)
	w.core.Counters.Inc(ch.Listener, call.DownstreamCxTotal)
	w.core.Counters.Inc(ch.Listener, call.DownstreamCxActive)
	k.markDirty()
	k.moveTick()
	return k
}

// endOf is when a connection that begins now has to drain: at its maximum age
// or, if the process leaves, some time before it does; 0: never.
func (w *Worker) endOf(m *call.Manager) (at clock.Nanos) {
	if age := m.MaxConnectionDuration; age > 0 {
		at = w.now.Add(w.jitter(age, m.MaxConnectionJitter))
	}
	if w.leaving != 0 {
		left := min(max(0, w.leaving.Sub(w.now)), 4*time.Second)
		if end := w.now.Add(left/4 + time.Duration(w.rnd.Uint64()%uint64(left/2+1))); at == 0 || end < at {
			at = end
		}
	}
	return at
}

// jitter makes connections that began together end apart: age and up to so
// many percent more (max_connection_duration_jitter) or, if nothing is
// configured, up to a tenth less.
func (w *Worker) jitter(age time.Duration, percent float64) time.Duration {
	if percent > 0 {
		more := percent / 100 * float64(age) * float64(w.rnd.Uint64()>>11) / (1 << 53)
		if more >= float64(math.MaxInt64-age) {
			return math.MaxInt64
		}
		return age + time.Duration(more)
	}
	return age - time.Duration(w.rnd.Uint64()%uint64(age/10+1))
}

// serverConfig translates a manager's connection-level options.
func serverConfig(m *call.Manager) *h2.Config {
	c := h2.DefaultConfig(h2.Server)
	applyHTTP2(c, &m.HTTP2)
	c.IdleTimeout = orDefault(m.IdleTimeout, time.Hour)
	if m.RequestHeadersTimeout > 0 {
		c.HeaderTimeout = m.RequestHeadersTimeout
	}
	if m.DrainTimeout > 0 {
		c.DrainPing = m.DrainTimeout
	}
	return c
}

// applyHTTP2 puts configured values over the defaults of either role.
func applyHTTP2(c *h2.Config, o *call.HTTP2Options) {
	if o.MaxConcurrentStreams > 0 {
		c.MaxConcurrentStreams = o.MaxConcurrentStreams
	}
	if o.InitialStreamWindowSize > 0 {
		c.StreamWindow = int64(o.InitialStreamWindowSize)
	}
	if o.InitialConnectionWindowSize > 0 {
		c.ConnWindow = int64(o.InitialConnectionWindowSize)
		// A smaller window lends no less: what stalled streams hold must not
		// stop the others.
		c.HoldLimit = max(c.HoldLimit, c.ConnWindow)
	}
	if o.HPACKTableSize > 0 {
		c.HeaderTable = o.HPACKTableSize
	}
	if o.MaxHeaderBytes > 0 {
		c.MaxHeaderBytes = int(o.MaxHeaderBytes)
	}
	if o.MaxHeaderCount > 0 {
		c.MaxHeaderFields = int(o.MaxHeaderCount)
	}
	c.KeepaliveInterval, c.KeepaliveJitter, c.KeepaliveIdle = o.KeepaliveInterval, int(o.KeepaliveJitter), o.KeepaliveIdle
	if o.KeepaliveTimeout > 0 {
		c.KeepaliveTimeout = o.KeepaliveTimeout
	}
}

// orDefault returns d, the default if it is zero, and 0 (never) if negative.
func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

// NewStream implements h2.Handler.
func (d *downConn) NewStream(id uint32) *h2.Stream {
	d.requests++
	return d.Downstream.NewStream(id)
}

// OnConn implements h2.Handler.
func (d *downConn) OnConn(ev h2.ConnEvent) {
	switch ev.Kind {
	case h2.EventStalled:
		d.EvictHolder(ev.Stream)
	case h2.EventIdle:
		d.Core.Counters.Inc(d.sock.scope, call.DownstreamCxIdleTimeout)
	case h2.EventAge:
		if d.sock.w.leaving != 0 {
			d.Core.Counters.Inc(d.sock.scope, call.DownstreamCxDrainClose)
			d.draining = true
			break
		}
		d.Core.Counters.Inc(d.sock.scope, call.DownstreamCxMaxDuration)
	case h2.EventClosed:
		if ev.Err != nil {
			d.sock.cause = ev.Err
			var ce *h2.ConnError
			if errors.As(ev.Err, &ce) && !ce.Peer {
				d.Core.Counters.Inc(d.sock.scope, call.DownstreamCxProtocolError)
			}
		}
		d.sock.markDirty()
	}
}

// Pending implements h2.Handler.
func (d *downConn) Pending() { d.sock.markDirty() }

// Flush implements h2.Handler.
func (d *downConn) Flush() { d.sock.writeNow() }

// settle implements sockOwner.
func (d *downConn) settle() {
	if limit := d.ch.conn.MaxRequestsPerConn; limit > 0 && d.requests >= limit && !d.sock.conn.GoingAway() {
		d.sock.conn.Shutdown(h2.ShutdownGraceful, h2.ErrCodeNo)
	}
}

// drain begins the end of the connection; at the deadline, if it is not 0, what
// is left of it is cut.
func (d *downConn) drain(deadline time.Duration) {
	k := &d.sock
	w := k.w
	if !d.draining {
		d.draining = true
		w.core.Counters.Inc(k.scope, call.DownstreamCxDrainClose)
		k.conn.Shutdown(h2.ShutdownGraceful, h2.ErrCodeNo)
		k.markDirty()
		k.moveTick()
	}
	if deadline > 0 && k.cutAt == 0 {
		k.cutAt = w.now.Add(deadline)
		if !k.closing.Active() {
			w.core.Wheel.Set(&k.closing, k.cutAt)
		}
	}
}

// name implements sockOwner.
func (d *downConn) name() string {
	return "downstream " + d.Info.Remote.String() + " of listener " + d.Info.Listener
}

// drainDeadline implements sockOwner.
func (d *downConn) drainDeadline() {
	defer d.sock.contain("drain deadline")
	d.Downstream.DrainDeadline()
	d.sock.conn.Shutdown(h2.ShutdownNow, h2.ErrCodeNo)
	d.sock.closingSoon = true
	d.sock.markDirty()
}

// closed implements sockOwner.
func (d *downConn) closed(cause error) {
	w := d.sock.w
	w.downs--
	st := w.chains[d.ch]
	if st.conns--; st.conns == 0 {
		delete(w.chains, d.ch)
	}
	w.core.Counters.Dec(d.sock.scope, call.DownstreamCxActive)
	w.core.Counters.Inc(d.sock.scope, call.DownstreamCxDestroy)
	w.core.Counters.Dec(d.ch.Listener, call.DownstreamCxActive)
	w.core.Counters.Inc(d.ch.Listener, call.DownstreamCxDestroy)
}

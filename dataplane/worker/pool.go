package worker

import (
	"math"
	"slices"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/relay"
)

// hostPool is one worker's connections to one host, and the attempts that wait
// for a stream on them (docs/core.md, "Upstream pools"). Connections are filled, not spread
// over: batches make small calls cheap.
type hostPool struct {
	w      *Worker
	host   call.Host
	target *call.Target
	opt    call.UpstreamOptions // with defaults filled in
	cfg    *h2.Config
	scope  call.Scope

	conns       []*upConn // in the order of dialling; those that die leave
	dials       int       // of them, not yet ready
	head, tail  *relay.Attempt
	pending     int
	retired     bool        // no set picks the host: connections end when idle
	noDial      clock.Nanos // after a failed dial, not before this instant
	noBeyond    clock.Nanos // nor beyond maxDraining before this one
	redial      clock.Timer // at either, if somebody waits
	lastFailure relay.Failure
}

// Defaults of call.UpstreamOptions.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultMaxConnections = 4
	defaultMaxPending     = 1024
	// queuedPerDial is how many waiting attempts justify each further dial
	// at once.
	queuedPerDial = 100
	// dialPause follows a failed dial while other connections to the host take
	// new streams: the queue waits for them, but not for ever.
	dialPause = 250 * time.Millisecond
	// maxDraining times MaxConnections is the limit of all connections, beyond
	// which there is one each beyondPause if no other takes new streams, up to
	// mostDraining.
	maxDraining  = 4
	mostDraining = 64
	beyondPause  = time.Second
)

func (w *Worker) poolOf(h call.Host) *hostPool {
	if p := w.lastP; p != nil && p.host == h {
		return p
	}
	p := w.pools[h]
	if p == nil {
		p = &hostPool{w: w, host: h, target: h.Target(), retired: h.Retired()}
		if o := p.target.Options; o != nil {
			p.opt = *o
		}
		p.redial.Owner = p
		p.scope = p.opt.Cluster
		if p.opt.ConnectTimeout <= 0 {
			p.opt.ConnectTimeout = defaultConnectTimeout
		}
		if p.opt.MaxConnections == 0 {
			p.opt.MaxConnections = defaultMaxConnections
		}
		if p.opt.MaxPending == 0 {
			p.opt.MaxPending = defaultMaxPending
			if p.target.Limits != nil {
				p.opt.MaxPending = math.MaxInt32
			}
		}
		p.cfg = w.clientConfig(p.target.Options)
		w.pools[h] = p
		w.order = append(w.order, p)
	}
	w.lastP = p
	return p
}

// Open implements relay.Upstreams.
func (w *Worker) Open(a *relay.Attempt) (*relay.Upstream, error) {
	p := w.poolOf(a.Host())
	if p.head == nil {
		if u := p.open(a); u != nil {
			return &u.Upstream, nil
		}
	}
	if p.pending >= int(p.opt.MaxPending) || !p.acquirePending() {
		w.core.Counters.Inc(p.scope, call.UpstreamRqPendingOverflow)
		return nil, call.ReplyOverflow
	}
	p.enqueue(a)
	p.dial()
	return nil, nil
}

// Cancel implements relay.Upstreams.
func (w *Worker) Cancel(a *relay.Attempt) { w.poolOf(a.Host()).unlink(a) }

// open opens a's stream on the connection with the most streams that takes
// one more; nil if there is none.
func (p *hostPool) open(a *relay.Attempt) *upConn {
	var best *upConn
	for _, u := range p.conns {
		if !u.ready || u.sock.dead || u.sock.doomed || u.full() || !u.sock.conn.CanOpen() {
			continue
		}
		if best == nil || u.sock.conn.Streams() > best.sock.conn.Streams() {
			best = u
		}
	}
	if best == nil {
		return nil
	}
	best.sock.conn.PingIfIdle(p.w.now)
	if !best.sock.conn.OpenStream(a.Stream()) {
		return nil
	}
	best.opened++
	return best
}

func (p *hostPool) enqueue(a *relay.Attempt) {
	a.Queued = true
	a.Next, a.Prev = nil, p.tail
	if p.tail == nil {
		p.head = a
	} else {
		p.tail.Next = a
	}
	p.tail = a
	p.pending++
	if n := p.target.Stats; n != nil {
		n.Pending.Add(1)
	}
	p.w.core.Counters.Inc(p.scope, call.UpstreamRqPendingTotal)
	p.w.core.Counters.Inc(p.scope, call.UpstreamRqPendingActive)
}

func (p *hostPool) unlink(a *relay.Attempt) {
	if a.Prev == nil {
		p.head = a.Next
	} else {
		a.Prev.Next = a.Next
	}
	if a.Next == nil {
		p.tail = a.Prev
	} else {
		a.Next.Prev = a.Prev
	}
	a.Next, a.Prev, a.Queued = nil, nil, false
	if p.head == nil {
		p.w.core.Wheel.Stop(&p.redial)
	}
	p.pending--
	if l := p.target.Limits; l != nil {
		l.Pending.Release()
	}
	if n := p.target.Stats; n != nil {
		n.Pending.Add(-1)
	}
	p.w.core.Counters.Dec(p.scope, call.UpstreamRqPendingActive)
}

// acquirePending takes a place in the cluster's queue.
func (p *hostPool) acquirePending() bool {
	l := p.target.Limits
	return l == nil || l.Pending.Acquire()
}

// acquireConnection takes one of the cluster's connections. A pool without a
// usable one may always have it (Envoy's ConnPoolImplBase::tryCreateNewConnection):
// nobody would ever serve its queue.
func (p *hostPool) acquireConnection() bool {
	l := p.target.Limits
	if l == nil || l.Connections.Acquire() {
		p.countConnection()
		return true
	}
	p.w.core.Counters.Inc(p.scope, call.UpstreamCxOverflow)
	if p.usable() > 0 {
		return false
	}
	l.Connections.Force()
	p.countConnection()
	return true
}

func (p *hostPool) countConnection() {
	if n := p.target.Stats; n != nil {
		n.Connecting.Add(1)
		n.Open.Add(1)
	}
}

// releaseConnection gives back what acquireConnection took.
func (p *hostPool) releaseConnection() {
	if l := p.target.Limits; l != nil {
		l.Connections.Release()
	}
	if n := p.target.Stats; n != nil {
		n.Open.Add(-1)
	}
}

// serve opens streams for those that wait, first come first served.
func (p *hostPool) serve() {
	for p.head != nil {
		a := p.head
		u := p.open(a)
		if u == nil {
			return
		}
		p.unlink(a)
		a.Ready(&u.Upstream)
	}
}

// dial begins as many connections as the queue justifies and the limit allows.
// Connections that only finish their streams do not count, but for a bound on
// how fast a host that keeps saying GOAWAY can make us hold many of them.
func (p *hostPool) dial() {
	if p.head == nil {
		return
	}
	if p.w.now < p.noDial && p.usable() > 0 {
		p.w.core.Wheel.Set(&p.redial, p.noDial)
		return
	}
	for p.head != nil && (p.dials == 0 || p.pending > queuedPerDial*p.dials) &&
		p.usable() < int(p.opt.MaxConnections) {
		if len(p.conns) >= maxDraining*int(p.opt.MaxConnections) {
			if p.usable() > 0 || len(p.conns) >= mostDraining*int(p.opt.MaxConnections) {
				return
			}
			if p.w.now < p.noBeyond {
				p.w.core.Wheel.Set(&p.redial, p.noBeyond)
				return
			}
			p.noBeyond = p.w.now.Add(beyondPause)
		}
		if !p.acquireConnection() {
			return
		}
		p.dials++
		p.conns = append(p.conns, p.w.newUp(p))
	}
}

// Expire implements clock.Expirer: a pause is over.
func (p *hostPool) Expire(*clock.Timer, clock.Nanos) { p.dial() }

// usable counts the connections that take, or will take, new streams.
func (p *hostPool) usable() (n int) {
	for _, u := range p.conns {
		if !u.sock.dead && !u.sock.doomed && !u.full() && !u.sock.conn.GoingAway() && !u.sock.conn.Dead() {
			n++
		}
	}
	return n
}

// replace dials a connection in the place of u, which goes on until that is
// ready. Connections that finish long streams must leave room for new ones.
func (p *hostPool) replace(u *upConn) {
	if u.worn || p.retired || p.w.closing || len(p.conns) >= maxDraining/2*int(p.opt.MaxConnections) {
		return
	}
	u.tired = true
	if p.dials == 0 && p.w.now >= p.noDial && p.acquireConnection() {
		p.dials++
		p.conns = append(p.conns, p.w.newUp(p))
	}
}

// replaced lets go of what a new connection replaces.
func (p *hostPool) replaced() {
	for _, u := range p.conns {
		if u.tired && !u.worn {
			u.worn = true
			u.sock.markDirty()
		}
	}
}

// remove takes a dead connection out. Those that wait get another one, or, if
// the host refused and no other takes new streams, an answer.
func (p *hostPool) remove(u *upConn) {
	i := slices.Index(p.conns, u)
	if i < 0 {
		return
	}
	p.conns = slices.Delete(p.conns, i, i+1)
	failed := !u.ready
	if failed {
		p.dials--
		p.noDial = p.w.now.Add(dialPause)
	}
	if p.head != nil {
		if failed && p.usable() == 0 {
			p.failAll(p.lastFailure)
		} else {
			p.serve()
			p.dial()
		}
	}
	p.leave()
}

// failAll answers all that wait now. Some of them come back at once to try
// again; they are not failed twice.
func (p *hostPool) failAll(why relay.Failure) {
	var all []*relay.Attempt
	for p.head != nil {
		a := p.head
		p.unlink(a)
		all = append(all, a)
	}
	for _, a := range all {
		a.Fail(why)
	}
}

// sweep lets go of the pools whose hosts are gone from their clusters.
func (w *Worker) sweep() {
	for _, p := range slices.Clone(w.order) {
		if !p.retired && p.host.Retired() {
			p.retired = true
			for _, u := range p.conns {
				if u.ready {
					u.sock.conn.Shutdown(h2.ShutdownGraceful, h2.ErrCodeNo)
					u.sock.markDirty()
				}
			}
		}
		p.leave()
	}
	// The options of clusters that are gone.
	used := make(map[*call.UpstreamOptions]*h2.Config, len(w.clients))
	for _, p := range w.order {
		used[p.target.Options] = p.cfg
	}
	w.clients = used
}

// leave forgets a retired pool that has nothing left.
func (p *hostPool) leave() {
	if !p.retired || len(p.conns) > 0 || p.head != nil {
		return
	}
	w := p.w
	delete(w.pools, p.host)
	if i := slices.Index(w.order, p); i >= 0 {
		w.order = slices.Delete(w.order, i, i+1)
	}
	if w.lastP == p {
		w.lastP = nil
	}
}

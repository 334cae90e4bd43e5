package worker

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/relay"
)

// rbufSize is the size of a worker's read buffer. It must hold the tail of a
// partial frame (up to 9 + 16,384 B) and leave room for a decent read.
const rbufSize = 64<<10 + 16<<10 + 16

// poolBytes bounds the chunks that a worker keeps for reuse.
const poolBytes = 8 << 20

// Worker runs the connections that were given to it. See the package comment.
type Worker struct {
	// Set at creation.

	g      *Group
	index  int
	driver Driver
	done   chan struct{} // closed when the last sock of a closing worker is dead

	// mu guards all below. Only begin, pause and the scrape take it.
	mu    sync.Mutex
	now   clock.Nanos // read once per batch
	since clock.Nanos // when the lock was taken
	last  *Sock       // whose input was handled last under it, for the log
	rbuf  []byte
	dirty []*Sock // have output to write; flushed at the end of the batch
	spare []*Sock // the list that flush swaps dirty with
	iov   [][]byte

	core    relay.Core
	pool    *h2.Pool
	rnd     rand.PCG
	socks   Sock // head of the list of all socks, in the order of their birth
	nsocks  int
	closing bool // no new connections; ends when the last one is gone
	gone    bool // done is closed

	chains  map[*Chain]*chainState
	pools   map[call.Host]*hostPool
	order   []*hostPool // pools in the order of their making
	lastP   *hostPool   // the pool used last
	clients map[*call.UpstreamOptions]*h2.Config
	downs   int // downstream socks
	downH2  h2.Counters
	upH2    map[call.Scope]*h2.Counters // by cluster; they stay, as the cluster's other counters do
	upOrder []call.Scope                // of upH2, in the order of their making
	holds   HoldTimes
	trim    trimmer
	lent    int64 // by how much streams' receive windows have grown, see grow
	long    longHolds

	leaving clock.Nanos // the process ends about then; 0: it does not

	// Used by the driver's adaptive yield (docs/core.md, "The netpoll driver").

	events uint64 // batches of downstream connections
	score  int    // 0..8: how often yielding merged batches lately

	// Atomic.

	conns atomic.Int64 // downstream connections, published by end
	load  atomic.Int64 // 4*active streams + connections, published by end
	inbox inbox
}

func newWorker(g *Group, index int) *Worker {
	w := &Worker{
		g: g, index: index,
		done:    make(chan struct{}),
		rbuf:    make([]byte, rbufSize),
		iov:     make([][]byte, 0, maxBuffers),
		pool:    h2.NewPool(poolBytes, g.opt.Debug),
		chains:  make(map[*Chain]*chainState),
		pools:   make(map[call.Host]*hostPool),
		clients: make(map[*call.UpstreamOptions]*h2.Config),
		upH2:    make(map[call.Scope]*h2.Counters),
	}
	w.socks.next, w.socks.prev = &w.socks, &w.socks
	w.rnd = *rand.NewPCG(g.opt.Seed, uint64(index))
	w.core = relay.Core{
		Resumer:   w,
		Upstreams: w,
		Log:       g.opt.Logger,
		Pool:      w.pool,
		Rand:      &w.rnd,
		Record:    g.opt.Record,
		Contain:   w.contain,
	}
	w.pool.Grow = w.grow
	w.trim.w, w.trim.timer.Owner = w, &w.trim
	w.pool.Reuse = int(w.budget())
	w.driver = g.opt.NewDriver(w)
	return w
}

// begin starts a batch: it takes the lock and reads the clock.
func (w *Worker) begin() {
	w.mu.Lock()
	w.now = w.driver.Now()
	w.since = w.now
	w.last = nil
	w.core.Now = w.now
}

// end ends a batch: it drains the inbox, runs the timers that are due, writes
// what the batch produced, sets the driver's timer and gives the lock back.
func (w *Worker) end() {
	w.drainInbox()
	w.core.Wheel.Advance(w.now)
	w.flush()
	if w.core.Memory() > w.budget() {
		w.evict()
		w.flush()
	}
	if !w.gone {
		w.trim.note()
	}
	w.finishClosing()
	w.driver.SetTimer(w.core.Wheel.Next()) // after all that may set one
	if w.pool.LiveBytes() < poolBytes {
		w.pool.Trim()
	}
	if n := int64(w.downs); n != w.conns.Load() {
		w.conns.Store(n)
	}
	if load := int64(4*w.core.Live() + w.nsocks); load != w.load.Load() {
		w.load.Store(load)
	}
	w.unlock()
}

func (w *Worker) unlock() {
	now := w.driver.Now()
	held := now.Sub(w.since)
	w.holds.add(held)
	if held <= longHold {
		w.mu.Unlock()
		return
	}
	who := ""
	if w.last != nil {
		who = w.last.owner.name()
	}
	report, ok := w.long.note(now, held, who)
	w.mu.Unlock()
	if ok {
		w.g.opt.Logger.Warn("a worker's lock was held long", "worker", w.index,
			"duration", report.worst, "connection", report.who, "times", report.times)
	}
}

// pause gives the lock away for a moment in the middle of a long batch, so
// that others get in, and takes it again. Flush first. Every sock may be dead
// afterwards, and w.now has moved.
func (w *Worker) pause() {
	w.unlock()
	runtime.Gosched()
	w.begin()
}

// attach makes the sock of an accepted connection that belongs to chain ch.
// The driver then reads; our SETTINGS are written at the end of the batch. It
// must be called between begin and end, on the worker of Group.Least. impl is
// stored in the sock before anything can need it. nil means that the worker
// does not take connections any more: the caller closes it.
func (w *Worker) attach(ch *Chain, info *call.Conn, impl any) *Sock {
	if w.closing {
		return nil
	}
	return w.newDown(ch, info, impl)
}

// Resume implements call.Resumer.
func (w *Worker) Resume(h call.Handle, err error) {
	w.post(msg{kind: msgResume, h: h, err: err})
}

// drainInbox does what other goroutines asked for.
func (w *Worker) drainInbox() {
	for _, m := range w.inbox.take() {
		switch m.kind {
		case msgResume:
			w.core.Resume(m.h, m.err)
		case msgDrain:
			w.eachDown(func(d *downConn) {
				if m.match(d.ch) {
					d.drain(m.dur)
				}
			})
		case msgShed:
			w.shed(m.share)
		case msgSweep:
			w.sweep()
		case msgLeave:
			w.leaving = w.now.Add(m.dur)
			w.eachDown(func(d *downConn) { d.drain(0) })
		case msgShutdown:
			w.closing = true
			w.eachDown(func(d *downConn) { d.drain(0) })
		case msgKill:
			w.closing = true
			w.eachDown((*downConn).drainDeadline)
			w.flush()
			for k := w.socks.next; k != &w.socks; k = k.next {
				k.doom(nil)
			}
		}
	}
}

// eachDown calls f for every downstream connection, oldest first. f may doom
// but not kill.
func (w *Worker) eachDown(f func(d *downConn)) {
	for k := w.socks.next; k != &w.socks; k = k.next {
		if d, ok := k.owner.(*downConn); ok {
			f(d)
		}
	}
}

// contain is Sock.contain for the connection of d.
func (w *Worker) contain(d *relay.Downstream, event string) {
	if w.g.opt.Debug {
		return
	}
	r := recover()
	if r == nil {
		return
	}
	var k *Sock
	w.eachDown(func(o *downConn) {
		if &o.Downstream == d {
			k = &o.sock
		}
	})
	if k != nil {
		k.panicked(event, r)
		return
	}
	w.g.opt.Logger.Error("panic on a connection that is over", "event", event, "reason", fmt.Sprint(r), "stack", string(debug.Stack()))
}

// finishClosing ends a closing worker step by step: when the last downstream
// connection is gone nobody needs the upstream ones.
func (w *Worker) finishClosing() {
	if !w.closing || w.gone || w.downs > 0 {
		return
	}
	if w.nsocks > 0 {
		for k := w.socks.next; k != &w.socks; k = k.next {
			if !k.conn.GoingAway() {
				k.conn.Shutdown(h2.ShutdownNow, h2.ErrCodeNo)
				if !k.connected {
					k.doom(nil)
				}
			}
		}
		w.flush()
	}
	if w.nsocks == 0 {
		w.gone = true
		w.core.Wheel.Stop(&w.trim.timer)
		close(w.done)
	}
}

// budget is this worker's share of the memory for slow receivers.
func (w *Worker) budget() int64 { return w.g.opt.MemoryBudget / int64(w.g.opt.N) }

// windowShare: a stream's window is at most such a part of a worker's budget
// to begin with, or 64 KiB.
const windowShare = 8

// fitWindow bounds the window of streams that is configured, 16 MiB say: some
// receivers that pause must not be over the budget by that alone. What a path
// needs beyond it windows grow by.
func (w *Worker) fitWindow(c *h2.Config) *h2.Config {
	c.StreamWindow = min(c.StreamWindow, max(64<<10, w.budget()/windowShare))
	return c
}

// grow implements h2.Pool's Grow: receive windows may grow by MemoryBudget in
// the whole process, and not while slow receivers use half of this worker's
// share. Those of its streams may grow by the other half: a client that pauses
// while a backend sends fast must not be over the budget by that alone.
func (w *Worker) grow(n int64, lent bool) bool {
	g := w.g
	if n > 0 && (w.core.Memory() > w.budget()/2 || g.grown.Load()+n > g.opt.MemoryBudget || lent && w.lent+n > w.budget()/2) {
		return false
	}
	g.grown.Add(n)
	if lent {
		w.lent += n
	}
	return true
}

// evict ends calls until a quarter of the budget is free (docs/core.md, "Flow control").
func (w *Worker) evict() {
	w.downH2.HeldOverflow += uint64(w.core.Evict(w.budget() * 3 / 4))
}

// scopesAtOnce is how many scopes a scrape reads under the lock at once: about
// 64 KiB of counters (docs/core.md, "Counters").
const scopesAtOnce = 64 << 10 / (8 * relay.CountersPerScope)

// readCounters calls f with pieces of the counters: arrays of other pieces are
// nil.
func (w *Worker) readCounters(f func([][]uint64)) {
	var piece [][]uint64
	for from, n := 0, 1; from < n; from += scopesAtOnce {
		w.mu.Lock()
		all := w.core.Counters
		n = len(all)
		clear(piece)
		to := min(from+scopesAtOnce, n)
		for len(piece) < to {
			piece = append(piece, nil)
		}
		if from < n {
			copy(piece[from:to], all[from:to])
		}
		f(piece)
		w.mu.Unlock()
	}
}

// clustersAtOnce is how many clusters' HTTP/2 counters are copied under the
// lock at once.
const clustersAtOnce = 256

// readHTTP2 calls f, without the lock, with each cluster's HTTP/2 counters.
func (w *Worker) readHTTP2(f func(call.Scope, *h2.Counters)) {
	var scopes []call.Scope
	counters := make([]h2.Counters, 0, clustersAtOnce)
	for from, n := 0, 1; from < n; from += clustersAtOnce {
		w.mu.Lock()
		n = len(w.upOrder)
		scopes = append(scopes[:0], w.upOrder[min(from, n):min(from+clustersAtOnce, n)]...)
		counters = counters[:0]
		for _, s := range scopes {
			counters = append(counters, *w.upH2[s])
		}
		w.mu.Unlock()
		for i, s := range scopes {
			f(s, &counters[i])
		}
	}
}

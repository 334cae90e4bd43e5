package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// Options configure a Group.
type Options struct {
	// N is the number of workers; 0: GOMAXPROCS. Fewer than GOMAXPROCS is the
	// one expensive choice: two processors then meet in one lock.
	N int
	// Logger gets events of connections and pools. nil: none.
	Logger *slog.Logger
	// NewDriver makes the driver of one worker. It may keep w but must not
	// enter it before NewGroup has returned.
	NewDriver func(w *Worker) Driver
	// MemoryBudget bounds the bytes held for slow receivers, in the whole
	// process; 0: 24 MiB (docs/core.md, "Flow control").
	MemoryBudget int64
	// Rebalance is how often a worker that has much more to do than another
	// sends a client away (rebalance.go); 0: never.
	Rebalance time.Duration
	// Seed seeds every random choice; 0: from the system. The simulation and
	// its replays set it.
	Seed uint64
	// Record, if not nil, sees every call that ended, under the worker's lock.
	Record func(c *call.Call, o *call.Outcome)
	// Debug is for tests: panics are not contained, freed memory is poisoned.
	Debug bool
}

// defaultBudget keeps what 50 stalled peers cost below 32 MiB, and the growth of
// resident memory under any attack below 64.
const defaultBudget = 24 << 20

// Group is the set of workers of a proxy.
type Group struct {
	opt     Options
	workers []*Worker
	balance *balancer    // nil: none
	grown   atomic.Int64 // by how much receive windows have grown, see Worker.grow

	rebalanced atomic.Uint64
}

// NewGroup returns a group of running workers.
func NewGroup(o Options) *Group {
	if o.N <= 0 {
		o.N = runtime.GOMAXPROCS(0)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MemoryBudget <= 0 {
		o.MemoryBudget = defaultBudget
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	g := &Group{opt: o}
	for i := range o.N {
		g.workers = append(g.workers, newWorker(g, i))
	}
	if o.Rebalance > 0 && o.N > 1 {
		g.balance = newBalancer(g, o.Rebalance)
	}
	return g
}

// Least returns the worker that should get the next connection: the one with
// the least 4*active streams + connections. The figures are those of the last
// batches; no lock is taken.
func (g *Group) Least() *Worker {
	best := g.workers[0]
	for _, w := range g.workers[1:] {
		if w.load.Load() < best.load.Load() {
			best = w
		}
	}
	return best
}

// Drain makes all connections of the chains that match drain: GOAWAY, later
// a second GOAWAY with the real last stream, and at the deadline the streams
// that are left get UNAVAILABLE. It returns at once.
func (g *Group) Drain(match func(*Chain) bool, deadline time.Duration) {
	for _, w := range g.workers {
		w.post(msg{kind: msgDrain, match: match, dur: deadline})
	}
}

// Leave makes all connections drain, and those that are still to come some time
// within d, each at an instant of its own, so that clients that come back to
// an address that still accepts are served, and do not come back at once. It
// returns at once; Shutdown follows.
func (g *Group) Leave(d time.Duration) {
	for _, w := range g.workers {
		w.post(msg{kind: msgLeave, dur: d})
	}
}

// Connections returns the number of downstream connections, as of the workers'
// last batches.
func (g *Group) Connections() (n int64) {
	for _, w := range g.workers {
		n += w.conns.Load()
	}
	return n
}

// Sweep makes the workers look for retired hosts and let go of their
// connections. It returns at once.
func (g *Group) Sweep() {
	for _, w := range g.workers {
		w.post(msg{kind: msgSweep})
	}
}

// ReadCounters calls f for each worker with its counter arrays, by
// call.Scope's index, in pieces: an array that is nil is in another piece, or
// nowhere. f runs under the worker's lock and must copy what it wants within
// microseconds.
func (g *Group) ReadCounters(f func(worker int, scopes [][]uint64)) {
	for i, w := range g.workers {
		w.readCounters(func(scopes [][]uint64) { f(i, scopes) })
	}
}

// Shutdown ends all connections: gracefully until ctx is done, then at once.
// It returns when every connection is gone and the drivers are closed, with
// ctx's error if that cut anything short.
func (g *Group) Shutdown(ctx context.Context) error {
	if g.balance != nil {
		g.balance.close()
	}
	for _, w := range g.workers {
		w.post(msg{kind: msgShutdown})
	}
	var err error
	for _, w := range g.workers {
		select {
		case <-w.done:
		case <-ctx.Done():
			err = ctx.Err()
			w.post(msg{kind: msgKill})
			<-w.done
		}
	}
	for _, w := range g.workers {
		w.driver.Close()
	}
	return err
}

// DownstreamHTTP2 returns what the downstream connections of all workers reacted
// to.
func (g *Group) DownstreamHTTP2() (sum h2.Counters) {
	for _, w := range g.workers {
		w.mu.Lock()
		sum.Add(&w.downH2)
		w.mu.Unlock()
	}
	return sum
}

// UpstreamHTTP2 calls f with what the upstream connections of each worker reacted
// to, by cluster. f is called without a lock, and copies.
func (g *Group) UpstreamHTTP2(f func(cluster call.Scope, n *h2.Counters)) {
	for _, w := range g.workers {
		w.readHTTP2(f)
	}
}

// HoldTimes returns how long the locks of all workers were held.
func (g *Group) HoldTimes() (sum HoldTimes) {
	for _, w := range g.workers {
		w.mu.Lock()
		h := w.holds
		w.mu.Unlock()
		sum.Sum += h.Sum
		for i, n := range h.Buckets {
			sum.Buckets[i] += n
		}
	}
	return sum
}

var _ call.Resumer = (*Worker)(nil)

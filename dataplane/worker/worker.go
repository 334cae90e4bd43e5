package worker

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// rbufSize is the size of a worker's read buffer. It must hold the tail of a
// partial frame (up to 9 + 16,384 B) and leave room for a decent read.
const rbufSize = 64<<10 + 16<<10 + 16

// Worker runs the connections that were given to it. See the package comment.
type Worker struct {
	// Set at creation.

	g      *Group
	index  int
	driver Driver

	// mu guards all below. Only begin, pause and the scrape take it.
	mu    sync.Mutex
	now   clock.Nanos // read once per batch
	dirty []*Sock     // have output to write; flushed at the end of the batch
	rbuf  []byte

	// Used by the driver's adaptive yield (core-design §5.3).

	events uint64 // batches of downstream connections
	score  int    // 0..8: how often yielding merged batches lately

	// Atomic.

	load  atomic.Int64 // 4*active streams + connections, published by end
	inbox inbox
}

func newWorker(g *Group, index int) *Worker {
	w := &Worker{g: g, index: index, rbuf: make([]byte, rbufSize)}
	w.driver = g.opt.NewDriver(w)
	return w
}

// begin starts a batch: it takes the lock and reads the clock.
func (w *Worker) begin() {
	w.mu.Lock()
	w.now = w.driver.Now()
}

// end ends a batch: it drains the inbox, runs the timers that are due, writes
// what the batch produced, sets the driver's timer and gives the lock back.
func (w *Worker) end() {
	w.flush()
	w.mu.Unlock()
}

// pause gives the lock away for a moment in the middle of a long batch, so
// that others get in, and takes it again. Flush first. Every sock may be dead
// afterwards, and w.now has moved.
func (w *Worker) pause() {
	w.mu.Unlock()
	runtime.Gosched()
	w.begin()
}

// flush writes the output of all dirty socks.
func (w *Worker) flush() {
	for _, k := range w.dirty {
		k.dirty = false
	}
	w.dirty = w.dirty[:0]
}

// attach makes the sock of an accepted connection that belongs to chain ch.
// The driver then reads; our SETTINGS are written at the end of the batch. It
// must be called between begin and end, on the worker of Group.Least. impl is
// stored in the sock before anything can need it. nil means that the worker
// does not take connections any more: the caller closes it.
func (w *Worker) attach(ch *Chain, info *call.Conn, impl any) *Sock {
	return &Sock{w: w, down: true, impl: impl}
}

// Resume implements call.Resumer.
func (w *Worker) Resume(h call.Handle, err error) {
	w.post(msg{kind: msgResume, h: h, err: err})
}

func (w *Worker) readCounters(f func([][]uint64)) {}

func (g *Group) shutdown(ctx context.Context) error { return ctx.Err() }

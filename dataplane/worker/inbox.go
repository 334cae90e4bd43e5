package worker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// msgKind is what an inbox message asks for.
type msgKind uint8

const (
	msgResume   msgKind = iota // a paused call goes on: h, err
	msgDrain                   // connections of matching chains drain: match, dur
	msgShed                    // a connection that does share of the work drains
	msgSweep                   // look for retired hosts
	msgLeave                   // drain everything, and what comes within dur too
	msgShutdown                // drain everything and take no more
	msgKill                    // end everything that is left
)

// msg is one message of an inbox.
type msg struct {
	kind  msgKind
	h     call.Handle
	err   error
	match func(*Chain) bool
	dur   time.Duration
	share float64
}

// inbox is how other goroutines reach a worker: they never take its lock.
// Messages are handled in the order they were posted.
type inbox struct {
	n     atomic.Int32 // messages in q; read without mu to skip an empty inbox
	mu    sync.Mutex   // guards q
	q     []msg
	spare []msg // owned by the worker: the slice that drain gives back
}

// post adds a message to the inbox and wakes the worker if nothing else will
// run it. Any goroutine may call it.
func (w *Worker) post(m msg) {
	ib := &w.inbox
	ib.mu.Lock()
	ib.q = append(ib.q, m)
	first := ib.n.Add(1) == 1
	ib.mu.Unlock()
	if first {
		w.driver.Wake()
	}
}

// take returns the posted messages. The slice is valid until the next take.
func (ib *inbox) take() []msg {
	if ib.n.Load() == 0 {
		return nil
	}
	ib.mu.Lock()
	q := ib.q
	ib.q = ib.spare[:0]
	ib.n.Store(0)
	ib.mu.Unlock()
	ib.spare = q
	return q
}

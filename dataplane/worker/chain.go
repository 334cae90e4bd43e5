package worker

import (
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Chain is what a downstream connection is bound to for its life: a filter
// chain. While its Key (see listener.Chain) stands, its Manager may be replaced (routes and
// filters change per call, without a drain); a connection-level change makes a
// new Chain, and the connections of the old one drain. Connection-level
// options (HTTP/2 settings, connection timeouts) are those of the Manager
// that the chain was made with.
type Chain struct {
	Listener call.Scope // listener.<address> counters

	conn    *call.Manager // connection-level options; never changes
	manager atomic.Pointer[call.Manager]
}

// NewChain returns a chain whose calls are served by m. m.HTTP2 and the
// connection timeouts of m hold for all connections of the chain.
func NewChain(m *call.Manager) *Chain {
	ch := &Chain{conn: m}
	ch.manager.Store(m)
	return ch
}

// Manager is the manager that serves the next call.
func (ch *Chain) Manager() *call.Manager { return ch.manager.Load() }

// SetManager swaps what serves the calls from now on. Calls in progress keep
// what they have. Any goroutine may call it.
func (ch *Chain) SetManager(m *call.Manager) { ch.manager.Store(m) }

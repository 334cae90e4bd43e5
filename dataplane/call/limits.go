package call

import "sync/atomic"

// Limits are those of a cluster's circuit breakers that concern its
// connections: what all workers together may have at one time. Safe for
// concurrent use.
type Limits struct {
	Connections Limit // Thresholds.max_connections
	Pending     Limit // Thresholds.max_pending_requests
}

// HostStats is what the workers count of a host. Safe for concurrent use.
type HostStats struct {
	Connecting atomic.Uint64 // connections begun
	Open       atomic.Int64  // of them, not ended yet
	Pending    atomic.Int64  // attempts that wait for a stream
}

// Limit is a bound on what is taken at one time. The zero value allows none.
type Limit struct {
	limit atomic.Int64
	taken atomic.Int64
}

// Set changes the bound. What is taken above a lower one stays taken.
func (l *Limit) Set(n uint32) { l.limit.Store(int64(n)) }

// Acquire takes one; false if all are taken. The count is exact: the bound is
// not exceeded, nor does a call that fails make another fail. Each true is
// followed by one Release.
func (l *Limit) Acquire() bool {
	for {
		n := l.taken.Load()
		if n >= l.limit.Load() {
			return false
		}
		if l.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Force takes one whatever the bound. One Release follows.
func (l *Limit) Force() { l.taken.Add(1) }

// Release gives one back.
func (l *Limit) Release() { l.taken.Add(-1) }

// Taken returns how many are taken.
func (l *Limit) Taken() int64 { return l.taken.Load() }

package cluster

import (
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// breaker is one limit of a circuit breaker. The count is exact: acquire fails
// if and only if limit were taken at that instant, so neither can the limit be
// exceeded nor does a failing acquire make another fail.
type breaker struct {
	limit    atomic.Int64
	_        [56]byte // the count is written by every worker for every call
	taken    atomic.Int64
	overflow atomic.Uint64
	_        [48]byte
}

func (b *breaker) acquire() bool {
	for {
		n := b.taken.Load()
		if n >= b.limit.Load() {
			b.overflow.Add(1)
			return false
		}
		if b.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (b *breaker) release() { b.taken.Add(-1) }

// accounts are what a cluster counts over its versions: a version that adopts
// the hosts of the one before goes on counting where that is.
type accounts struct {
	requests breaker
	retries  breaker
	dropped  atomic.Uint64
	limits   call.Limits // counted by the workers
}

func (a *accounts) limitBy(t *Thresholds) {
	a.requests.limit.Store(int64(t.MaxRequests))
	a.retries.limit.Store(int64(t.MaxRetries))
	a.limits.Connections.Set(t.MaxConnections)
	a.limits.Pending.Set(t.MaxPending)
}

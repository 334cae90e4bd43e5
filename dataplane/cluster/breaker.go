package cluster

import "sync/atomic"

// breaker is one limit of a circuit breaker. The count is exact: acquire fails
// if and only if limit were taken at that instant, so neither can the limit be
// exceeded nor does a failing acquire make another fail.
type breaker struct {
	limit    int64
	_        [56]byte // the count is written by every worker for every call
	taken    atomic.Int64
	overflow atomic.Uint64
	_        [48]byte
}

func (b *breaker) acquire() bool {
	for {
		n := b.taken.Load()
		if n >= b.limit {
			b.overflow.Add(1)
			return false
		}
		if b.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (b *breaker) release() { b.taken.Add(-1) }

package cluster

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Workers pick and finish calls while the configuration goroutine changes
// everything: no pick of a host that its set did not have, no lost count, and
// never more requests than the circuit breaker allows.
func TestConcurrentUse(t *testing.T) {
	for _, kind := range []PolicyKind{RoundRobin, LeastRequest, Random} {
		t.Run(kind.String(), func(t *testing.T) {
			const limit, workers = 5, 4
			h := NewHandle("c")
			c := New(Config{
				Policy: Policy{Kind: kind}, LocalityWeighted: true,
				Breakers: Breakers{Default: &Thresholds{MaxRequests: limit}},
			})
			c.Update(randomAssignment(random(1)))
			h.Set(c)

			var stop atomic.Bool
			var loops sync.WaitGroup
			var picked, overflow atomic.Uint64
			for w := range workers {
				loops.Go(func() {
					rnd := random(uint64(w))
					cl := &call.Call{}
					var held []call.Host
					for !stop.Load() {
						cl.Draw = rnd.Uint64()
						host, err := h.Pick(cl, len(cl.Tried))
						switch {
						case err == nil:
							picked.Add(1)
							held = append(held, host)
							_ = host.Retired()
							_ = host.(*Host).Hostname()
						case errors.Is(err, call.ReplyOverflow):
							overflow.Add(1)
						case errors.Is(err, call.ReplyNoHealthy):
						default:
							t.Errorf("Pick: %v", err)
						}
						if n := c.Counts().Requests; n > limit {
							t.Errorf("%d requests at once, %d allowed", n, limit)
						}
						cl.Tried = held
						if len(held) > rnd.IntN(3) {
							h.Done(held[0], &call.Outcome{Flags: call.UpstreamConnFailure})
							held = held[1:]
						}
					}
					for _, host := range held {
						h.Done(host, nil)
					}
				})
			}
			rnd := random(99)
			for i := 0; i < 300 || picked.Load() < 5000; i++ {
				c.Update(randomAssignment(rnd))
				_ = c.Hosts()
				_ = c.Levels()
			}
			stop.Store(true)
			loops.Wait()
			if n := c.Counts().Requests; n != 0 {
				t.Errorf("%d requests are left", n)
			}
			if got := c.Counts().Overflow; got != overflow.Load() {
				t.Errorf("%d overflows counted, %d seen", got, overflow.Load())
			}
			for _, s := range c.Hosts() {
				if s.Active != 0 {
					t.Errorf("%s has %d active requests", s.Address, s.Active)
				}
			}
		})
	}
}

// Near the limit the circuit breaker is exact: with as many workers as the
// limit allows, each holding one request, none is ever refused.
func TestBreakerNeverRefusesWrongly(t *testing.T) {
	const workers = 4
	b := new(breaker)
	b.limit.Store(workers)
	var loops sync.WaitGroup
	for range workers {
		loops.Go(func() {
			for range 20_000 {
				if !b.acquire() {
					t.Error("refused below the limit")
					return
				}
				b.release()
			}
		})
	}
	loops.Wait()
	if n := b.taken.Load(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

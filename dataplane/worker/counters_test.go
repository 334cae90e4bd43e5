package worker

import (
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// TestReadCounters: a scrape sees each scope once, and never more than
// scopesAtOnce of them under the lock.
func TestReadCounters(t *testing.T) {
	for _, n := range []int{0, 1, scopesAtOnce - 1, scopesAtOnce, scopesAtOnce + 1, 3*scopesAtOnce + 5} {
		s := newScript(t, nil, nil)
		w := s.wk
		own := w.core.Counters
		w.core.Counters = nil
		for i := 1; i <= n; i++ {
			w.core.Counters.Add(call.Scope{Index: uint32(i)}, call.UpstreamRqTotal, uint64(i))
		}
		seen := make([]uint64, n+1)
		s.g.ReadCounters(func(_ int, scopes [][]uint64) {
			arrays := 0
			for i, a := range scopes {
				if a != nil {
					arrays++
					seen[i] += a[call.UpstreamRqTotal]
				}
			}
			if arrays > scopesAtOnce {
				t.Errorf("%d scopes at once", arrays)
			}
		})
		for i, v := range seen {
			if v != uint64(i) {
				t.Fatalf("%d scopes: scope %d is %d", n, i, v)
			}
		}
		w.core.Counters = own
		s.finish()
	}
}

// TestUpstreamHTTP2: a scrape sees each cluster once, and copies them without
// the lock being held between pieces.
func TestUpstreamHTTP2(t *testing.T) {
	for _, n := range []int{0, 1, clustersAtOnce, clustersAtOnce + 1, 3*clustersAtOnce + 5} {
		s := newScript(t, nil, nil)
		w := s.wk
		own, order := w.upH2, w.upOrder
		w.upH2, w.upOrder = make(map[call.Scope]*h2.Counters), nil
		for i := 1; i <= n; i++ {
			w.clientConfig(&call.UpstreamOptions{Cluster: call.Scope{Index: uint32(i)}})
			w.upH2[call.Scope{Index: uint32(i)}].RapidReset = uint64(i)
		}
		seen := 0
		s.g.UpstreamHTTP2(func(scope call.Scope, c *h2.Counters) {
			if !w.mu.TryLock() {
				t.Fatal("the lock is held")
			}
			w.mu.Unlock()
			if seen++; c.RapidReset != uint64(scope.Index) {
				t.Fatalf("cluster %d counts %d", scope.Index, c.RapidReset)
			}
		})
		if seen != n {
			t.Errorf("%d clusters, want %d", seen, n)
		}
		w.upH2, w.upOrder = own, order
		s.finish()
	}
}

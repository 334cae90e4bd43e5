package worker

import (
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
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

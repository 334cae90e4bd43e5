package relay

import "testing"

// Routes with different timeouts take turns on one worker: their fields are
// made once.
func TestCachedFields(t *testing.T) {
	var cf cachedFields
	timeouts := []int64{100, 250, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000, 120_000, 300_000, 600_000, 3_600_000}
	round := func() {
		for _, n := range timeouts {
			f := cf.get("x-envoy-expected-rq-timeout-ms", n)
			if f.Name != "x-envoy-expected-rq-timeout-ms" || len(f.Value) < 3 {
				t.Fatalf("field %q: %q", f.Name, f.Value)
			}
		}
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations per round of %v", n, timeouts)
	}
	if a, b := cf.get("n", 7), cf.get("n", 8); a.Value != "7" || b.Value != "8" {
		t.Errorf("%q and %q", a.Value, b.Value)
	}
}

package worker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// TestLongHolds: the first long hold is told at once, the others of the same
// second together, with the worst of them.
func TestLongHolds(t *testing.T) {
	var l longHolds
	var got []longHolds
	note := func(at, held time.Duration, who string) {
		if r, ok := l.note(clock.Nanos(1).Add(at), held, who); ok {
			r.after = 0
			got = append(got, r)
		}
	}
	note(0, 20*time.Millisecond, "a")
	note(100*time.Millisecond, 15*time.Millisecond, "b")
	note(999*time.Millisecond, 30*time.Millisecond, "c")
	note(1000*time.Millisecond, 12*time.Millisecond, "d")
	note(5*time.Second, 11*time.Millisecond, "e")
	want := []longHolds{
		{times: 1, worst: 20 * time.Millisecond, who: "a"},
		{times: 3, worst: 30 * time.Millisecond, who: "c"},
		{times: 1, worst: 11 * time.Millisecond, who: "e"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(longHolds{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestHoldTimes: buckets are powers of two of whole microseconds.
func TestHoldTimes(t *testing.T) {
	var h HoldTimes
	for _, d := range []time.Duration{-1, 999, time.Microsecond, 2 * time.Microsecond, 3 * time.Microsecond, 4 * time.Microsecond, time.Hour} {
		h.add(d)
	}
	var want HoldTimes
	want.Buckets[0], want.Buckets[1], want.Buckets[2], want.Buckets[3], want.Buckets[23] = 2, 1, 2, 1, 1
	want.Sum = time.Hour + 10*time.Microsecond + 999
	if h != want {
		t.Errorf("%v, want %v", h, want)
	}
}

package worker

import (
	"math/bits"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// HoldTimes is the histogram of how long workers' locks were held: bucket i
// counts holds of less than 2^i whole microseconds and not less than half of
// that; the last one all that are longer, too.
type HoldTimes struct {
	Buckets [24]uint64
	Sum     time.Duration
}

func (h *HoldTimes) add(d time.Duration) {
	d = max(d, 0)
	h.Sum += d
	i := bits.Len64(uint64(d / time.Microsecond))
	h.Buckets[min(i, len(h.Buckets)-1)]++
}

const (
	// longHold is logged.
	longHold = 10 * time.Millisecond
	// longHoldPause is between two lines about long holds of one worker: what
	// is slow for one batch is mostly slow for all.
	longHoldPause = time.Second
)

// longHolds collects the long holds since the last that was logged.
type longHolds struct {
	times int
	worst time.Duration
	who   string // the connection of the worst
	after clock.Nanos
}

// note adds one. If it is time to log, it returns what was collected.
func (l *longHolds) note(now clock.Nanos, held time.Duration, who string) (report longHolds, ok bool) {
	l.times++
	if held > l.worst {
		l.worst, l.who = held, who
	}
	if now < l.after {
		return longHolds{}, false
	}
	report = *l
	*l = longHolds{after: now.Add(longHoldPause)}
	return report, true
}

package worker

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// HoldTimes is the histogram of how long a worker's lock was held: bucket i
// counts holds of less than 2^i microseconds and not less than half of that.
type HoldTimes [24]uint64

func (h *HoldTimes) add(d time.Duration) {
	us, i := uint64(max(d, 0)/time.Microsecond), 0
	for us > 0 && i < len(h)-1 {
		us >>= 1
		i++
	}
	h[i]++
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

// Package clock has the data plane's instants and its timer wheel.
//
// Time is a value that the worker reads once per batch of events and passes
// down; nothing here reads a clock, so that a simulation owns the time.
package clock

import (
	"math"
	"time"
)

// Nanos is an instant: nanoseconds since the process started. The zero value
// means "not set"; a worker's first reading is always positive.
type Nanos int64

// Add returns the instant d after n, or the last one there is: configurations
// may have durations that mean "never".
func (n Nanos) Add(d time.Duration) Nanos {
	if d > 0 && n > math.MaxInt64-Nanos(d) {
		return math.MaxInt64
	}
	return n + Nanos(d)
}

// Sub returns the time from m to n.
func (n Nanos) Sub(m Nanos) time.Duration { return time.Duration(n - m) }

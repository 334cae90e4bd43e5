package worker

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// What calls leave for reuse is what as many calls need as there were at once;
// after a burst that is more than a quiet worker should keep. Every trimEvery
// it drops what the time since the last look did not need, until little rests;
// a worker that is idle then has no timer.

const (
	trimEvery = 500 * time.Millisecond
	// What is never dropped.
	restCalls = 64
	restBytes = 256 << 10
)

// trimmer looks at what rests. It is part of its worker.
type trimmer struct {
	w     *Worker
	timer clock.Timer
	calls int // most at once since the last look
	bytes int // of chunks in use, likewise
}

// note comes at the end of every batch.
func (t *trimmer) note() {
	live, bytes := t.w.core.Live(), t.w.pool.LiveBytes()
	if live > t.calls {
		t.calls = live
	}
	if bytes > t.bytes {
		t.bytes = bytes
	}
	if (t.calls > restCalls || t.bytes > restBytes) && !t.timer.Active() {
		t.w.core.Wheel.Set(&t.timer, t.w.now.Add(trimEvery))
	}
}

// Expire implements clock.Expirer.
func (t *trimmer) Expire(_ *clock.Timer, now clock.Nanos) {
	w := t.w
	calls := w.core.Trim(max(t.calls, restCalls))
	bytes := w.pool.Shrink(max(t.bytes, restBytes))
	t.calls, t.bytes = w.core.Live(), w.pool.LiveBytes()
	if calls > restCalls || bytes > restBytes {
		w.core.Wheel.Set(&t.timer, now.Add(trimEvery))
	}
}

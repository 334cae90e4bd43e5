package worker

import (
	"testing"
	"time"
)

// After a burst a worker keeps for reuse what it needs now, and an idle one has
// no timer for it.
func TestTrim(t *testing.T) {
	s := newScript(t, nil, nil)
	var rs []*rpc
	for range 20 {
		s.client = s.connect()
		for range 50 {
			rs = append(rs, s.call(&rpc{grpc: true, reqLen: 100}))
		}
	}
	for _, r := range rs {
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	resting := func() int { return s.wk.core.Trim(1 << 20) } // drops nothing
	if n := resting(); n < 1000 {
		t.Fatalf("%d calls' worth rests after 1,000 at once", n)
	}
	s.pass(3 * trimEvery)
	if n := resting(); n > restCalls {
		t.Errorf("%d calls' worth rests in a quiet worker", n)
	}
	if n := s.wk.pool.Shrink(1 << 30); n > restBytes {
		t.Errorf("%d bytes rest in a quiet worker", n)
	}
	if s.wk.trim.timer.Active() {
		t.Error("an idle worker has a timer for what rests")
	}
	// What is in use keeps its share.
	r := s.call(&rpc{grpc: true})
	s.pass(time.Second)
	s.reply(r, 0, true, trailersOnly(r, "0")...)
	s.expect(r, "200 grpc 0")
	s.finish()
}

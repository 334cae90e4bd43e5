package worker

import (
	"testing"
	"time"
)

// At the drain deadline of a chain the calls that are left on each of its
// connections are answered, in the order of their streams.
func TestDrainDeadline(t *testing.T) {
	s := newScript(t, nil, nil)
	var rs []*rpc
	for range 5 {
		rs = append(rs, s.call(&rpc{grpc: true}))
	}
	s.reply(rs[1], 0, true, trailersOnly(rs[1], "0")...)
	s.g.Drain(func(*Chain) bool { return true }, 10*time.Second)
	s.pass(5 * time.Second)
	s.expect(rs[0], "not ended")
	s.pass(6 * time.Second)
	s.expect(rs[1], "200 grpc 0")
	for _, r := range []*rpc{rs[0], rs[2], rs[3], rs[4]} {
		s.expect(r, "200 grpc 14")
	}
	s.finish()
}

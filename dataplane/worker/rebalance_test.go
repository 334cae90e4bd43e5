package worker

import (
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Who is hot, and how much of its work the idlest should have.
func TestHottest(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		busy  []time.Duration
		hot   int
		share float64
		ok    bool
	}{
		{busy: []time.Duration{9 * s, s}, hot: 0, share: 4.0 / 9, ok: true},
		{busy: []time.Duration{s, 2 * s, 8 * s}, hot: 2, share: 3.5 / 8, ok: true},
		{busy: []time.Duration{4 * s, 0}},     // not busy
		{busy: []time.Duration{9 * s, 7 * s}}, // all are
		{busy: []time.Duration{9 * s}},        // alone
		{busy: []time.Duration{0, 0}},         // nothing to do
		{busy: []time.Duration{5 * s, 0, 5 * s}, hot: 0, share: 0.5, ok: true},
	} {
		hot, share, ok := hottest(tt.busy, 10*s)
		if ok != tt.ok || ok && (hot != tt.hot || share != tt.share) {
			t.Errorf("%v: worker %d, share %v, %v; want %d, %v, %v", tt.busy, hot, share, ok, tt.hot, tt.share, tt.ok)
		}
	}
}

// A worker sheds the connection that does most without being all of it: with a
// graceful GOAWAY, its call ends well; one that drains already is not chosen.
func TestShed(t *testing.T) {
	s := newScript(t, nil, nil)
	idle, some, much := s.client, s.connect(), s.connect()
	s.settleNow()
	load := func(p *peer, n int) {
		s.client = p
		for range n {
			r := s.call(&rpc{grpc: true, reqLen: 10_000})
			s.reply(r, 0, true, trailersOnly(r, "0")...)
		}
	}
	load(some, 2)
	load(much, 20)
	s.client = some
	open := s.call(&rpc{grpc: true})
	shed := func(share float64) {
		s.wk.post(msg{kind: msgShed, share: share})
		s.settleNow()
	}
	shed(0.4)
	if idle.goawaySeen || much.goawaySeen || !some.goawaySeen {
		t.Fatalf("GOAWAY: idle %v, some %v, much %v", idle.goawaySeen, some.goawaySeen, much.goawaySeen)
	}
	s.reply(open, 0, true, trailersOnly(open, "0")...)
	s.expect(open, "200 grpc 0")

	load(much, 10) // alone now: it would take its load along
	shed(0.5)
	if much.goawaySeen {
		t.Error("the only busy connection was sent away")
	}
	if n := s.g.Rebalanced(); n != 1 {
		t.Errorf("%d connections sent away, want 1", n)
	}
	if n := s.wk.core.Counters[1][call.DownstreamCxDrainClose]; n != 1 {
		t.Errorf("downstream_cx_drain_close is %d", n)
	}
	s.finish()
}

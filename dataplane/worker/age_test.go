package worker

import (
	"math"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// Connections that began together do not drain together: they are spread over
// a tenth of their maximum age, or over what is configured.
func TestMaxAgeJitter(t *testing.T) {
	const age = 10 * time.Second
	for _, tt := range []struct {
		percent  float64
		from, to time.Duration
	}{{0, 9 * time.Second, 10 * time.Second}, {50, 10 * time.Second, 15 * time.Second}} {
		s := newScript(t, nil, func(m *call.Manager, o *call.UpstreamOptions) {
			m.MaxConnectionDuration, m.MaxConnectionJitter = age, tt.percent
			o.MaxAge, o.MaxAgeJitter = age, tt.percent
		})
		begin := s.now
		peers := []*peer{s.client}
		for range 40 {
			peers = append(peers, s.connect())
		}
		r := s.call(&rpc{grpc: true})
		server, _ := s.server(r, 0)
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		seen := map[*peer]time.Duration{}
		for s.now.Sub(begin) < tt.to+time.Second {
			s.pass(100 * time.Millisecond)
			for _, p := range append(peers, server) {
				if _, ok := seen[p]; !ok && (p.goawaySeen || p.sawEnd) {
					seen[p] = s.now.Sub(begin)
				}
			}
		}
		low, high := time.Hour, time.Duration(0)
		for _, p := range peers {
			at, ok := seen[p]
			if !ok || at < tt.from || at > tt.to+200*time.Millisecond {
				t.Errorf("jitter %v %%: drained after %v, want %v to %v", tt.percent, at, tt.from, tt.to)
			}
			low, high = min(low, at), max(high, at)
		}
		if high-low < (tt.to-tt.from)/2 {
			t.Errorf("jitter %v %%: all drained between %v and %v", tt.percent, low, high)
		}
		if at := seen[server]; at < tt.from || at > tt.to+200*time.Millisecond {
			t.Errorf("jitter %v %%: the upstream connection drained after %v", tt.percent, at)
		}
		s.finish()
	}
}

// A configured connection window does not make stalled streams stop the
// others: it never lends less than the default.
func TestHoldLimit(t *testing.T) {
	o := call.HTTP2Options{InitialConnectionWindowSize: 1 << 20}
	down := serverConfig(&call.Manager{HTTP2: o})
	if want := h2.DefaultConfig(h2.Server).HoldLimit; down.ConnWindow != 1<<20 || down.HoldLimit != want {
		t.Errorf("downstream: window %d, lends %d, want %d", down.ConnWindow, down.HoldLimit, want)
	}
	s := newScript(t, nil, nil)
	up := s.wk.clientConfig(&call.UpstreamOptions{HTTP2: o})
	if want := max(h2.DefaultConfig(h2.Client).HoldLimit, s.wk.budget()); up.ConnWindow != 1<<20 || up.HoldLimit != want {
		t.Errorf("upstream: window %d, lends %d, want %d", up.ConnWindow, up.HoldLimit, want)
	}
	s.finish()
}

// TestEndlessTimes: the longest durations that can be configured, which are
// more than what is left of the clock, mean that nothing ever ends.
func TestEndlessTimes(t *testing.T) {
	const endless = math.MaxInt64
	rt := &call.Route{Timeout: endless, MaxStreamDuration: endless, IdleTimeout: endless, Retry: &call.RetryPolicy{Max: 1, PerTry: endless}}
	s := newScript(t, rt, func(m *call.Manager, o *call.UpstreamOptions) {
		m.IdleTimeout, m.RequestTimeout, m.RequestHeadersTimeout, m.DrainTimeout = endless, endless, endless, endless
		m.MaxConnectionDuration, m.MaxConnectionJitter, m.HTTP2.KeepaliveInterval = endless, 50, endless
		o.IdleTimeout, o.MaxAge, o.MaxAgeJitter, o.HTTP2.KeepaliveInterval = endless, endless, 50, endless
	})
	for range 3 {
		r := s.call(&rpc{grpc: true, reqLen: 10})
		s.pass(time.Second)
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	if s.client.goawaySeen || s.client.pings != 0 {
		t.Errorf("the client got GOAWAY %v, %d PINGs", s.client.goawaySeen, s.client.pings)
	}
	s.finish()
}

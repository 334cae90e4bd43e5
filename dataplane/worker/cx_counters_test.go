package worker

import (
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Connections that end because they are idle or old say so in the counters of
// their side.
func TestConnectionEndCounters(t *testing.T) {
	for name, tt := range map[string]struct {
		setup func(m *call.Manager, o *call.UpstreamOptions)
		down  [2]uint64 // idle timeout, max duration
		up    [2]uint64
	}{
		"downstream idle": {func(m *call.Manager, _ *call.UpstreamOptions) { m.IdleTimeout = 5 * time.Second }, [2]uint64{1, 0}, [2]uint64{}},
		"downstream age":  {func(m *call.Manager, _ *call.UpstreamOptions) { m.MaxConnectionDuration = 5 * time.Second }, [2]uint64{0, 1}, [2]uint64{}},
		"upstream idle":   {func(_ *call.Manager, o *call.UpstreamOptions) { o.IdleTimeout = 5 * time.Second }, [2]uint64{}, [2]uint64{1, 0}},
		"upstream age":    {func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxAge = 5 * time.Second }, [2]uint64{}, [2]uint64{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, nil, tt.setup)
			r := s.call(&rpc{grpc: true})
			s.reply(r, 0, true, trailersOnly(r, "0")...)
			s.expect(r, "200 grpc 0")
			s.pass(8 * time.Second)
			d, u := s.wk.core.Counters[1], s.wk.core.Counters[2]
			if got := [2]uint64{d[call.DownstreamCxIdleTimeout], d[call.DownstreamCxMaxDuration]}; got != tt.down {
				t.Errorf("downstream: %v, want %v (idle timeout, max duration)", got, tt.down)
			}
			if got := [2]uint64{u[call.UpstreamCxIdleTimeout], u[call.UpstreamCxMaxDuration]}; got != tt.up {
				t.Errorf("upstream: %v, want %v (idle timeout, max duration)", got, tt.up)
			}
			s.finish()
		})
	}
}

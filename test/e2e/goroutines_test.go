package e2e

import (
	"fmt"
	"testing"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestStreamsCostNoGoroutines: 10,000 open streams through the proxy add no
// goroutine to it; the 25 client connections that carry them do.
func TestStreamsCostNoGoroutines(t *testing.T) {
	const clients, each = 25, 400
	srv := listen(t, rawh2.Options{Settings: []http2.Setting{setting(http2.SettingMaxConcurrentStreams, 5000)}, HoldStreams: true})
	p := startFixed(t, fixedConfig{
		ports:   []int{srv.Port()},
		cluster: "circuit_breakers: {thresholds: [{max_requests: 20000, max_pending_requests: 20000}]}",
	})
	conns := make([]*rawh2.Conn, clients)
	for i := range conns {
		conns[i] = connect(t, p.port, rawh2.Options{HoldStreams: true})
		conns[i].Open(false, request())
		must(t, conns[i].Sync())
	}
	upstream := func(want float64) func() error {
		return func() error {
			if n := p.stat(t, "cluster.up.upstream_rq_active"); n != want {
				return fmt.Errorf("%v streams are open upstream", n)
			}
			return nil
		}
	}
	eventually(t, "the first streams are open", upstream(clients))
	before := p.stat(t, "server.goroutines")
	for _, c := range conns {
		for range each - 1 {
			c.Open(false, request())
		}
		must(t, c.Sync())
	}
	eventually(t, "all streams are open", upstream(clients*each))
	after := p.stat(t, "server.goroutines")
	t.Logf("goroutines: %v with %d streams, %v with %d", before, clients, after, clients*each)
	// A few further upstream connections, each with its reader, are fair.
	if after > before+10 {
		t.Errorf("%d streams added %v goroutines", clients*each, after-before)
	}
}

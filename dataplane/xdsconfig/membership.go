package xdsconfig

import (
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// members are the gauges cluster.<name>.membership_*.
type members struct{ total, healthy, degraded int }

// membership hands out the gauges of the clusters that serve; those of one stat
// name together. Any goroutine may call it.
func (m *Manager) membership(r *telemetry.Registry, add func(telemetry.Stat)) {
	sums := make(map[call.Scope]members)
	for _, h := range *m.existing.Load() {
		cl := h.Get()
		if cl == nil {
			continue // warms
		}
		n := sums[cl.Scope()]
		n.total += cl.Len()
		for _, l := range cl.Levels() {
			n.healthy += l.Healthy
			n.degraded += l.Degraded
		}
		sums[cl.Scope()] = n
	}
	for scope, n := range sums {
		gauge := func(name string, value int) {
			if st, ok := r.Within(scope, name, uint64(value)); ok {
				st.Gauge = true
				add(st)
			}
		}
		gauge("membership_total", n.total)
		gauge("membership_healthy", n.healthy)
		gauge("membership_degraded", n.degraded)
		gauge("membership_excluded", 0) // of active health checks only
	}
}

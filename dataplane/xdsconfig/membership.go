package xdsconfig

import (
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// addMembership adds the gauges cluster.<name>.membership_* of the clusters that
// serve; those of one stat name together.
func (m *Manager) addMembership(r *telemetry.Registry) {
	columns := []telemetry.Column{
		{Name: "membership_total", Gauge: true}, {Name: "membership_healthy", Gauge: true}, {Name: "membership_degraded", Gauge: true},
		{Name: "membership_excluded", Gauge: true}, // of active health checks only
	}
	r.Table(columns, func(add func(call.Scope, []uint64)) {
		values := make([]uint64, len(columns))
		for _, h := range *m.existing.Load() {
			cl := h.Get()
			if cl == nil {
				continue // warms
			}
			clear(values)
			values[0] = uint64(cl.Len())
			for _, l := range cl.Levels() {
				values[1] += uint64(l.Healthy)
				values[2] += uint64(l.Degraded)
			}
			add(cl.Scope(), values)
		}
	})
}

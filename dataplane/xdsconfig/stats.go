package xdsconfig

import (
	"cmp"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/xdsclient"
)

// stats are the manager's counters, under Envoy's names.
type stats struct {
	clusterAdded, clusterModified, clusterRemoved    *telemetry.Counter
	clustersActive, clustersWarming                  *telemetry.Counter
	listenerAdded, listenerModified, listenerRemoved *telemetry.Counter
	listenersWarming                                 *telemetry.Counter
	connected                                        *telemetry.Counter
}

func newStats(r *telemetry.Registry) stats {
	if r == nil {
		r = telemetry.NewRegistry()
	}
	// Requests are not limited in rate, so none is held back.
	r.Counter("control_plane.rate_limit_enforced")
	r.Gauge("control_plane.pending_requests")
	return stats{
		clusterAdded:     r.Counter("cluster_manager.cluster_added"),
		clusterModified:  r.Counter("cluster_manager.cluster_modified"),
		clusterRemoved:   r.Counter("cluster_manager.cluster_removed"),
		clustersActive:   r.Gauge("cluster_manager.active_clusters"),
		clustersWarming:  r.Gauge("cluster_manager.warming_clusters"),
		listenerAdded:    r.Counter("listener_manager.listener_added"),
		listenerModified: r.Counter("listener_manager.listener_modified"),
		listenerRemoved:  r.Counter("listener_manager.listener_removed"),
		listenersWarming: r.Gauge("listener_manager.total_listeners_warming"),
		connected:        r.Gauge("control_plane.connected_state"),
	}
}

// updates count what became of one subscription: of a type with all its
// resources, or of one resource by name.
type updates struct {
	success, rejected, failure, timeout uint64

	version string    // last accepted
	at      time.Time // when
	joined  uint64    // subscriptions that were added to this one
}

func (u *updates) accept(version string) {
	u.success++
	u.version, u.at = version, time.Now()
}

// join adds o, another subscription that has the same name in the stats.
func (u *updates) join(o *updates) {
	u.success += o.success
	u.rejected += o.rejected
	u.failure += o.failure
	u.timeout += o.timeout
	u.joined += 1 + o.joined
	if o.at.After(u.at) {
		u.version, u.at = o.version, o.at
	}
}

// stats hands out the counters by the last part of Envoy's names
// (SUBSCRIPTION_STATS). An attempt is counted when it begins, and there is
// always one under way.
func (u *updates) stats(add func(name string, value uint64, gauge bool)) {
	add("update_attempt", 1+u.joined+u.success+u.rejected+u.failure+u.timeout, false)
	add("update_success", u.success, false)
	add("update_rejected", u.rejected, false)
	add("update_failure", u.failure, false)
	add("init_fetch_timeout", u.timeout, false)
	version, at := uint64(0), uint64(0)
	if !u.at.IsZero() {
		version, at = xxh64(u.version), uint64(u.at.UnixMilli())
	}
	add("version", version, true)
	add("update_time", at, true)
}

// addUpdateStats adds the stats of what comes from the control plane: of the
// types with all their resources, and of each resource that somebody uses.
func (m *Manager) addUpdateStats(r *telemetry.Registry) {
	r.Func(m.updateStats)
	m.addEDSStats(r)
}

// updateStats hands out all but those of endpoints. Any goroutine may call it.
func (m *Manager) updateStats(add func(telemetry.Stat)) {
	if m.client == nil {
		return
	}
	st := m.client.Status()
	add(telemetry.TextStat("control_plane.identifier", st.ControlPlane))
	var timeouts map[string]uint64
	m.do(func() {
		timeouts = m.fetchTimeouts()
		m.rdsStats(add)
		m.sdsStats(add)
	})
	for _, t := range st.Types {
		prefix, ok := map[string]string{xdsclient.ClusterType: "cluster_manager.cds.", xdsclient.ListenerType: "listener_manager.lds."}[t.TypeURL]
		if !ok {
			continue // counted by resource
		}
		u := updates{success: t.Successes, rejected: t.Rejections, failure: t.Failures, timeout: timeouts[t.TypeURL], version: t.Accepted, at: t.AcceptedAt}
		u.stats(func(name string, value uint64, gauge bool) {
			add(telemetry.Stat{Name: prefix + name, Base: prefix + name, Value: value, Gauge: gauge})
		})
		add(telemetry.TextStat(prefix+"version_text", t.Accepted))
	}
}

// fetchTimeouts returns a copy of m.timeouts.
func (m *Manager) fetchTimeouts() map[string]uint64 {
	out := make(map[string]uint64, len(m.timeouts))
	for url, n := range m.timeouts {
		out[url] = n
	}
	return out
}

// addEDSStats adds those of the endpoints, under the names of their clusters; of
// several that one name stands for, their sums.
func (m *Manager) addEDSStats(r *telemetry.Registry) {
	var columns []telemetry.Column
	new(updates).stats(func(name string, _ uint64, gauge bool) {
		columns = append(columns, telemetry.Column{Name: name, Gauge: gauge})
	})
	columns = append(columns,
		telemetry.Column{Name: "update_empty"}, // a name that is missing in a response has not changed
		telemetry.Column{Name: "update_no_rebuild"},
		telemetry.Column{Name: "assignment_stale"}, // endpoint_stale_after is ignored
	)
	r.Table(columns, func(add func(call.Scope, []uint64)) {
		if m.client == nil {
			return
		}
		var sums map[call.Scope]*endpointUpdates
		m.do(func() { sums = m.endpointUpdates() })
		var values []uint64
		for scope, s := range sums {
			values = values[:0]
			s.updates.stats(func(_ string, value uint64, _ bool) { values = append(values, value) })
			add(scope, append(values, 0, s.unchanged, 0))
		}
	})
}

type endpointUpdates struct {
	updates   updates
	unchanged uint64
}

// endpointUpdates are the sums by the scope of the clusters.
func (m *Manager) endpointUpdates() map[call.Scope]*endpointUpdates {
	sums := make(map[call.Scope]*endpointUpdates, len(m.endpoints))
	for _, es := range m.endpoints {
		counted := map[call.Scope]bool{}
		for u := range es.users {
			scope := u.cl.Scope()
			if counted[scope] {
				continue
			}
			counted[scope] = true
			if s := sums[scope]; s != nil {
				s.updates.join(&es.updates)
				s.unchanged += es.unchanged
			} else {
				sums[scope] = &endpointUpdates{es.updates, es.unchanged}
			}
		}
	}
	return sums
}

// rdsStats are those of the routes, under the stat_prefix of each connection
// manager that uses them.
func (m *Manager) rdsStats(add func(telemetry.Stat)) {
	type key struct{ prefix, name string }
	done := map[key]bool{}
	for name, rs := range m.routes {
		for u := range rs.users {
			for _, prefix := range u.res.value.statPrefixes[name] {
				k := key{telemetry.Sanitize(prefix), telemetry.Sanitize(name)}
				if done[k] {
					continue
				}
				done[k] = true
				show := func(stat string, value uint64, gauge bool) {
					add(telemetry.Stat{
						Name: "http." + k.prefix + ".rds." + k.name + "." + stat, Base: "http.rds." + stat, Value: value, Gauge: gauge,
						Label: "envoy_http_conn_manager_prefix", LabelValue: k.prefix, Label2: "envoy_rds_route_config", Label2Value: k.name,
					})
				}
				rs.updates.stats(show)
				show("update_empty", 0, false)
				show("config_reload", rs.reloads, false)
				show("config_reload_time_ms", uint64(max(rs.updated.UnixMilli(), 0)), true)
			}
		}
	}
}

// sdsStats are those of the secrets that come over ADS.
func (m *Manager) sdsStats(add func(telemetry.Stat)) {
	for name, ss := range m.secrets {
		if !ss.used() {
			continue
		}
		prefix := "sds." + telemetry.Sanitize(name) + "."
		ss.updates.stats(func(stat string, value uint64, gauge bool) {
			add(telemetry.Stat{Name: prefix + stat, Base: prefix + stat, Value: value, Gauge: gauge})
		})
	}
}

// streamFailed counts the end of a stream for all that is subscribed by name.
func (m *Manager) streamFailed() {
	for _, es := range m.endpoints {
		if es.used() {
			es.updates.failure++
		}
	}
	for _, rs := range m.routes {
		if rs.used() {
			rs.updates.failure++
		}
	}
	for _, ss := range m.secrets {
		if ss.used() {
			ss.updates.failure++
		}
	}
}

// addStatPrefix notes that a connection manager of the listener takes those
// routes.
func (ln *Listener) addStatPrefix(routes, prefix string) {
	if ln.statPrefixes == nil {
		ln.statPrefixes = make(map[string][]string)
	}
	ln.statPrefixes[routes] = append(ln.statPrefixes[routes], cmp.Or(prefix, "-"))
}

func (s *stats) clusters(all map[string]*clusterState) {
	var active, warming uint64
	for _, cs := range all {
		if cs.active != nil {
			active++
		}
		if cs.warming != nil {
			warming++
		}
	}
	s.clustersActive.Set(active)
	s.clustersWarming.Set(warming)
}

func (s *stats) listeners(all map[string]*listenerState) {
	var warming uint64
	for _, ls := range all {
		if ls.warming != nil {
			warming++
		}
	}
	s.listenersWarming.Set(warming)
}

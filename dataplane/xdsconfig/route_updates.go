package xdsconfig

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/route"
)

// routeState is a RouteConfiguration by name that listeners take by RDS.
type routeState struct {
	cell    *routeCell // what their connection managers ask
	users   map[*listenerUnit]bool
	res     *resource[*route.Table] // last good version; nil: none yet
	version string
	updated time.Time
	failure *failure
}

func (rs *routeState) used() bool { return len(rs.users) > 0 }

// applyRoutes takes in an RDS response. What is missing in it has not changed.
// A new table is one store: no listener or connection is touched.
func (m *Manager) applyRoutes(b *batch[*route.Table]) {
	for _, res := range b.resources {
		rs := m.routes[res.name]
		if rs == nil {
			continue // no listener wants it any more
		}
		if res.err != nil {
			rs.failure = &failure{res.content, b.response.Version, time.Now(), res.err}
			m.log.Warn("routes refused, the last good version stays", "route", res.name, "version", b.response.Version, "reason", res.err)
			continue
		}
		rs.failure = nil
		rs.version = b.response.Version
		if rs.res == res {
			continue
		}
		if rs.res == nil || rs.res.print != res.print {
			rs.cell.table.Store(res.value)
			rs.updated = time.Now()
			m.log.Info("routes serve", "route", res.name, "version", b.response.Version)
		}
		first := rs.res == nil
		rs.res = res
		if first {
			users := slices.SortedFunc(maps.Keys(rs.users), func(a, b *listenerUnit) int { return cmp.Compare(a.state.name, b.state.name) })
			for _, u := range users {
				m.routesCame(u, res.name)
			}
		}
	}
	m.applied(b.response, b.fault())
}

func (m *Manager) routesCame(u *listenerUnit, name string) {
	if u.waits[name] {
		delete(u.waits, name)
		m.listenerWarm(u)
	}
}

// routesTimeout ends u's wait: without routes it answers "no route".
func (m *Manager) routesTimeout(u *listenerUnit, name string) {
	if u.state.warming != u || !u.waits[name] {
		return
	}
	m.log.Warn("listener no longer waits", "listener", u.state.name, "reason", "routes "+name)
	m.stats.fetchTimeout.Add(1)
	m.routesCame(u, name)
}

// useRoutes makes u a user of a RouteConfiguration and reports whether it is
// there.
func (m *Manager) useRoutes(u *listenerUnit, name string) (there bool) {
	rs := m.routes[name]
	if rs == nil {
		rs = &routeState{cell: m.cells.get(name), users: map[*listenerUnit]bool{}}
		m.routes[name] = rs
		m.dirty.routes = true
	}
	rs.users[u] = true
	return rs.res != nil
}

// releaseRoutes ends u's use of its RouteConfigurations. Connections that
// drain keep the tables they have.
func (m *Manager) releaseRoutes(u *listenerUnit) {
	for _, src := range u.res.value.Routes {
		rs := m.routes[src.Name]
		delete(rs.users, u)
		if !rs.used() {
			delete(m.routes, src.Name)
			m.dirty.routes = true
		}
	}
}

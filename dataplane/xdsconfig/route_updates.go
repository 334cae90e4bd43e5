package xdsconfig

import (
	"cmp"
	"errors"
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
	updates updates
	reloads uint64 // of its updates, those that brought another table

	// See endpointState.

	lapsed bool
	asked  time.Time
}

func (rs *routeState) used() bool { return len(rs.users) > 0 }
func (rs *routeState) lapse()     { rs.lapsed = true }

// applyRoutes takes in an RDS response. What is missing in it has not changed.
// A new table is one store: no listener or connection is touched.
func (m *Manager) applyRoutes(b *batch[*route.Table]) {
	for _, res := range b.resources {
		rs := m.routes[res.name]
		if rs == nil || !rs.used() {
			m.keepRoutes(res, b.response.Version)
			continue // no listener wants it any more
		}
		if res.err != nil {
			rs.updates.rejected++
			rs.failure = &failure{res.content, b.response.Version, time.Now(), res.err}
			m.log.Warn("routes refused, the last good version stays", "route", res.name, "version", b.response.Version, "reason", res.err)
			continue
		}
		rs.failure = nil
		rs.version = b.response.Version
		rs.updates.accept(rs.version)
		if rs.res == res && !rs.lapsed {
			continue
		}
		if rs.res == nil || rs.res.print != res.print {
			rs.cell.table.Store(res.value)
			rs.updated = time.Now()
			rs.reloads++
			m.log.Info("routes serve", "route", res.name, "version", b.response.Version)
		}
		first := rs.res == nil || rs.lapsed
		rs.res, rs.lapsed = res, false
		if first {
			m.routesKnown(rs, res.name)
		}
	}
	if err := errors.Join(b.nameless...); err != nil {
		m.unreadable(b.response.TypeURL, b.response.Version, err)
	}
	m.applied(b.response, b.fault())
}

// keepRoutes is keepEndpoints for routes.
func (m *Manager) keepRoutes(res *resource[*route.Table], version string) {
	if res.err != nil {
		return
	}
	rs := m.routes[res.name]
	if rs == nil {
		rs = &routeState{cell: m.cells.get(res.name), users: map[*listenerUnit]bool{}, lapsed: true}
		m.routes[res.name] = rs
		m.lapseRoutes(res.name)
	}
	rs.cell.table.Store(res.value)
	rs.res, rs.version, rs.updated, rs.failure = res, version, time.Now(), nil
}

// lapseRoutes keeps routes without a user for a while.
func (m *Manager) lapseRoutes(name string) {
	if old, full := m.lapsedRoutes.keep(name); full {
		delete(m.routes, old)
	}
}

// routesKnown ends the wait of all users of rs.
func (m *Manager) routesKnown(rs *routeState, name string) {
	users := slices.SortedFunc(maps.Keys(rs.users), func(a, b *listenerUnit) int { return cmp.Compare(a.state.name, b.state.name) })
	for _, u := range users {
		m.routesCame(u, name)
	}
}

func (m *Manager) routesCame(u *listenerUnit, name string) {
	if u.waits[name] {
		delete(u.waits, name)
		m.listenerWarm(u)
	}
}

// routesTimeout ends u's wait: with the routes from before or, without any,
// answering "no route".
func (m *Manager) routesTimeout(u *listenerUnit, name string) {
	if u.state.warming != u || !u.waits[name] {
		return
	}
	rs := m.routes[name]
	if rs.res != nil {
		m.log.Info("listener takes the routes that it had", "listener", u.state.name, "route", name, "version", rs.version)
		rs.lapsed = false
		m.routesKnown(rs, name)
		return
	}
	m.log.Warn("listener no longer waits", "listener", u.state.name, "reason", "routes "+name)
	rs.updates.timeout++
	m.routesCame(u, name)
}

// useRoutes makes u a user of a RouteConfiguration. If that is known and up to
// date u need not wait.
func (m *Manager) useRoutes(u *listenerUnit, src RouteSource) {
	rs := m.routes[src.Name]
	if rs == nil {
		rs = &routeState{cell: m.cells.get(src.Name), users: map[*listenerUnit]bool{}}
		m.routes[src.Name] = rs
	}
	m.lapsedRoutes.take(src.Name)
	if !rs.used() {
		rs.asked = time.Now()
	}
	rs.users[u] = true
	m.dirty.routes = true
	if rs.res != nil && !rs.lapsed {
		return
	}
	u.waits[src.Name] = true
	if d := fetchWait(src.FetchTimeout, rs.lapsed, rs.asked); d > 0 {
		u.timers = append(u.timers, m.later(d, func() { m.routesTimeout(u, src.Name) }))
	}
}

// releaseRoutes ends u's use of its RouteConfigurations. Connections that
// drain keep the tables they have. The last table is kept for a while, should
// the listener be made again.
func (m *Manager) releaseRoutes(u *listenerUnit) {
	for _, src := range u.res.value.Routes {
		rs := m.routes[src.Name]
		delete(rs.users, u)
		if rs.used() {
			continue
		}
		m.dirty.routes = true
		if rs.res == nil {
			delete(m.routes, src.Name)
			continue
		}
		m.lapseRoutes(src.Name)
	}
}

package xdsconfig

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// endpointState is a ClusterLoadAssignment by name. Several clusters may use
// one.
type endpointState struct {
	users   map[*clusterUnit]bool
	res     *resource[*cluster.Assignment] // last good version; nil: none yet
	version string
	updated time.Time
	failure *failure

	updates   updates
	unchanged uint64 // of its updates, those that changed no host

	// lapsed: for a time nobody was subscribed, so res may be old. It serves
	// if no other comes within lapsedWait.
	lapsed bool
	asked  time.Time // when the first of its present users came
}

func (es *endpointState) used() bool { return len(es.users) > 0 }
func (es *endpointState) lapse()     { es.lapsed = true }

// applyEndpoints takes in an EDS response. What is missing in it has not
// changed.
func (m *Manager) applyEndpoints(b *batch[*cluster.Assignment]) {
	for _, res := range b.resources {
		es := m.endpoints[res.name]
		if es == nil || !es.used() {
			m.keepEndpoints(res, b.response.Version)
			continue // no cluster wants it any more
		}
		if res.err != nil {
			es.updates.rejected++
			es.failure = &failure{res.content, b.response.Version, time.Now(), res.err}
			m.log.Warn("endpoints refused, the last good version stays", "endpoint", res.name, "version", b.response.Version, "reason", res.err)
			continue
		}
		es.failure = nil
		es.version = b.response.Version
		es.updates.accept(es.version)
		if es.res == nil || es.res.print != res.print {
			es.updated = time.Now()
		}
		changed := es.res != res || es.lapsed
		es.res, es.lapsed = res, false
		if !changed {
			es.unchanged++
			continue
		}
		rebuilt := false
		for u := range es.users {
			rebuilt = m.setEndpoints(u, res.value) || rebuilt
		}
		if !rebuilt {
			es.unchanged++
		}
	}
	if err := errors.Join(b.nameless...); err != nil {
		m.unreadable(b.response.TypeURL, b.response.Version, err)
	}
	m.applied(b.response, b.fault())
}

// keepEndpoints takes in what came after the last user had gone. It is
// acknowledged, so it will not come again when there is another user.
func (m *Manager) keepEndpoints(res *resource[*cluster.Assignment], version string) {
	if res.err != nil {
		return
	}
	es := m.endpoints[res.name]
	if es == nil {
		es = &endpointState{users: map[*clusterUnit]bool{}, lapsed: true}
		m.endpoints[res.name] = es
		m.lapseEndpoints(res.name)
	}
	es.res, es.version, es.updated, es.failure = res, version, time.Now(), nil
}

// lapseEndpoints keeps endpoints without a user for a while.
func (m *Manager) lapseEndpoints(name string) {
	if old, full := m.lapsedEndpoints.keep(name); full {
		delete(m.endpoints, old)
	}
}

// setEndpoints gives u its endpoints, whether it warms for them or serves. It
// reports whether anything changed.
func (m *Manager) setEndpoints(u *clusterUnit, a *cluster.Assignment) (changed bool) {
	if changed = u.update(a); changed {
		m.dirty.sweep = true
	}
	m.clusterWarm(u)
	return changed
}

// useEndpoints makes u a user of its EDS resource. If that is known and up to
// date u need not wait: a control plane does not send again what it has sent.
func (m *Manager) useEndpoints(u *clusterUnit, src EndpointSource) {
	es := m.endpoints[src.Name]
	if es == nil {
		es = &endpointState{users: map[*clusterUnit]bool{}}
		m.endpoints[src.Name] = es
	}
	m.lapsedEndpoints.take(src.Name)
	if !es.used() {
		es.asked = time.Now()
	}
	es.users[u] = true
	m.dirty.endpoints = true
	if es.res != nil && !es.lapsed {
		u.update(es.res.value)
		return
	}
	u.waits = fmt.Sprintf("endpoints %q", src.Name)
	if d := fetchWait(src.FetchTimeout, es.lapsed, es.asked); d > 0 {
		u.timer = m.later(d, func() { m.endpointsTimeout(u, es) })
	}
}

// endpointsTimeout ends the wait of u: with what is known from before, with
// the endpoints of its cluster's last version, or with none.
func (m *Manager) endpointsTimeout(u *clusterUnit, es *endpointState) {
	if u.state.warming != u {
		return
	}
	if es.res != nil {
		m.log.Info("cluster takes the endpoints that it had", "cluster", u.state.name, "version", es.version)
		es.lapsed = false
		m.setEndpoints(u, es.res.value)
		return
	}
	m.log.Warn("cluster no longer waits", "cluster", u.state.name, "reason", u.waits)
	es.updates.timeout++
	m.clusterWarm(u)
}

// releaseEndpoints ends u's use of its EDS resource. The last assignment is
// kept for a while, should the cluster be made again.
func (m *Manager) releaseEndpoints(u *clusterUnit) {
	name := u.res.value.EDS.Name
	es := m.endpoints[name]
	delete(es.users, u)
	if es.used() {
		return
	}
	m.dirty.endpoints = true
	if es.res == nil {
		delete(m.endpoints, name)
		return
	}
	m.lapseEndpoints(name)
}

package xdsconfig

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/cluster/discovery"
	"github.com/sluice-proxy/sluice/xdsclient"
)

// clusterState is a cluster by name, over its versions.
type clusterState struct {
	name    string
	static  bool            // of the bootstrap: CDS does not change it
	handle  *cluster.Handle // what routes hold
	active  *clusterUnit    // serves; nil while the first version warms
	warming *clusterUnit
	failure *failure
}

// exists is false if no version was ever good.
func (cs *clusterState) exists() bool { return cs.active != nil || cs.warming != nil }

// clusterUnit is one version of a cluster.
type clusterUnit struct {
	state   *clusterState
	res     *resource[*Cluster]
	version string
	updated time.Time
	cl      *cluster.Cluster

	endpoints *cluster.Assignment // those of cl; nil: not known yet

	waits string             // what it warms for; empty when it is warm
	timer *time.Timer        // until it no longer waits; nil: none
	stop  context.CancelFunc // ends its resolver; nil: none

	needs   *Secrets // of the TLS context of cl
	secrets *secretSet
	hosts   bool // it no longer waits for its hosts
}

// needsControlPlane reports that u cannot become warm before the control
// plane has answered.
func (u *clusterUnit) needsControlPlane() bool {
	return u.res.value.EDS != nil || u.res.value.Secrets.overADS()
}

// applyClusters takes in a CDS response. Acknowledged is what compiles: warming
// comes after it.
func (m *Manager) applyClusters(b *batch[*Cluster]) {
	there := make(map[string]bool, len(b.resources))
	for _, res := range b.resources {
		there[res.name] = true
		m.applyCluster(res, b.response.Version)
	}
	if len(b.nameless) == 0 { // else a cluster that is missing may be one that could not be read
		for name, cs := range m.clusters {
			if !there[name] && !cs.static {
				m.removeCluster(cs)
			}
		}
	}
	m.applied(b.response, b.fault())
	if m.stage == stageClusters {
		m.firstClusters()
	}
}

func (m *Manager) applyCluster(res *resource[*Cluster], version string) {
	cs := m.clusters[res.name]
	if cs == nil {
		cs = &clusterState{name: res.name, handle: m.handles.get(res.name)}
		m.clusters[res.name] = cs
	}
	if cs.static {
		m.log.Warn("cluster of the bootstrap is not changed by CDS", "cluster", res.name, "version", version)
		return
	}
	if res.err != nil {
		cs.failure = &failure{res.content, version, time.Now(), res.err}
		text := "cluster refused"
		if cs.exists() {
			text = "cluster refused, the last good version stays"
		}
		m.log.Warn(text, "cluster", res.name, "version", version, "reason", res.err)
		return
	}
	cs.failure = nil
	if cs.active != nil && cs.active.res.print == res.print {
		m.discardCluster(cs) // a change on its way was taken back
		cs.active.version = version
		return
	}
	if cs.warming != nil && cs.warming.res.print == res.print {
		cs.warming.version = version
		return
	}
	if cs.exists() {
		m.stats.clusterModified.Add(1)
	} else {
		m.stats.clusterAdded.Add(1)
	}
	old := cs.warming
	m.warmCluster(&clusterUnit{state: cs, res: res, version: version, updated: time.Now()})
	if old != nil {
		m.closeCluster(old)
	}
}

// warmCluster makes u the next version of its cluster. The present one serves
// until u knows its endpoints and has its secrets (make before break).
func (m *Manager) warmCluster(u *clusterUnit) {
	c := u.res.value
	cfg := c.Config
	u.needs = &c.Secrets
	if old := u.state.active; old != nil && cfg.Options.TLS != nil && old.res.value.tlsPrint == c.tlsPrint {
		// One context for both: then the hosts are connected to in the same way
		// and are adopted. Its secrets have a second user until old is closed.
		o := *cfg.Options
		o.TLS = old.cl.Config().Options.TLS
		cfg.Options, u.needs = &o, old.needs
	}
	u.cl = cluster.New(cfg)
	u.state.warming = u
	if m.registry != nil {
		m.registry.Hold(u.cl.Scope())
	}
	m.dirty.existing = true
	u.secrets = m.useSecrets(u.needs, fmt.Sprintf("cluster %q", u.state.name), func() {
		if u.hosts {
			m.clusterWarm(u)
		}
	})
	switch {
	case c.Endpoints != nil:
		u.update(c.Endpoints)
	case c.DNS != nil:
		u.waits = "the first answers of its names"
		m.resolve(u, *c.DNS)
		u.timer = m.later(dnsWarmTimeout, func() { m.clusterWarm(u) })
	default:
		m.useEndpoints(u, *c.EDS)
	}
	if u.waits == "" {
		m.clusterWarm(u)
	}
	if u.waits != "" {
		m.log.Info("cluster warms", "cluster", u.state.name, "version", u.version, "reason", u.waits)
	}
}

// resolve follows the names of u.
func (m *Manager) resolve(u *clusterUnit, c discovery.Config) {
	c.Lookup, c.Logger = m.lookup, m.log
	ctx, stop := context.WithCancel(m.ctx)
	u.stop = stop
	res := discovery.New(c,
		func(a *cluster.Assignment) {
			m.box.post(func() {
				if ctx.Err() == nil && u.update(a) {
					m.dirty.sweep = true
				}
			})
		},
		func(error) { // the resolver has logged it; Envoy warms then, too
			m.box.post(func() { m.clusterWarm(u) })
		})
	m.running.Go(func() { res.Run(ctx) })
}

// clusterWarm makes u serve, if it is still the one that warms and no secret
// is missing: it does not wait for hosts any more.
func (m *Manager) clusterWarm(u *clusterUnit) {
	cs := u.state
	if cs.warming != u {
		return
	}
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
	u.hosts = true
	if u.waits = u.secrets.waits(); u.waits != "" {
		return
	}
	old := cs.active
	cs.active, cs.warming = u, nil
	if old != nil {
		if u.endpoints == nil && old.endpoints != nil {
			// No answer came in time: what worked is better than nothing.
			m.log.Warn("cluster keeps the endpoints of its last version", "cluster", cs.name, "version", u.version)
			u.update(old.endpoints)
		}
		u.cl.Adopt(old.cl) // what connects as before keeps its connections
	}
	cs.handle.Set(u.cl)
	m.dirty.existing = true
	if old != nil {
		m.closeCluster(old)
	}
	m.log.Info("cluster serves", "cluster", cs.name, "version", u.version, "endpoints", u.cl.Len())
}

// update gives u its endpoints; it reports whether anything changed.
func (u *clusterUnit) update(a *cluster.Assignment) bool {
	u.endpoints = a
	return u.cl.Update(a)
}

// discardCluster gives up the version that warms.
func (m *Manager) discardCluster(cs *clusterState) {
	if cs.warming != nil {
		u := cs.warming
		cs.warming = nil
		m.closeCluster(u)
	}
}

// closeCluster ends a version that neither serves nor warms any more: calls on
// its hosts end by themselves.
func (m *Manager) closeCluster(u *clusterUnit) {
	if u.timer != nil {
		u.timer.Stop()
	}
	if u.stop != nil {
		u.stop()
	}
	if u.res.value.EDS != nil {
		m.releaseEndpoints(u)
	}
	m.releaseSecrets(u.secrets)
	if m.registry != nil {
		m.registry.Drop(u.cl.Scope())
	}
	u.cl.Close()
	m.dirty.sweep, m.dirty.existing = true, true
}

func (m *Manager) removeCluster(cs *clusterState) {
	delete(m.clusters, cs.name)
	if !cs.exists() {
		return
	}
	cs.handle.Set(nil)
	m.discardCluster(cs)
	if cs.active != nil {
		m.closeCluster(cs.active)
	}
	m.stats.clusterRemoved.Add(1)
	m.log.Info("cluster removed", "cluster", cs.name)
}

// addStaticCluster makes a cluster of the bootstrap.
func (m *Manager) addStaticCluster(res *resource[*Cluster]) error {
	if m.clusters[res.name] != nil {
		return &Error{Kind: "Cluster", Name: res.name, Reason: twoOfOneName}
	}
	cs := &clusterState{name: res.name, static: true, handle: m.handles.get(res.name)}
	m.clusters[res.name] = cs
	m.stats.clusterAdded.Add(1)
	m.warmCluster(&clusterUnit{state: cs, res: res, updated: time.Now()})
	return nil
}

// applied notes that a response was taken in. It is answered when all that
// follows from it is done, too.
func (m *Manager) applied(r *xdsclient.Response, err error) {
	if err == nil {
		m.versions[r.TypeURL] = r.Version
	}
	m.answers = append(m.answers, answer{r, err})
}

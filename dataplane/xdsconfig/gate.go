package xdsconfig

import (
	"time"

	"github.com/sluice-proxy/sluice/xdsclient"
)

// stage is how far the start has come. Envoy's order: the bootstrap's clusters,
// the clusters of CDS with their endpoints, then listeners, which open last
// ("Initialization" in Envoy's documentation).
type stage uint8

const (
	stageStatic    stage = iota // the bootstrap's clusters warm that need no control plane
	stageClusters               // the first CDS response is awaited, and its clusters warm
	stageListeners              // the first LDS response is awaited, and the first listeners warm
	stageLive
)

var stageNames = [...]string{"waiting for the bootstrap's clusters", "waiting for the first clusters", "waiting for the first listeners", "live"}

func (s stage) String() string { return stageNames[s] }

// source is where the resources of a wildcard type come from.
type source struct {
	configured bool
	timeout    time.Duration // initial_fetch_timeout; 0: wait for ever
}

// sources are dynamic_resources.cds_config and lds_config.
type sources struct{ clusters, listeners source }

// advance goes to the next stage when nothing holds up the present one.
func (m *Manager) advance() {
	for {
		switch m.stage {
		case stageStatic:
			for _, cs := range m.clusters {
				if cs.static && cs.active == nil && !cs.warming.needsControlPlane() {
					return
				}
			}
			m.enter(stageClusters)
			m.startClient()
			for name := range m.clusters {
				m.first[name] = true
			}
			m.await(xdsclient.ClusterType, m.sources.clusters)
		case stageClusters:
			if !m.answered {
				return
			}
			for name := range m.first {
				if cs := m.clusters[name]; cs != nil && cs.active == nil && cs.warming != nil && m.unanswered(cs.warming) {
					return
				}
			}
			m.enter(stageListeners)
			for name, ls := range m.listeners { // of the bootstrap
				m.first[name] = true
				if ls.warming != nil {
					m.listenerWarm(ls.warming)
				}
			}
			m.await(xdsclient.ListenerType, m.sources.listeners)
		case stageListeners:
			if !m.answered {
				return
			}
			for name := range m.first {
				if ls := m.listeners[name]; ls != nil && ls.active == nil && ls.warming != nil && m.listenerUnanswered(ls.warming) {
					return
				}
			}
			m.enter(stageLive)
			close(m.ready)
		case stageLive:
			return
		}
	}
}

// unanswered reports that something that u warms for has not come. What came
// and was refused keeps u warming, but not the whole proxy: as in Envoy the
// start goes on with a bad configuration, where initial_fetch_timeout is 0, too.
func (m *Manager) unanswered(u *clusterUnit) bool {
	if eds := u.res.value.EDS; !u.hosts && (eds == nil || m.endpoints[eds.Name].failure == nil) {
		return true
	}
	return m.secretsUnanswered(u.secrets)
}

// listenerUnanswered is the same for a listener.
func (m *Manager) listenerUnanswered(u *listenerUnit) bool {
	for name := range u.waits {
		if m.routes[name].failure == nil {
			return true
		}
	}
	return m.secretsUnanswered(u.secrets)
}

func (m *Manager) secretsUnanswered(s *secretSet) bool {
	for b := range s.missing {
		if ss := m.secrets[b.src.Name]; b.src.Path != "" || ss == nil || ss.failure == nil {
			return true
		}
	}
	return false
}

// unreadable notes that a response, or a resource of it, was refused of which not
// even the name is known. It may have been what the start waits for: as in Envoy
// that goes on without.
func (m *Manager) unreadable(typeURL, version string, err error) {
	f := &failure{version: version, at: time.Now(), err: err}
	switch typeURL {
	case xdsclient.ClusterType:
		if m.stage == stageClusters {
			m.firstClusters()
		}
	case xdsclient.ListenerType:
		if m.stage == stageListeners {
			m.firstListeners()
		}
	case xdsclient.EndpointType:
		for _, es := range m.endpoints {
			if es.res == nil && es.failure == nil {
				es.failure = f
			}
		}
	case xdsclient.RouteType:
		for _, rs := range m.routes {
			if rs.res == nil && rs.failure == nil {
				rs.failure = f
			}
		}
	case xdsclient.SecretType:
		for _, ss := range m.secrets {
			if ss.res == nil && ss.failure == nil {
				ss.failure = f
			}
		}
	}
}

// firstClusters notes that the first clusters have come.
func (m *Manager) firstClusters() {
	if m.answered {
		return
	}
	m.answered = true
	for name := range m.clusters {
		m.first[name] = true
	}
}

// firstListeners is the same for listeners.
func (m *Manager) firstListeners() {
	if m.answered {
		return
	}
	m.answered = true
	for name := range m.listeners {
		m.first[name] = true
	}
}

func (m *Manager) enter(s stage) {
	m.stage = s
	m.first = map[string]bool{}
	m.answered = false
	if m.deadline != nil {
		m.deadline.Stop()
		m.deadline = nil
	}
	m.log.Info("initialisation", "stage", s.String(), "after", time.Since(m.started))
}

// await asks for a wildcard type and waits for its first response, but not for
// ever.
func (m *Manager) await(typeURL string, src source) {
	if !src.configured {
		m.answered = true
		return
	}
	m.client.Subscribe(typeURL, xdsclient.Subscription{Wildcard: true})
	if src.timeout == 0 {
		return
	}
	s := m.stage
	m.deadline = m.later(src.timeout, func() {
		if m.stage == s && !m.answered {
			m.log.Warn("initialisation no longer waits", "reason", s.String())
			m.timeouts[typeURL]++
			m.answered = true
		}
	})
}

// startClient opens the stream to the control plane.
func (m *Manager) startClient() {
	if m.client == nil {
		return
	}
	m.running.Go(func() { _ = m.client.Run(m.ctx) }) // its error is m.ctx's
}

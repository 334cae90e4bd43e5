package xdsconfig

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/xdsclient"
)

// Status is the state of a manager, for people and for the admin interface.
type Status struct {
	Stage     string // of the initialisation; "live" when that is over
	Ready     bool
	Clusters  []ClusterStatus  // by name
	Listeners []ListenerStatus // by name
	Routes    []RouteStatus    // of RDS, by name
	XDS       *xdsclient.Status
}

// Unit is what clusters, listeners and routes have in common.
type Unit struct {
	Name    string
	Static  bool
	Version string    // of the control plane; of what serves, if anything does
	Updated time.Time // when it last changed
	Serving bool
	// Warming says what the next version waits for; empty if there is none.
	Warming string
	// Refused is why the newest version was refused; empty if it was not.
	Refused string
}

// ClusterStatus is the state of one cluster.
type ClusterStatus struct {
	Unit
	StatName      string // alt_stat_name, or the name
	EDSService    string // eds_cluster_config.service_name; empty: none
	Hosts         []cluster.HostStatus
	Levels        []cluster.LevelStatus
	Counts        cluster.Counts
	Default, High cluster.Thresholds
}

// ListenerStatus is the state of one listener.
type ListenerStatus struct {
	Unit
	Routes []string // RouteConfigurations by RDS
}

// RouteStatus is the state of one RouteConfiguration by RDS.
type RouteStatus struct {
	Unit
	Listeners []string
}

// Status returns the present state.
func (m *Manager) Status() Status {
	var s Status
	var clusters []clusterRef
	m.do(func() {
		s.Stage, s.Ready = m.stage.String(), m.stage == stageLive
		clusters = m.clusterRefs()
		for _, ls := range m.listeners {
			s.Listeners = append(s.Listeners, m.listenerStatus(ls))
		}
		for name, rs := range m.routes {
			if !rs.used() {
				continue
			}
			s.Routes = append(s.Routes, rs.status(name))
		}
	})
	s.Clusters = slices.AppendSeq(s.Clusters, statuses(clusters))
	slices.SortFunc(s.Listeners, func(a, b ListenerStatus) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Routes, func(a, b RouteStatus) int { return cmp.Compare(a.Name, b.Name) })
	if m.client != nil {
		x := m.client.Status()
		s.XDS = &x
	}
	return s
}

// Clusters goes through the clusters that there are now by name. Each is looked
// at when its turn comes: with many, their hosts are never in memory together.
func (m *Manager) Clusters() iter.Seq[ClusterStatus] {
	var clusters []clusterRef
	m.do(func() { clusters = m.clusterRefs() })
	return statuses(clusters)
}

// clusterRef is a cluster and what the configuration goroutine knows of it.
type clusterRef struct {
	Unit
	statName, edsService string
	cl                   *cluster.Cluster // nil: it warms
}

func (m *Manager) clusterRefs() []clusterRef {
	out := make([]clusterRef, 0, len(m.clusters))
	for _, cs := range m.clusters {
		out = append(out, cs.ref())
	}
	return out
}

func statuses(clusters []clusterRef) iter.Seq[ClusterStatus] {
	slices.SortFunc(clusters, func(a, b clusterRef) int { return cmp.Compare(a.Name, b.Name) })
	return func(yield func(ClusterStatus) bool) {
		for _, c := range clusters {
			if !yield(c.status()) {
				return
			}
		}
	}
}

// reason is why the newest version was refused.
func (f *failure) reason() string {
	if f == nil {
		return ""
	}
	return f.err.Error()
}

func (cs *clusterState) ref() clusterRef {
	out := clusterRef{Unit: Unit{Name: cs.name, Static: cs.static, Refused: cs.failure.reason()}}
	if u := cs.warming; u != nil {
		out.Warming, out.Version, out.Updated = u.waits, u.version, u.updated
	}
	if u := cs.active; u != nil {
		out.Serving, out.Version, out.Updated = true, u.version, u.updated
		out.cl = u.cl
		out.statName = u.res.value.statName
		if eds := u.res.value.EDS; eds != nil {
			out.edsService = eds.service
		}
	}
	return out
}

// status reads what the cluster itself knows. Any goroutine may call it.
func (c *clusterRef) status() ClusterStatus {
	out := ClusterStatus{Unit: c.Unit, StatName: c.statName, EDSService: c.edsService}
	if cl := c.cl; cl != nil {
		out.Hosts, out.Levels, out.Counts = cl.Hosts(), cl.Levels(), cl.Counts()
		out.Default, out.High = cl.Thresholds()
	}
	return out
}

func (m *Manager) listenerStatus(ls *listenerState) ListenerStatus {
	out := ListenerStatus{Unit: Unit{Name: ls.name, Static: ls.static, Refused: ls.failure.reason()}}
	show := func(u *listenerUnit) {
		out.Version, out.Updated, out.Routes = u.version, u.updated, nil
		for _, src := range u.res.value.Routes {
			out.Routes = append(out.Routes, src.Name)
		}
	}
	if u := ls.warming; u != nil {
		show(u)
		out.Warming = m.listenerWaits(u)
	}
	if u := ls.active; u != nil {
		show(u)
		out.Serving = true
	}
	return out
}

func (rs *routeState) status(name string) RouteStatus {
	out := RouteStatus{Unit: Unit{Name: name, Version: rs.version, Updated: rs.updated, Serving: rs.res != nil, Refused: rs.failure.reason()}}
	if rs.res == nil {
		out.Warming = "the control plane's answer"
	}
	for u := range rs.users {
		out.Listeners = append(out.Listeners, u.state.name)
	}
	slices.Sort(out.Listeners)
	out.Listeners = slices.Compact(out.Listeners)
	return out
}

package xdsconfig

import (
	"maps"
	"slices"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-proxy/sluice/xdsclient"
)

// Dump is the configuration as it was received, with what became of it: the
// parts of Envoy's /config_dump.
type Dump struct {
	Bootstrap *adminv3.BootstrapConfigDump
	Clusters  *adminv3.ClustersConfigDump
	Listeners *adminv3.ListenersConfigDump
	Routes    *adminv3.RoutesConfigDump
	Endpoints *adminv3.EndpointsConfigDump
	Secrets   *adminv3.SecretsConfigDump
}

// Dump returns the present configuration. The resources in it are shared and
// must not be changed.
func (m *Manager) Dump() *Dump {
	d := &Dump{
		Bootstrap: &adminv3.BootstrapConfigDump{Bootstrap: redactedBootstrap(m.bootstrap), LastUpdated: timestamppb.New(m.started)},
		Clusters:  &adminv3.ClustersConfigDump{},
		Listeners: &adminv3.ListenersConfigDump{},
		Routes:    &adminv3.RoutesConfigDump{},
		Endpoints: &adminv3.EndpointsConfigDump{},
		Secrets:   &adminv3.SecretsConfigDump{},
	}
	var late lateDump
	m.do(func() {
		m.dumpClusters(d.Clusters, &late)
		m.dumpListeners(d.Listeners, &late)
		m.dumpRoutes(d.Routes, &late)
		m.dumpEndpoints(d.Endpoints, &late)
		m.dumpSecrets(d.Secrets, &late)
	})
	for _, u := range late.listeners {
		d.Routes.StaticRouteConfigs = append(d.Routes.StaticRouteConfigs, inlineRoutes(u)...)
	}
	for _, c := range late.contents {
		*c.to = redacted(c.content)
	}
	return d
}

// lateDump is what of a dump is made after it was collected: what parses
// resources takes too long for the configuration goroutine.
type lateDump struct {
	listeners []*listenerUnit // whose routes are to be shown; only what is set at creation is read
	contents  []lateContent
}

type lateContent struct {
	to      **anypb.Any
	content *anypb.Any
}

// show fills in to with what may be shown of content.
func (l *lateDump) show(to **anypb.Any, content *anypb.Any) {
	l.contents = append(l.contents, lateContent{to, content})
}

func (m *Manager) dumpClusters(d *adminv3.ClustersConfigDump, late *lateDump) {
	d.VersionInfo = m.versions[xdsclient.ClusterType]
	for _, name := range slices.Sorted(maps.Keys(m.clusters)) {
		cs := m.clusters[name]
		dynamic := func(u *clusterUnit, status adminv3.ClientResourceStatus) *adminv3.ClustersConfigDump_DynamicCluster {
			c := &adminv3.ClustersConfigDump_DynamicCluster{
				VersionInfo: u.version, LastUpdated: timestamppb.New(u.updated),
				ErrorState: cs.failure.dump(late), ClientStatus: cs.failure.status(status),
			}
			late.show(&c.Cluster, u.res.content)
			return c
		}
		switch {
		case cs.static:
			u := cs.active
			if u == nil {
				u = cs.warming
			}
			c := &adminv3.ClustersConfigDump_StaticCluster{LastUpdated: timestamppb.New(u.updated)}
			late.show(&c.Cluster, u.res.content)
			d.StaticClusters = append(d.StaticClusters, c)
			continue
		case !cs.exists():
			c := &adminv3.ClustersConfigDump_DynamicCluster{ErrorState: cs.failure.dump(late), ClientStatus: adminv3.ClientResourceStatus_NACKED}
			late.show(&c.Cluster, cs.failure.content)
			d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, c)
		}
		if cs.active != nil {
			d.DynamicActiveClusters = append(d.DynamicActiveClusters, dynamic(cs.active, adminv3.ClientResourceStatus_ACKED))
		}
		if cs.warming != nil {
			d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, dynamic(cs.warming, adminv3.ClientResourceStatus_REQUESTED))
		}
	}
}

func (m *Manager) dumpListeners(d *adminv3.ListenersConfigDump, late *lateDump) {
	d.VersionInfo = m.versions[xdsclient.ListenerType]
	for _, name := range slices.Sorted(maps.Keys(m.listeners)) {
		ls := m.listeners[name]
		for _, u := range []*listenerUnit{ls.active, ls.warming} {
			if u != nil {
				late.listeners = append(late.listeners, u)
			}
		}
		if ls.static {
			u := ls.active
			if u == nil {
				u = ls.warming
			}
			if u != nil {
				c := &adminv3.ListenersConfigDump_StaticListener{LastUpdated: timestamppb.New(u.updated)}
				late.show(&c.Listener, u.res.content)
				d.StaticListeners = append(d.StaticListeners, c)
			}
			continue
		}
		status := adminv3.ClientResourceStatus_REQUESTED
		if ls.active != nil {
			status = adminv3.ClientResourceStatus_ACKED
		}
		d.DynamicListeners = append(d.DynamicListeners, &adminv3.ListenersConfigDump_DynamicListener{
			Name: name, ActiveState: ls.active.dump(late), WarmingState: ls.warming.dump(late),
			ErrorState: ls.failure.dump(late), ClientStatus: ls.failure.status(status),
		})
	}
}

func (u *listenerUnit) dump(late *lateDump) *adminv3.ListenersConfigDump_DynamicListenerState {
	if u == nil {
		return nil
	}
	c := &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: u.version, LastUpdated: timestamppb.New(u.updated)}
	late.show(&c.Listener, u.res.content)
	return c
}

// inlineRoutes returns the route_config of each connection manager of u.
func inlineRoutes(u *listenerUnit) (out []*adminv3.RoutesConfigDump_StaticRouteConfig) {
	var l listenerv3.Listener
	if proto.Unmarshal(u.res.content.GetValue(), &l) != nil {
		return nil
	}
	for _, fc := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
		for _, f := range fc.GetFilters() {
			var h hcmv3.HttpConnectionManager
			if typeName(f.GetTypedConfig()) != typeHCM || f.GetTypedConfig().UnmarshalTo(&h) != nil || h.GetRouteConfig() == nil {
				continue
			}
			x, _ := anypb.New(h.GetRouteConfig()) // of a valid message
			out = append(out, &adminv3.RoutesConfigDump_StaticRouteConfig{RouteConfig: x, LastUpdated: timestamppb.New(u.updated)})
		}
	}
	return out
}

func (m *Manager) dumpRoutes(d *adminv3.RoutesConfigDump, late *lateDump) {
	for _, name := range slices.Sorted(maps.Keys(m.routes)) {
		rs := m.routes[name]
		if !rs.used() {
			continue
		}
		c := &adminv3.RoutesConfigDump_DynamicRouteConfig{
			VersionInfo: rs.version, ErrorState: rs.failure.dump(late), ClientStatus: rs.failure.status(adminv3.ClientResourceStatus_REQUESTED),
		}
		if rs.res != nil {
			c.RouteConfig, c.LastUpdated = rs.res.content, timestamppb.New(rs.updated)
			c.ClientStatus = rs.failure.status(adminv3.ClientResourceStatus_ACKED)
		}
		d.DynamicRouteConfigs = append(d.DynamicRouteConfigs, c)
	}
}

func (m *Manager) dumpEndpoints(d *adminv3.EndpointsConfigDump, late *lateDump) {
	for _, name := range slices.Sorted(maps.Keys(m.endpoints)) {
		es := m.endpoints[name]
		if !es.used() {
			continue
		}
		c := &adminv3.EndpointsConfigDump_DynamicEndpointConfig{
			VersionInfo: es.version, ErrorState: es.failure.dump(late), ClientStatus: es.failure.status(adminv3.ClientResourceStatus_REQUESTED),
		}
		if es.res != nil {
			c.EndpointConfig, c.LastUpdated = es.res.content, timestamppb.New(es.updated)
			c.ClientStatus = es.failure.status(adminv3.ClientResourceStatus_ACKED)
		}
		d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, c)
	}
}

func (m *Manager) dumpSecrets(d *adminv3.SecretsConfigDump, late *lateDump) {
	for _, s := range m.bootstrap.GetStaticResources().GetSecrets() {
		x, _ := anypb.New(s) // of a valid message
		c := &adminv3.SecretsConfigDump_StaticSecret{
			Name: s.GetName(), LastUpdated: timestamppb.New(m.started),
		}
		late.show(&c.Secret, x)
		d.StaticSecrets = append(d.StaticSecrets, c)
	}
	for _, name := range slices.Sorted(maps.Keys(m.secrets)) {
		ss := m.secrets[name]
		if !ss.used() {
			continue
		}
		c := &adminv3.SecretsConfigDump_DynamicSecret{
			Name: name, VersionInfo: ss.version, ErrorState: ss.failure.dump(late), ClientStatus: ss.failure.status(adminv3.ClientResourceStatus_REQUESTED),
		}
		if ss.res == nil {
			d.DynamicWarmingSecrets = append(d.DynamicWarmingSecrets, c)
			continue
		}
		c.LastUpdated = timestamppb.New(ss.updated)
		late.show(&c.Secret, ss.res.content)
		c.ClientStatus = ss.failure.status(adminv3.ClientResourceStatus_ACKED)
		d.DynamicActiveSecrets = append(d.DynamicActiveSecrets, c)
	}
}

func (f *failure) dump(late *lateDump) *adminv3.UpdateFailureState {
	if f == nil {
		return nil
	}
	s := &adminv3.UpdateFailureState{
		LastUpdateAttempt: timestamppb.New(f.at.Truncate(time.Millisecond)),
		Details:           f.err.Error(), VersionInfo: f.version,
	}
	late.show(&s.FailedConfiguration, f.content)
	return s
}

// status is NACKED after a refusal, else what it would be.
func (f *failure) status(otherwise adminv3.ClientResourceStatus) adminv3.ClientResourceStatus {
	if f != nil {
		return adminv3.ClientResourceStatus_NACKED
	}
	return otherwise
}

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
	m.do(func() {
		m.dumpClusters(d.Clusters)
		m.dumpListeners(d.Listeners, d.Routes)
		m.dumpRoutes(d.Routes)
		m.dumpEndpoints(d.Endpoints)
		m.dumpSecrets(d.Secrets)
	})
	return d
}

func (m *Manager) dumpClusters(d *adminv3.ClustersConfigDump) {
	d.VersionInfo = m.versions[xdsclient.ClusterType]
	for _, name := range slices.Sorted(maps.Keys(m.clusters)) {
		cs := m.clusters[name]
		dynamic := func(u *clusterUnit, status adminv3.ClientResourceStatus) *adminv3.ClustersConfigDump_DynamicCluster {
			return &adminv3.ClustersConfigDump_DynamicCluster{
				VersionInfo: u.version, Cluster: redacted(u.res.content), LastUpdated: timestamppb.New(u.updated),
				ErrorState: cs.failure.dump(), ClientStatus: cs.failure.status(status),
			}
		}
		switch {
		case cs.static:
			u := cs.active
			if u == nil {
				u = cs.warming
			}
			d.StaticClusters = append(d.StaticClusters, &adminv3.ClustersConfigDump_StaticCluster{
				Cluster: redacted(u.res.content), LastUpdated: timestamppb.New(u.updated),
			})
			continue
		case !cs.exists():
			d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, &adminv3.ClustersConfigDump_DynamicCluster{
				Cluster: redacted(cs.failure.content), ErrorState: cs.failure.dump(), ClientStatus: adminv3.ClientResourceStatus_NACKED,
			})
		}
		if cs.active != nil {
			d.DynamicActiveClusters = append(d.DynamicActiveClusters, dynamic(cs.active, adminv3.ClientResourceStatus_ACKED))
		}
		if cs.warming != nil {
			d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, dynamic(cs.warming, adminv3.ClientResourceStatus_REQUESTED))
		}
	}
}

// dumpListeners fills in the listeners, and the routes that stand in them.
func (m *Manager) dumpListeners(d *adminv3.ListenersConfigDump, routes *adminv3.RoutesConfigDump) {
	d.VersionInfo = m.versions[xdsclient.ListenerType]
	for _, name := range slices.Sorted(maps.Keys(m.listeners)) {
		ls := m.listeners[name]
		for _, u := range []*listenerUnit{ls.active, ls.warming} {
			if u != nil {
				routes.StaticRouteConfigs = append(routes.StaticRouteConfigs, inlineRoutes(u)...)
			}
		}
		if ls.static {
			u := ls.active
			if u == nil {
				u = ls.warming
			}
			if u != nil {
				d.StaticListeners = append(d.StaticListeners, &adminv3.ListenersConfigDump_StaticListener{
					Listener: redacted(u.res.content), LastUpdated: timestamppb.New(u.updated),
				})
			}
			continue
		}
		status := adminv3.ClientResourceStatus_REQUESTED
		if ls.active != nil {
			status = adminv3.ClientResourceStatus_ACKED
		}
		d.DynamicListeners = append(d.DynamicListeners, &adminv3.ListenersConfigDump_DynamicListener{
			Name: name, ActiveState: ls.active.dump(), WarmingState: ls.warming.dump(),
			ErrorState: ls.failure.dump(), ClientStatus: ls.failure.status(status),
		})
	}
}

func (u *listenerUnit) dump() *adminv3.ListenersConfigDump_DynamicListenerState {
	if u == nil {
		return nil
	}
	return &adminv3.ListenersConfigDump_DynamicListenerState{
		VersionInfo: u.version, Listener: redacted(u.res.content), LastUpdated: timestamppb.New(u.updated),
	}
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

func (m *Manager) dumpRoutes(d *adminv3.RoutesConfigDump) {
	for _, name := range slices.Sorted(maps.Keys(m.routes)) {
		rs := m.routes[name]
		if !rs.used() {
			continue
		}
		c := &adminv3.RoutesConfigDump_DynamicRouteConfig{
			VersionInfo: rs.version, ErrorState: rs.failure.dump(), ClientStatus: rs.failure.status(adminv3.ClientResourceStatus_REQUESTED),
		}
		if rs.res != nil {
			c.RouteConfig, c.LastUpdated = rs.res.content, timestamppb.New(rs.updated)
			c.ClientStatus = rs.failure.status(adminv3.ClientResourceStatus_ACKED)
		}
		d.DynamicRouteConfigs = append(d.DynamicRouteConfigs, c)
	}
}

func (m *Manager) dumpEndpoints(d *adminv3.EndpointsConfigDump) {
	for _, name := range slices.Sorted(maps.Keys(m.endpoints)) {
		es := m.endpoints[name]
		if !es.used() {
			continue
		}
		c := &adminv3.EndpointsConfigDump_DynamicEndpointConfig{
			VersionInfo: es.version, ErrorState: es.failure.dump(), ClientStatus: es.failure.status(adminv3.ClientResourceStatus_REQUESTED),
		}
		if es.res != nil {
			c.EndpointConfig, c.LastUpdated = es.res.content, timestamppb.New(es.updated)
			c.ClientStatus = es.failure.status(adminv3.ClientResourceStatus_ACKED)
		}
		d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, c)
	}
}

func (m *Manager) dumpSecrets(d *adminv3.SecretsConfigDump) {
	for _, s := range m.bootstrap.GetStaticResources().GetSecrets() {
		x, _ := anypb.New(s) // of a valid message
		d.StaticSecrets = append(d.StaticSecrets, &adminv3.SecretsConfigDump_StaticSecret{
			Name: s.GetName(), Secret: redacted(x), LastUpdated: timestamppb.New(m.started),
		})
	}
	for _, name := range slices.Sorted(maps.Keys(m.secrets)) {
		ss := m.secrets[name]
		if !ss.used() {
			continue
		}
		c := &adminv3.SecretsConfigDump_DynamicSecret{
			Name: name, VersionInfo: ss.version, ErrorState: ss.failure.dump(), ClientStatus: ss.failure.status(adminv3.ClientResourceStatus_REQUESTED),
		}
		if ss.res == nil {
			d.DynamicWarmingSecrets = append(d.DynamicWarmingSecrets, c)
			continue
		}
		c.Secret, c.LastUpdated = redacted(ss.res.content), timestamppb.New(ss.updated)
		c.ClientStatus = ss.failure.status(adminv3.ClientResourceStatus_ACKED)
		d.DynamicActiveSecrets = append(d.DynamicActiveSecrets, c)
	}
}

func (f *failure) dump() *adminv3.UpdateFailureState {
	if f == nil {
		return nil
	}
	return &adminv3.UpdateFailureState{
		FailedConfiguration: redacted(f.content), LastUpdateAttempt: timestamppb.New(f.at.Truncate(time.Millisecond)),
		Details: f.err.Error(), VersionInfo: f.version,
	}
}

// status is NACKED after a refusal, else what it would be.
func (f *failure) status(otherwise adminv3.ClientResourceStatus) adminv3.ClientResourceStatus {
	if f != nil {
		return adminv3.ClientResourceStatus_NACKED
	}
	return otherwise
}

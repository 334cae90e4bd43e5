package xdsconfig

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"github.com/sluice-proxy/sluice/dataplane/route"
	"github.com/sluice-proxy/sluice/xdsclient"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

const testBootstrap = `
node: {id: node, cluster: edge}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}}
  lds_config: {ads: {}}
static_resources:
  clusters:
  - name: xds
    http2_protocol_options: {}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 18000}}}}]}]}
`

// feed is a client that delivers what a test gives it.
type feed struct {
	h    xdsclient.Handler
	subs map[string]xdsclient.Subscription
}

func (f *feed) Subscribe(typeURL string, s xdsclient.Subscription) { f.subs[typeURL] = s }
func (f *feed) Run(ctx context.Context) error                      { <-ctx.Done(); return ctx.Err() }
func (f *feed) Status() xdsclient.Status                           { return xdsclient.Status{} }

// attach starts a manager whose responses come from the returned feed. prepare
// may change the manager before its goroutines run.
func attach(t *testing.T, w *world, text string, prepare func(*Manager)) (*Manager, *feed) {
	t.Helper()
	bs, err := bootstrap.Parse([]byte(text), bootstrap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{subs: map[string]xdsclient.Subscription{}}
	m, err := Attach(t.Context(), w, bs, Options{newClient: func(h xdsclient.Handler) client {
		f.h = h
		if prepare != nil {
			prepare(h.(*Manager))
		}
		return f
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, f
}

// TestEndpointsDoNotWaitForRoutes: while a route table compiles, for an hour,
// endpoints are updated.
func TestEndpointsDoNotWaitForRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, f := attach(t, w, testBootstrap, func(m *Manager) {
			compile := m.routeIntake.compile
			m.routeIntake.compile = func(msg proto.Message, e *Env) (*route.Table, error) {
				time.Sleep(time.Hour)
				return compile(msg, e)
			}
		})
		synctest.Wait()
		f.h.Response(w.response(xdsclient.ClusterType, "1", `[{name: a, type: EDS, http2_protocol_options: {}, eds_cluster_config: {eds_config: {ads: {}}}}]`))
		synctest.Wait()
		f.h.Response(w.response(xdsclient.EndpointType, "1", `[{cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}]`))
		synctest.Wait()
		f.h.Response(w.response(xdsclient.ListenerType, "1", `[{name: l, address: {socket_address: {address: 0.0.0.0, port_value: 80}}, filter_chains: [{filters: [{name: hcm, typed_config: {
			"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s,
			rds: {config_source: {ads: {}, initial_fetch_timeout: 0s}, route_config_name: r},
			http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}]`))
		synctest.Wait()
		f.h.Response(w.response(xdsclient.RouteType, "1", `[{name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: a, timeout: 0s}}]}]}]`))
		synctest.Wait()
		start := time.Now()
		f.h.Response(w.response(xdsclient.EndpointType, "2", `[{cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}}]}]}]`))
		synctest.Wait()
		if hosts := m.Status().Clusters[0].Hosts; len(hosts) != 1 || hosts[0].Address != "10.0.0.2:80" {
			t.Errorf("the endpoint update has not arrived: %v", hosts)
		}
		if time.Since(start) != 0 {
			t.Errorf("it took %v", time.Since(start))
		}
		if s := m.Status(); s.Ready || s.Listeners[0].Warming != `routes "r"` {
			t.Errorf("the route table is there already: the test shows nothing: %+v", s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case <-m.Ready():
		default:
			t.Error("not ready, though the routes are there")
		}
	})
}

// TestDump: what serves, what warms and what was refused is in the dump, as it
// was received.
func TestDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, f := attach(t, w, testBootstrap, nil)
		synctest.Wait()
		one := w.response(xdsclient.ClusterType, "1", `[{name: a, type: STATIC, http2_protocol_options: {}}, {name: gone, type: STATIC, http2_protocol_options: {}}]`)
		f.h.Response(one)
		synctest.Wait()
		two := w.response(xdsclient.ClusterType, "2", `[{name: a, type: STATIC, lb_policy: MAGLEV}, {name: b, type: EDS, http2_protocol_options: {}, eds_cluster_config: {eds_config: {ads: {}}}}, {name: c, lb_policy: MAGLEV}]`)
		f.h.Response(two)
		synctest.Wait()
		d := m.Dump()
		if len(d.Clusters.StaticClusters) != 1 {
			t.Errorf("static clusters: %v", d.Clusters.StaticClusters)
		}
		reason := func(name string) string {
			return `Cluster "` + name + `": lb_policy: MAGLEV: not supported by this version`
		}
		now := d.Clusters.StaticClusters[0].LastUpdated // synctest's time stands still
		want := &adminv3.ClustersConfigDump{
			VersionInfo:    "1",
			StaticClusters: d.Clusters.StaticClusters,
			DynamicActiveClusters: []*adminv3.ClustersConfigDump_DynamicCluster{{
				VersionInfo: "1", Cluster: one.Resources[0], LastUpdated: now, ClientStatus: adminv3.ClientResourceStatus_NACKED,
				ErrorState: &adminv3.UpdateFailureState{FailedConfiguration: two.Resources[0], LastUpdateAttempt: now, Details: reason("a"), VersionInfo: "2"},
			}},
			DynamicWarmingClusters: []*adminv3.ClustersConfigDump_DynamicCluster{
				{VersionInfo: "2", Cluster: two.Resources[1], LastUpdated: now, ClientStatus: adminv3.ClientResourceStatus_REQUESTED},
				{Cluster: two.Resources[2], ClientStatus: adminv3.ClientResourceStatus_NACKED,
					ErrorState: &adminv3.UpdateFailureState{FailedConfiguration: two.Resources[2], LastUpdateAttempt: now, Details: reason("c"), VersionInfo: "2"}},
			},
		}
		if diff := cmp.Diff(want, d.Clusters, protocmp.Transform()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if got := len(d.Endpoints.DynamicEndpointConfigs); got != 1 || d.Endpoints.DynamicEndpointConfigs[0].ClientStatus != adminv3.ClientResourceStatus_REQUESTED {
			t.Errorf("endpoints: %v", d.Endpoints)
		}
		m.Close()
		if diff := cmp.Diff(want, m.Dump().Clusters, protocmp.Transform()); diff != "" {
			t.Errorf("after Close, -want +got:\n%s", diff)
		}
	})
}

// TestCompileHasNoSideEffects: the zero Env is enough, as for a control plane.
func TestCompileHasNoSideEffects(t *testing.T) {
	c := &clusterv3.Cluster{Name: "c"}
	if _, err := CompileCluster(c, &Env{}); err != nil {
		t.Error(err)
	}
	tbl, err := CompileRoutes(&routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{{
		Name: "v", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "c"}}},
		}},
	}}}, &Env{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := tbl.Direct(newCall(testCall{Host: "h", Path: "/s/m"}))
	if err != nil || d.Route.Timeout != 15*time.Second {
		t.Errorf("Direct: %+v, %v", d, err)
	}
}

package xdsconfig

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// The stats of updates have Envoy's names, and go with what they are about.
// Clusters, endpoints, a listener and routes come; bad routes are refused; the
// stream ends; then the listener goes.
func TestUpdateStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, testBootstrap)
		r := telemetry.NewRegistry()
		w.m.registry, w.m.clusterIntake.env.Registry = r, r
		w.m.addUpdateStats(r)
		const routes = "- {name: r:1, virtual_hosts: [{name: v, domains: [\"*\"], routes: [{match: {prefix: /}, route: {cluster: a:1, timeout: 0s}}]}]}\n"
		w.command([]string{"cds", "1"}, "- {name: a:1, type: EDS, http2_protocol_options: {}, eds_cluster_config: {service_name: e, eds_config: {ads: {}}}}\n")
		w.command([]string{"eds", "1"}, "- {cluster_name: e, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}\n")
		w.command([]string{"lds", "v1"}, `- {name: l, address: {socket_address: {address: 0.0.0.0, port_value: 80}}, filter_chains: [{filters: [{name: hcm, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: in,
    rds: {config_source: {ads: {}}, route_config_name: "r:1"},
    http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}
`)
		w.command([]string{"rds", "1"}, routes)
		w.command([]string{"rds", "2"}, strings.Replace(routes, "prefix: /", "safe_regex: {regex: \"(\"}", 1))
		expectStats(t, r, "all are there", map[string]any{
			"cluster_manager.cds.update_attempt": 2, "cluster_manager.cds.update_success": 1, "cluster_manager.cds.update_rejected": 0,
			"cluster_manager.cds.version_text": "1", "cluster_manager.cds.version": xxh64("1"),
			"listener_manager.lds.update_success": 1, "listener_manager.lds.version_text": "v1",
			"cluster.a_1.update_attempt": 2, "cluster.a_1.update_success": 1, "cluster.a_1.update_failure": 0, "cluster.a_1.assignment_stale": 0,
			"http.in.rds.r_1.update_success": 1, "http.in.rds.r_1.update_rejected": 1, "http.in.rds.r_1.config_reload": 1, "http.in.rds.r_1.update_attempt": 3,
			"cluster_manager.eds.update_success": nil, "listener_manager.rds.update_rejected": nil,
		})
		w.stream.end(errors.New("gone"))
		synctest.Wait()
		expectStats(t, r, "the stream has ended", map[string]any{
			"cluster_manager.cds.update_failure": 1, "cluster.a_1.update_failure": 1, "http.in.rds.r_1.update_failure": 1,
		})
		w.command([]string{"wait", "1m"}, "")
		w.command([]string{"lds", "v2"}, "[]")
		expectStats(t, r, "the listener has gone", map[string]any{"http.in.rds.r_1.update_success": nil, "listener_manager.lds.update_success": 2})
	})
}

// expectStats compares some of r's stats: texts, numbers (an int stands for an
// uint64), nil for one that must not be there.
func expectStats(t *testing.T, r *telemetry.Registry, step string, want map[string]any) {
	t.Helper()
	got := map[string]any{}
	for _, s := range r.Collect(nil) {
		if _, twice := got[s.Name]; twice {
			t.Errorf("%s: %s is there twice", step, s.Name)
		}
		if got[s.Name] = s.Value; s.IsText {
			got[s.Name] = s.Text
		}
	}
	for name, v := range want {
		if n, ok := v.(int); ok {
			v = uint64(n)
		}
		if got[name] != v {
			t.Errorf("%s: %s is %v, want %v", step, name, got[name], v)
		}
	}
}

// What the bootstrap has was added, too, as Envoy counts.
func TestStaticIsAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs, err := bootstrap.Parse([]byte(`static_resources:
  clusters:
  - {name: a, http2_protocol_options: {}, load_assignment: {cluster_name: a}}
  - {name: b, http2_protocol_options: {}, load_assignment: {cluster_name: b}}
  listeners:
  - {name: l, address: {socket_address: {address: 0.0.0.0, port_value: 80}}, filter_chains: [{filters: [{name: hcm, typed_config: {
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: in, route_config: {name: r},
      http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}
`), bootstrap.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r := telemetry.NewRegistry()
		m, err := Attach(t.Context(), newWorld(t), bs, Options{Registry: r})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		<-m.Ready()
		expectStats(t, r, "at the start", map[string]any{
			"cluster_manager.cluster_added": 2, "cluster_manager.active_clusters": 2, "listener_manager.listener_added": 1,
		})
	})
}

// Clusters of one alt_stat_name count together, at each scrape alike: their
// endpoints come by two names, one of which is updated more often.
func TestEndpointStatsOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, cdsOnly)
		r := telemetry.NewRegistry()
		w.m.registry, w.m.clusterIntake.env.Registry = r, r
		w.m.addUpdateStats(r)
		const cluster = "- {name: NAME, alt_stat_name: s, type: EDS, http2_protocol_options: {}, eds_cluster_config: {eds_config: {ads: {}}}}\n"
		const endpoints = "- {cluster_name: NAME, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}\n"
		w.command([]string{"cds", "1"}, strings.ReplaceAll(cluster, "NAME", "a")+strings.ReplaceAll(cluster, "NAME", "b"))
		w.command([]string{"eds", "1"}, strings.ReplaceAll(endpoints, "NAME", "a")+strings.ReplaceAll(endpoints, "NAME", "b"))
		w.command([]string{"eds", "2"}, strings.ReplaceAll(endpoints, "NAME", "a"))
		for range 20 {
			expectStats(t, r, "any time", map[string]any{
				"cluster.s.update_success": 3, "cluster.s.update_attempt": 5, "cluster.s.update_no_rebuild": 1, "cluster.s.version": xxh64("2"),
			})
		}
	})
}

// A listener that changes and changes back while it warms does not warm any more.
func TestWarmingIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, testBootstrap)
		r := telemetry.NewRegistry()
		w.m.stats = newStats(r)
		w.command([]string{"cds", "1"}, "[]")
		lds := func(version, route string, want int) {
			t.Helper()
			w.command([]string{"lds", version}, `- {name: l, address: {socket_address: {address: 0.0.0.0, port_value: 80}}, filter_chains: [{filters: [{name: hcm, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: in, `+route+`,
    http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}
`)
			expectStats(t, r, "version "+version, map[string]any{"listener_manager.total_listeners_warming": want})
		}
		const inline = "route_config: {name: r, virtual_hosts: []}"
		lds("1", inline, 0)
		lds("2", "rds: {config_source: {ads: {}}, route_config_name: r}", 1)
		lds("3", inline, 0)
	})
}

// Vectors of the reference implementation.
func TestXXH64(t *testing.T) {
	for s, want := range map[string]uint64{
		"": 0xef46db3751d8e999, "a": 0xd24ec4f1a98c6e5b, "abc": 0x44bc2cf5ad770999,
		"Call me Ishmael. Some years ago--never mind how long precisely-": 0x02a2e85470d6fd96,
	} {
		if got := xxh64(s); got != want {
			t.Errorf("%q: %x, want %x", s, got, want)
		}
	}
}

package xdsconfig

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/route"
	"github.com/sluice-proxy/sluice/xdsclient"
)

// Endpoints that nobody wanted when their response was compiled, and somebody
// does when it is applied, are taken: the response is acknowledged, so they
// would not come again.
func TestWantedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, cdsOnly)
		endpoints := "- {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}\n" +
			"- {cluster_name: unwanted, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}}]}]}"
		w.m.endpointIntake.wanted.Store(&map[string]bool{})
		b := w.m.endpointIntake.take(w.response(xdsclient.EndpointType, "1", endpoints))
		if len(b.resources) != 0 {
			t.Fatal("unwanted endpoints were compiled")
		}
		w.command([]string{"cds", "1"}, "- {name: a, type: EDS, http2_protocol_options: {}, eds_cluster_config: {eds_config: {ads: {}}}}")
		w.m.endpointBatch(b)
		synctest.Wait()
		w.wantAddress("a", "10.0.0.1:80")
		if len(b.resources) != 1 {
			t.Errorf("%d resources are applied, want 1", len(b.resources))
		}
	})
}

// What comes when its last user has just gone is kept for the next one: it was
// acknowledged, so the control plane will not send it again. It may have been
// compiled before, or skipped as nobody wanted it any more.
func TestComesAfterTheLastUser(t *testing.T) {
	const (
		a         = "- {name: a, type: EDS, http2_protocol_options: {}, eds_cluster_config: {eds_config: {ads: {}}}}"
		endpoints = "- {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: ADDRESS, port_value: 80}}}}]}]}"
		listeners = `- name: l
  address: {socket_address: {address: 0.0.0.0, port_value: 80}}
  filter_chains:
  - filters:
    - name: hcm
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: s
        rds: {config_source: {ads: {}}, route_config_name: r}
        http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`
		routes = "- {name: r, virtual_hosts: [{name: v, domains: [\"*\"], routes: [{match: {prefix: /}, route: {cluster: CLUSTER, timeout: 0s}}]}]}"
	)
	for _, tt := range []struct {
		name            string
		known, compiled bool // a version came before; the news are compiled before the user goes
	}{{"compiled", true, true}, {"skipped", true, false}, {"the first version", false, true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.close()
				w.command([]string{"bootstrap"}, testBootstrap)
				step := func(body string, args ...string) { w.command(args, body) }
				step(a+"\n- {name: b, http2_protocol_options: {}, load_assignment: {cluster_name: b, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 80}}}}]}]}}", "cds", "1")
				if tt.known {
					step(strings.Replace(endpoints, "ADDRESS", "10.0.0.1", 1), "eds", "1")
				}
				step("", "wait", "20s") // the start goes on
				step(listeners, "lds", "1")
				if tt.known {
					step(strings.Replace(routes, "CLUSTER", "a", 1), "rds", "1")
				}
				var eds *batch[*cluster.Assignment]
				var rds *batch[*route.Table]
				take := func() {
					eds = w.m.endpointIntake.take(w.response(xdsclient.EndpointType, "2", strings.Replace(endpoints, "ADDRESS", "10.0.0.2", 1)))
					rds = w.m.routeIntake.take(w.response(xdsclient.RouteType, "2", strings.Replace(routes, "CLUSTER", "b", 1)))
				}
				if tt.compiled {
					take()
				}
				step("[]", "lds", "2")
				step("[]", "cds", "2")
				if !tt.compiled {
					take()
				}
				w.m.endpointBatch(eds)
				w.m.routeBatch(rds)
				synctest.Wait()
				step(a+"\n- {name: b, http2_protocol_options: {}, load_assignment: {cluster_name: b, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 80}}}}]}]}}", "cds", "3")
				step(listeners, "lds", "3")
				step("", "wait", "2s") // more than lapsedWait
				w.wantAddress("a", "10.0.0.2:80")
				w.take()
				step("", "call", "l", "x", "/s/m")
				if got := w.take(); got != "10.0.0.9:80\n" {
					t.Errorf("a call goes to %s, want 10.0.0.9:80", got)
				}
			})
		})
	}
}

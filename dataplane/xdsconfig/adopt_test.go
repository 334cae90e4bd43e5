package xdsconfig

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// A changed cluster keeps its hosts, and so their connections, as long as it
// does not say to connect in another way. What it no longer has is retired.
func TestChangedClusterKeepsHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, `
node: {id: node, cluster: edge}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 1s
    http2_protocol_options: {}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 18000}}}}]}]}
`)
		cds := func(version, more string) {
			w.command([]string{"cds", version}, "- {name: a, type: EDS, http2_protocol_options: {}, eds_cluster_config: {eds_config: {ads: {}}}"+more+"}")
		}
		cds("1", "")
		w.command([]string{"eds", "1"}, "- {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}")
		host := func() *cluster.Host {
			h, err := w.m.handles.get("a").Pick(newCall(testCall{}), 0)
			if err != nil {
				t.Fatal(err)
			}
			w.m.handles.get("a").Done(h, nil)
			return h.(*cluster.Host)
		}
		first := host()

		cds("2", ", lb_policy: LEAST_REQUEST, circuit_breakers: {thresholds: [{max_requests: 7}]}")
		if got := w.m.handles.get("a").Get(); got.Config().Policy.Kind != cluster.LeastRequest {
			t.Fatal("the cluster did not change")
		}
		if h := host(); h != first || h.Retired() {
			t.Errorf("host %p, retired %v; it was %p", h, h.Retired(), first)
		}

		cds("3", ", connect_timeout: 3s")
		if h := host(); h == first || !first.Retired() {
			t.Errorf("another connect_timeout: the old host goes on, retired %v", first.Retired())
		}
		if text := w.take(); strings.Contains(text, "NACK") {
			t.Error(text)
		}
	})
}

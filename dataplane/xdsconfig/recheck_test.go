package xdsconfig

import (
	"testing"
	"testing/synctest"

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

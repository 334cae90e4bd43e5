package xdsconfig

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// cluster.<name>.membership_* follow the endpoints and their health.
func TestMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, cdsOnly)
		r := telemetry.NewRegistry()
		w.m.clusterIntake.env.Registry = r
		w.m.addMembership(r)
		w.command([]string{"cds", "1"}, "- {name: a, alt_stat_name: alt, type: EDS, http2_protocol_options: {}, eds_cluster_config: {eds_config: {ads: {}}}}")
		w.command([]string{"eds", "1"}, `
- cluster_name: a
  endpoints:
  - lb_endpoints:
    - {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}
    - {endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}, health_status: DEGRADED}
    - {endpoint: {address: {socket_address: {address: 10.0.0.3, port_value: 80}}}, health_status: UNHEALTHY}
  - priority: 1
    lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.4, port_value: 80}}}}]
`)
		got := map[string]uint64{}
		for _, s := range r.Collect(nil) {
			if !strings.Contains(s.Name, "membership") {
				continue
			}
			if !s.Gauge {
				t.Errorf("%s is no gauge", s.Name)
			}
			got[s.Name] = s.Value
		}
		want := map[string]uint64{"cluster.alt.membership_total": 4, "cluster.alt.membership_healthy": 2,
			"cluster.alt.membership_degraded": 1, "cluster.alt.membership_excluded": 0}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

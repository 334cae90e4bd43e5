package xdsconfig

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

const cdsOnly = `
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
`

// addresses returns where calls of a cluster may go.
func (w *world) addresses(name string) (out []string) {
	cl := w.m.handles.get(name).Get()
	if cl == nil {
		return nil
	}
	for _, h := range cl.Hosts() {
		out = append(out, h.Address)
	}
	return out
}

func (w *world) wantAddress(name, address string) {
	w.t.Helper()
	if got := w.addresses(name); len(got) != 1 || got[0] != address {
		w.t.Errorf("cluster %s has hosts %v, want %s", name, got, address)
	}
}

// A changed cluster whose names do not resolve keeps the hosts it had, with
// their connections, until there is an answer.
func TestChangedDNSClusterKeepsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, cdsOnly)
		cds := func(version, name, more string) {
			w.command([]string{"cds", version}, "- {name: a, type: STRICT_DNS, http2_protocol_options: {}, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "+
				name+", port_value: 80}}}}]}]}"+more+"}")
		}
		w.command([]string{"dns", "one.test", "10.0.0.1"}, "")
		cds("1", "one.test", "")
		w.wantAddress("a", "10.0.0.1:80")
		h, err := w.m.handles.get("a").Pick(newCall(testCall{}), 0)
		if err != nil {
			t.Fatal(err)
		}
		w.m.handles.get("a").Done(h, nil)

		w.command([]string{"dns", "one.test"}, "") // fails from now on
		cds("2", "one.test", ", lb_policy: RANDOM")
		if got := w.m.handles.get("a").Get().Config().Policy.Kind; got != cluster.Random {
			t.Fatalf("policy %v: the new version does not serve", got)
		}
		w.wantAddress("a", "10.0.0.1:80")
		if h.Retired() {
			t.Error("the host is retired")
		}

		w.command([]string{"dns", "one.test", "10.0.0.2"}, "")
		w.command([]string{"wait", "1m"}, "")
		w.wantAddress("a", "10.0.0.2:80")
		if !h.Retired() {
			t.Error("the old host is not retired")
		}
	})
}

// The same for a cluster whose endpoints the control plane does not send in
// time, and one whose connection options changed.
func TestChangedEDSClusterKeepsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, cdsOnly)
		cds := func(version, service, more string) {
			w.command([]string{"cds", version}, "- {name: a, type: EDS, http2_protocol_options: {}, eds_cluster_config: {service_name: "+service+", eds_config: {ads: {}}}"+more+"}")
		}
		eds := func(version, service, address string) {
			w.command([]string{"eds", version}, "- {cluster_name: "+service+", endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "+address+", port_value: 80}}}}]}]}")
		}
		cds("1", "one", "")
		eds("1", "one", "10.0.0.1")
		cds("2", "two", ", connect_timeout: 3s")
		w.command([]string{"wait", "20s"}, "")
		if got := w.m.handles.get("a").Get().Config().Options.ConnectTimeout; got.Seconds() != 3 {
			t.Fatalf("connect_timeout %v: the new version does not serve", got)
		}
		w.wantAddress("a", "10.0.0.1:80")
		eds("2", "two", "10.0.0.2")
		w.wantAddress("a", "10.0.0.2:80")
	})
}

// A changed cluster whose names have no addresses, or which has no names, loses
// the hosts of its last version: nothing failed, there are none.
func TestChangedDNSClusterWithoutHosts(t *testing.T) {
	const one = "{name: a, type: STRICT_DNS, http2_protocol_options: {}, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: NAME, port_value: 80}}}}]}]}}"
	for name, next := range map[string]string{
		"no addresses": strings.Replace(one, "NAME", "two.test", 1),
		"no names":     "{name: a, type: STRICT_DNS, http2_protocol_options: {}, load_assignment: {cluster_name: a}}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.close()
				w.command([]string{"bootstrap"}, cdsOnly)
				w.command([]string{"dns", "one.test", "10.0.0.1"}, "")
				w.command([]string{"dns", "two.test", "-"}, "")
				w.command([]string{"cds", "1"}, "- "+strings.Replace(one, "NAME", "one.test", 1))
				w.wantAddress("a", "10.0.0.1:80")
				w.command([]string{"cds", "2"}, "- "+next)
				if got := w.addresses("a"); len(got) > 0 {
					t.Errorf("cluster a has hosts %v, want none", got)
				}
			})
		})
	}
}

package xdsconfig

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// A cluster with TLS that changes in something else keeps its hosts, its TLS
// context and the context's secrets, which go on being replaced. With another
// transport socket it is connected to anew.
func TestChangedTLSClusterKeepsHosts(t *testing.T) {
	one, two := tlstest.CA(t, "one"), tlstest.CA(t, "two")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, cdsOnly)
		cds := func(version, sni, more string) {
			w.command([]string{"cds", version}, fmt.Sprintf(`
- name: a
  type: STATIC
  http2_protocol_options: {}
  load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 443}}}}]}]}
  transport_socket:
    name: tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: %s
      common_tls_context:
        validation_context_sds_secret_config: {name: ca, sds_config: {ads: {}}}
%s`, sni, more))
		}
		sds := func(version string, ca *tlstest.Pair) {
			w.command([]string{"sds", version}, fmt.Sprintf("- {name: ca, validation_context: {trusted_ca: {inline_string: %q}}}", ca.Chain))
		}
		host := func() *cluster.Host {
			set := w.m.handles.get("a")
			h, err := set.Pick(newCall(testCall{}), 0)
			if err != nil {
				t.Fatal(err)
			}
			set.Done(h, nil)
			return h.(*cluster.Host)
		}
		cds("1", "a.test", "")
		sds("1", one)
		first := host()

		cds("2", "a.test", "  lb_policy: RANDOM")
		if got := w.m.handles.get("a").Get().Config().Policy.Kind; got != cluster.Random {
			t.Fatalf("policy %v: the new version does not serve", got)
		}
		if h := host(); h != first || h.Retired() {
			t.Errorf("host %p, retired %v; it was %p", h, h.Retired(), first)
		}
		before, err := first.Target().Options.TLS.Config("")
		if err != nil {
			t.Fatal(err)
		}
		sds("2", two)
		after, err := host().Target().Options.TLS.Config("")
		if err != nil {
			t.Fatal(err)
		}
		if after == before {
			t.Error("a new CA does not reach the context that was kept")
		}

		cds("3", "b.test", "  lb_policy: RANDOM")
		if h := host(); h == first || !first.Retired() {
			t.Errorf("another sni: the old host goes on, retired %v", first.Retired())
		}
	})
}

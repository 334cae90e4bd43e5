package xdsconfig

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// A listener that is removed and made again takes the certificate that it had
// if the control plane, which has sent it, says nothing; and the newer one if
// there is one. (testdata/join/lapsed.txt does the same for other types.)
func TestSecretComesBack(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	one, two := ca.Leaf(t, "one"), ca.Leaf(t, "two")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		step := func(body string, args ...string) string {
			w.command(args, body)
			return w.take()
		}
		secret := func(p *tlstest.Pair) string { return "- {name: cert, tls_certificate: " + certYAML(p) + "}" }
		text := listItem(tlsListener(`{tls_certificate_sds_secret_configs: [{name: cert, sds_config: {ads: {}, initial_fetch_timeout: 0s}}]}`))
		step(`node: {id: node, cluster: edge}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {ads: {}}
static_resources:
  clusters: [{name: xds, type: STATIC, http2_protocol_options: {}, load_assignment: {cluster_name: xds}}]
`, "bootstrap")
		step(text, "lds", "1")
		step(secret(one), "sds", "1")
		step("", "lds", "2")
		if got := step("", "status"); strings.Contains(got, "cert") || len(w.m.Dump().Secrets.GetDynamicActiveSecrets()) != 0 {
			t.Errorf("a secret without users is shown:\n%s", got)
		}

		step(text, "lds", "3")
		if got := step("", "status"); !strings.Contains(got, `warming: secrets "cert"`) {
			t.Errorf("no wait for news:\n%s", got)
		}
		step("", "wait", "1s")
		l := w.served["l"]
		if l == nil {
			t.Fatal("the listener does not serve")
		}
		if got := shown(l); got != "one" {
			t.Errorf("certificate %q, want one", got)
		}

		step("", "lds", "4")
		step(text, "lds", "5")
		step(secret(two), "sds", "2")
		if l = w.served["l"]; l == nil {
			t.Fatal("the listener does not serve when the news have come")
		}
		if got := shown(l); got != "two" {
			t.Errorf("certificate %q, want two", got)
		}

		step("", "lds", "6")
		step(text, "lds", "7")
		step(secret(two), "sds", "3") // sent again, the same
		if w.served["l"] == nil {
			t.Error("the listener does not serve when what it had was sent again")
		}

		step("", "lds", "8")
		step(text, "lds", "9")
		step("", "wait", "600ms")
		step(strings.Replace(text, "initial_fetch_timeout: 0s", "initial_fetch_timeout: 9s", 1), "lds", "10")
		step("", "wait", "400ms")
		if w.served["l"] == nil {
			t.Error("the wait began anew when the listener changed")
		}
	})
}

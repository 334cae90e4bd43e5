package xdsconfig

import (
	"fmt"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/route"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// TestRuntimeFraction: each case is the static layers of a bootstrap and what
// the key routing.frac is read as; empty: the default holds.
func TestRuntimeFraction(t *testing.T) {
	for layers, want := range map[string]string{
		`{routing.frac: {numerator: 0}}`:                                           "0/100",
		`{routing: {frac: {numerator: 25, denominator: TEN_THOUSAND}}}`:            "25/10000",
		`{routing.frac: {numerator: 7, denominator: 2}}`:                           "",
		`{routing.frac: {numerator: 7, more: 2}}`:                                  "",
		`{routing.frac: {}}`:                                                       "0/100",
		`{routing.frac: {numerator: -1}}`:                                          "4294967295/100",
		`{routing.frac: "{\"numerator\": 7}"}`:                                     "",
		`{routing.frac: " 30.9 "}`:                                                 "30/100",
		`{routing.frac: 1e30}`:                                                     "",
		`{routing.frac: "1e30"}`:                                                   "",
		`{routing.frac: -0.5}`:                                                     "",
		`{routing.frac: "NaN"}`:                                                    "",
		`{routing.frac: {denominator: MILLION}}`:                                   "0/1000000",
		`{routing.frac: {numerator: 7, denominator: DOZEN}}`:                       "",
		`{routing.frac: 30}`:                                                       "30/100",
		`{routing.frac: "30"}`:                                                     "30/100",
		`{routing.frac: 300}`:                                                      "100/100",
		`{routing.frac: 0.5}`:                                                      "0/100",
		`{routing.frac: true}`:                                                     "",
		`{other: 1}`:                                                               "",
		`{routing.frac: 30}}, {name: b, static_layer: {routing: {frac: 40}}`:       "40/100",
		`{routing.frac: 30}}, {name: b, static_layer: {x: 1}`:                      "30/100",
		`{routing.frac: 30}}, {name: b, static_layer: {routing.frac: "no number"}`: "",
	} {
		bs, err := bootstrap.Parse([]byte("layered_runtime: {layers: [{name: a, static_layer: "+layers+"}]}"), bootstrap.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if num, den, ok := NewRuntime(bs.GetLayeredRuntime()).Fraction("routing.frac"); ok {
			got = fmt.Sprintf("%d/%d", num, den)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", layers, got, want)
		}
	}
}

// TestStaticRuntimeRoutes: a static layer decides which of two routes a call
// takes.
func TestStaticRuntimeRoutes(t *testing.T) {
	for value, want := range map[string]string{"{numerator: 0}": "b", "{numerator: 100}": "a", "0": "b", "100": "a"} {
		w := newWorld(t)
		attach(t, w, testBootstrap+`
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    filter_chains: [{filters: [{name: hcm, typed_config: {
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s,
      route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [
        {name: a, match: {prefix: /, runtime_fraction: {default_value: {numerator: 50}, runtime_key: routing.frac}}, direct_response: {status: 200}},
        {name: b, match: {prefix: /}, direct_response: {status: 200}}]}]},
      http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]
layered_runtime: {layers: [{name: s, static_layer: {routing: {frac: `+value+`}}}]}
`, func(m *Manager) { w.m = m })
		var table *route.Table
		w.m.do(func() {
			table = w.m.listeners["l"].warming.res.value.Chains.Chains()[0].Manager.Director.(*route.Table)
		})
		d, err := table.Direct(newCall(testCall{Path: "/x", Host: "h"}))
		if err != nil || d.Route == nil || d.Route.Name != want {
			t.Errorf("%s: route %+v (%v), want %s", value, d.Route, err, want)
		}
	}
}

package xdsconfig

import (
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// What a cluster refuses is counted for it, also behind a route that has its own
// cluster_not_found_response_code, as all routes of some control planes.
func TestRefusalsHaveScope(t *testing.T) {
	h := cluster.NewHandle("c")
	h.Set(cluster.New(cluster.Config{Name: "c", Scope: call.Scope{Index: 7}}))
	for _, code := range []string{"SERVICE_UNAVAILABLE", "INTERNAL_SERVER_ERROR"} {
		rc := new(routev3.RouteConfiguration)
		text := `{name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: c, cluster_not_found_response_code: ` + code + `}}]}]}`
		if err := bootstrap.Unmarshal([]byte(text), rc, bootstrap.Options{}); err != nil {
			t.Fatal(err)
		}
		tbl, err := CompileRoutes(rc, &Env{Cluster: func(string) call.BackendSet { return h }})
		if err != nil {
			t.Fatal(err)
		}
		dec, err := tbl.Direct(newCall(testCall{Path: "/a"}))
		if err != nil {
			t.Fatal(err)
		}
		set, ok := dec.Backends.(interface{ Scope() call.Scope })
		if !ok || set.Scope().Index != 7 {
			t.Errorf("%s: %T counts elsewhere than its cluster", code, dec.Backends)
		}
	}
}

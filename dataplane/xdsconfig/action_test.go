package xdsconfig

import (
	"errors"
	"sync"
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

// %UPSTREAM_CLUSTER% says which cluster a header has named; and what a route
// does to responses, it does to the answer that there is no such cluster.
func TestClusterHeaderNames(t *testing.T) {
	rc := new(routev3.RouteConfiguration)
	text := `{name: r, response_headers_to_add: [{header: {key: x-all, value: "<%UPSTREAM_CLUSTER%>"}}], virtual_hosts: [{name: v, domains: ["*"], routes: [
		{match: {prefix: /h}, name: by-header, route: {cluster_header: x-to},
			request_headers_to_remove: [x-to], request_headers_to_add: [{header: {key: x-name, value: "%UPSTREAM_CLUSTER% %ROUTE_NAME%"}}]},
		{match: {prefix: /b}, route: {append_x_forwarded_host: true, host_rewrite_header: x-no, weighted_clusters: {clusters: [{weight: 1, cluster_header: x-to, host_rewrite_literal: h}]}}},
		{match: {prefix: /w}, route: {append_x_forwarded_host: true, weighted_clusters: {clusters: [{weight: 1, cluster_header: x-to, host_rewrite_literal: h,
			request_headers_to_add: [{header: {key: x-name, value: "%UPSTREAM_CLUSTER% weighted"}}]}]}}}]}]}`
	if err := bootstrap.Unmarshal([]byte(text), rc, bootstrap.Options{}); err != nil {
		t.Fatal(err)
	}
	tbl, err := CompileRoutes(rc, &Env{FindCluster: func(name string) (call.BackendSet, bool) {
		return cluster.NewHandle(name), name == "a" || name == "b"
	}})
	if err != nil {
		t.Fatal(err)
	}
	value := func(ops []call.HeaderOp) string {
		op := ops[len(ops)-1]
		if op.Value != nil {
			return op.Value(nil, nil)
		}
		return op.Field.Value
	}
	direct := func(path, name string) (request, response, cluster string, err error) {
		dec, err := tbl.Direct(newCall(testCall{Path: path, Headers: map[string]string{"x-to": name}}))
		if dec.Route == nil {
			t.Fatalf("%s to %s: no route", path, name)
		}
		return value(dec.Route.RequestOps), value(dec.Route.ResponseOps), dec.Route.Cluster, err
	}
	var wg sync.WaitGroup
	for range 4 { // workers
		wg.Go(func() {
			for _, name := range []string{"a", "b", "a"} {
				for path, suffix := range map[string]string{"/h": " by-header", "/w": " weighted"} {
					request, response, cluster, err := direct(path, name)
					if err != nil || request != name+suffix || response != "<"+name+">" || cluster != name {
						t.Errorf("%s to %s: got %q, %q, %q, %v", path, name, request, response, cluster, err)
					}
				}
			}
		})
	}
	wg.Wait()
	dec, err := tbl.Direct(newCall(testCall{Path: "/w", Headers: map[string]string{"x-to": "a"}}))
	if rw := dec.Route.Rewrite; err != nil || !rw.Silent || rw.AppendHost {
		t.Errorf("the weighted cluster's rewrite tells of itself: %+v, %v", rw, err)
	}
	dec, err = tbl.Direct(newCall(testCall{Path: "/b", Headers: map[string]string{"x-to": "a"}}))
	if rw := dec.Route.Rewrite; err != nil || rw.Base != "h" || rw.Silent || !rw.AppendHost {
		t.Errorf("the route's rewrite comes after the weighted cluster's: %+v, %v", rw, err)
	}
	_, response, _, err := direct("/h", "c")
	var reply *call.Reply
	if !errors.As(err, &reply) || reply.Flag != call.NoCluster || response != "<>" {
		t.Errorf("to an unknown cluster: got %q, %v", response, err)
	}
}

package xdsconfig

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// TestUnknownFields: fields that this build's protobufs do not know are
// ignored, or refused with their place if that is asked for.
func TestUnknownFields(t *testing.T) {
	text, err := bootstrap.Parse([]byte(testBootstrap), bootstrap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := proto.CloneOf(text.StaticResources.Clusters[0])
	address := c.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address
	address.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 5000, protowire.VarintType), 1))
	if _, err := CompileCluster(c, &Env{}); err != nil {
		t.Errorf("ignored by default: %v", err)
	}
	_, err = CompileCluster(c, &Env{RefuseUnknownFields: true})
	want := `Cluster "xds": load_assignment.endpoints[0].lb_endpoints[0].endpoint.address: envoy.config.core.v3.Address has unknown fields`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestCheck: what Attach would refuse, and nothing of what it takes.
func TestCheck(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"good":            {"", "", ""},
		"cluster":         {"http2_protocol_options: {}", "lb_policy: MAGLEV", `Cluster "xds": lb_policy: MAGLEV: not supported by this version`},
		"ads":             {"cluster_name: xds}}]", "cluster_name: other}}]", `cluster "other" is not among static_resources.clusters`},
		"google_grpc":     {"envoy_grpc: {cluster_name: xds}", "google_grpc: {target_uri: x, stat_prefix: s}", "google_grpc: not supported by this version"},
		"no node.cluster": {"node: {id: node, cluster: edge}", "node: {id: node}", "node.id and node.cluster are required"},
		"two clusters":    {"clusters:\n", "clusters:\n  - {name: xds, load_assignment: {cluster_name: xds}}\n", `Cluster "xds": there are two of this name`},
		"two listeners":   {"static_resources:\n", "static_resources:\n  listeners: [" + inlineListener("", "xds") + ", " + inlineListener("", "xds") + "]\n", `Listener "l": there are two of this name`},
		"ads over ads":    {"http2_protocol_options: {}", "http2_protocol_options: {}\n    type: EDS\n    eds_cluster_config: {eds_config: {ads: {}}}", `cluster "xds" is an EDS cluster`},
		"known cluster":   {"static_resources:\n", "static_resources:\n  listeners: [" + inlineListener("", "xds") + "]\n", ""},
		"unknown cluster": {
			"static_resources:\n", "static_resources:\n  listeners: [" + inlineListener("", "zz") + "]\n",
			`Listener "l": filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.cluster: unknown cluster "zz"`,
		},
		"clusters not validated": {"static_resources:\n", "static_resources:\n  listeners: [" + inlineListener("validate_clusters: false, ", "zz") + "]\n", ""},
		"path":                   {"cds_config: {ads: {}}", "cds_config: {path: /x}", `Bootstrap "node": dynamic_resources.cds_config.path: not supported by this version`},
	} {
		bs, err := bootstrap.Parse([]byte(strings.Replace(testBootstrap, test.old, test.new, 1)), bootstrap.Options{})
		if err != nil {
			t.Fatal(err)
		}
		switch err := Check(bs, false, nil); {
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// inlineListener is a listener in flow YAML whose only route leads to cluster.
func inlineListener(option, cluster string) string {
	return `{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [{name: hcm, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, stream_idle_timeout: 0s,
    route_config: {` + option + `virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: ` + cluster + `, timeout: 0s}}]}]},
    http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}`
}

// TestCheckWarns: what of a bootstrap this version does not do is told by name.
func TestCheckWarns(t *testing.T) {
	bs, err := bootstrap.Parse([]byte(testBootstrap+`
stats_sinks: [{name: x}]
overload_manager: {}
hds_config: {}
cluster_manager: {load_stats_config: {api_type: GRPC}}
layered_runtime: {layers: [{name: s, static_layer: {a: 1}}, {name: r, rtds_layer: {name: x}}, {name: a, admin_layer: {}}, {name: d, disk_layer: {symlink_root: /x}}]}
`), bootstrap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := Check(bs, false, func(w Warning) { got = append(got, w.Path+": "+w.Reason) }); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"cluster_manager.load_stats_config: ignored by this version",
		"hds_config: ignored by this version",
		"stats_sinks: ignored by this version",
		"overload_manager: ignored by this version",
		"layered_runtime.layers[1].rtds_layer: ignored by this version",
		"layered_runtime.layers[2].admin_layer: ignored by this version",
		"layered_runtime.layers[3].disk_layer: ignored by this version",
	}
	less := func(a, b string) bool { return a < b }
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(less)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestManyErrors: a NACK stays readable, and says how much is left out.
func TestManyErrors(t *testing.T) {
	m := manyRoutes(100)
	for _, rt := range m.VirtualHosts[0].Routes {
		rt.ResponseHeadersToRemove = []string{":status"}
	}
	_, err := CompileRoutes(m, &Env{})
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxErrors+1 || lines[maxErrors] != `RouteConfiguration "r": 68 more errors` {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
	var warnings []Warning
	for _, c := range m.VirtualHosts[0].Routes {
		c.ResponseHeadersToRemove = nil
		c.GetRoute().Timeout = nil
	}
	if _, err := CompileRoutes(m, &Env{Warn: func(w Warning) { warnings = append(warnings, w) }}); err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.HasSuffix(warnings[0].Reason, "(and in 99 more places)") {
		t.Errorf("warnings: %v", warnings)
	}
	if _, err := CompileCluster(&clusterv3.Cluster{}, &Env{}); err == nil || err.Error() != `Cluster "": name: value length must be at least 1 runes` {
		t.Errorf("a cluster without a name: %v", err)
	}
}

// TestGoodResourcesWarn: warnings are told of what compiles, too. (Said here
// and not only in golden files, which can be rewritten without being read.)
func TestGoodResourcesWarn(t *testing.T) {
	var got []string
	env := &Env{Warn: func(w Warning) { got = append(got, w.String()) }}
	if _, err := CompileCluster(&clusterv3.Cluster{Name: "c", HealthChecks: []*corev3.HealthCheck{{
		Timeout: durationpb.New(1e9), Interval: durationpb.New(1e9), HealthyThreshold: wrapperspb.UInt32(1), UnhealthyThreshold: wrapperspb.UInt32(1),
		HealthChecker: &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
	}}}, env); err != nil {
		t.Fatal(err)
	}
	if _, err := CompileListener(snapshot(t, 1, 0)[resourcev3.ListenerType][0].(*listenerv3.Listener), env); err != nil {
		t.Fatal(err)
	}
	if _, err := CompileEndpoints(&endpointv3.ClusterLoadAssignment{ClusterName: "e", Policy: &endpointv3.ClusterLoadAssignment_Policy{
		EndpointStaleAfter: durationpb.New(1e9),
	}}, env); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`Cluster "c": health_checks: ignored by this version`,
		`Cluster "c": no HTTP/2 options: calls go by HTTP/2 all the same, as gRPC needs it`,
		`Listener "l": filter_chains[0].filters[0].typed_config.stream_idle_timeout: not set: Envoy's default ends a stream on which nothing was sent for 5m0s; 0s disables it`,
		`ClusterLoadAssignment "e": policy.endpoint_stale_after: ignored by this version`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Filter chains of one name are taken, as by Envoy, and a prefix length beyond
// the address's.
func TestChainsLikeEnvoy(t *testing.T) {
	hcm := `filters: [{name: hcm, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
		stat_prefix: s, route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]},
		http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]`
	m := new(listenerv3.Listener)
	text := `{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [
		{name: both, filter_chain_match: {prefix_ranges: [{address_prefix: 10.0.0.1, prefix_len: 99}]}, ` + hcm + `},
		{name: both, filter_chain_match: {prefix_ranges: [{address_prefix: "fd00::", prefix_len: 128}]}, ` + hcm + `}]}`
	if err := bootstrap.Unmarshal([]byte(text), m, bootstrap.Options{}); err != nil {
		t.Fatal(err)
	}
	l, err := CompileListener(m, &Env{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(l.Chains.Chains()); n != 2 {
		t.Errorf("%d chains", n)
	}
}

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
		"good":        {"", "", ""},
		"cluster":     {"http2_protocol_options: {}", "lb_policy: MAGLEV", `Cluster "xds": lb_policy: MAGLEV: not supported by this version`},
		"ads":         {"cluster_name: xds}}]", "cluster_name: other}}]", `cluster "other" is not among static_resources.clusters`},
		"google_grpc": {"envoy_grpc: {cluster_name: xds}", "google_grpc: {target_uri: x, stat_prefix: s}", "google_grpc: not supported by this version"},
		"path":        {"cds_config: {ads: {}}", "cds_config: {path: /x}", `Bootstrap "node": dynamic_resources.cds_config.path: not supported by this version`},
	} {
		bs, err := bootstrap.Parse([]byte(strings.Replace(testBootstrap, test.old, test.new, 1)), bootstrap.Options{})
		if err != nil {
			t.Fatal(err)
		}
		switch err := Check(bs, false); {
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
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

package xdsconfig

import (
	"fmt"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/xdsclient"
)

// manyRoutes returns a RouteConfiguration of n gRPC methods, each split over
// two clusters, with a response header.
func manyRoutes(n int) *routev3.RouteConfiguration {
	vh := &routev3.VirtualHost{Name: "v", Domains: []string{"*"}}
	for i := range n {
		weight := func(name string, w uint32) *routev3.WeightedCluster_ClusterWeight {
			return &routev3.WeightedCluster_ClusterWeight{Name: name, Weight: wrapperspb.UInt32(w)}
		}
		vh.Routes = append(vh.Routes, &routev3.Route{
			Name:  fmt.Sprintf("route-%d", i),
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: fmt.Sprintf("/acme.v1.Service%d/Method", i)}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				Timeout: durationpb.New(0),
				ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{
					Clusters: []*routev3.WeightedCluster_ClusterWeight{weight(fmt.Sprintf("a%d", i%100), 80), weight(fmt.Sprintf("b%d", i%100), 20)},
				}},
			}},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-rev", Value: "7"}}},
		})
	}
	return &routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{vh}}
}

// BenchmarkRoutes is the cost of a route update per route, from bytes to
// table.
func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		value, err := proto.Marshal(manyRoutes(n))
		if err != nil {
			b.Fatal(err)
		}
		perRoute := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/route")
		}
		newRoutes := func() *routev3.RouteConfiguration { return new(routev3.RouteConfiguration) }
		b.Run(fmt.Sprintf("changed/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in := newIntake(&Env{}, newRoutes, (*routev3.RouteConfiguration).GetName, CompileRoutes, nil)
				in.take(&xdsclient.Response{Resources: []*anypb.Any{{Value: value}}})
			}
			perRoute(b)
		})
		b.Run(fmt.Sprintf("unchanged/%d", n), func(b *testing.B) {
			in := newIntake(&Env{}, newRoutes, (*routev3.RouteConfiguration).GetName, CompileRoutes, nil)
			r := &xdsclient.Response{Resources: []*anypb.Any{{Value: value}}}
			in.take(r)
			b.ReportAllocs()
			for b.Loop() {
				in.take(r)
			}
			perRoute(b)
		})
	}
}

package controlplane

import (
	"cmp"
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// ref is a resource that another one names.
type ref struct{ url, name string }

// references returns what m refers to that comes by xDS, each once, sorted.
func references(m proto.Message) []ref {
	out := refs{}
	out.message(m.ProtoReflect())
	return slices.SortedFunc(maps.Keys(out), func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.url, b.url), cmp.Compare(a.name, b.name))
	})
}

type refs map[ref]bool

func (rs refs) add(url, name string) {
	if name != "" {
		rs[ref{url, name}] = true
	}
}

// message collects what m and the messages in it refer to, those in Anys among
// them.
func (rs refs) message(m protoreflect.Message) {
	switch x := m.Interface().(type) {
	case *anypb.Any:
		if inner, err := x.UnmarshalNew(); err == nil {
			rs.message(inner.ProtoReflect())
		}
		return
	case *routev3.RouteConfiguration:
		rs.routes(x)
		return
	case *clusterv3.Cluster:
		if x.GetType() == clusterv3.Cluster_EDS {
			rs.add(resourcev3.EndpointType, cmp.Or(x.GetEdsClusterConfig().GetServiceName(), x.GetName()))
		}
	case *hcmv3.Rds:
		rs.add(resourcev3.RouteType, x.GetRouteConfigName())
	case *tlsv3.SdsSecretConfig:
		switch x.GetSdsConfig().GetConfigSourceSpecifier().(type) {
		case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
			rs.add(resourcev3.SecretType, x.GetName())
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					rs.message(v.Message())
					return true
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				rs.message(v.List().Get(i).Message())
			}
		default:
			rs.message(v.Message())
		}
		return true
	})
}

// routes collects the clusters of a route table, which may be large: without
// reflection.
func (rs refs) routes(rc *routev3.RouteConfiguration) {
	for _, vh := range rc.GetVirtualHosts() {
		for _, rt := range vh.GetRoutes() {
			rs.add(resourcev3.ClusterType, rt.GetRoute().GetCluster())
			for _, w := range rt.GetRoute().GetWeightedClusters().GetClusters() {
				rs.add(resourcev3.ClusterType, w.GetName())
			}
		}
	}
}

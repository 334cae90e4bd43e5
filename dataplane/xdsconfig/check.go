package xdsconfig

import (
	"errors"
	"fmt"
	"os"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// Check compiles what the bootstrap has and returns all that Attach would find
// wrong with it, but for addresses that cannot be bound. It starts nothing
// (--mode validate). warn takes what Attach would warn of; nil: nobody.
func Check(bs *bootstrapv3.Bootstrap, allowUnknownFields bool, warn func(Warning)) error {
	_, sourceErr := dynamicSources(bs, warn)
	src, adsErr := bootstrap.ADS(bs)
	if adsErr == nil {
		adsErr = usable(bs, src)
	}
	_, _, err := compileStatic(bs, &Env{RefuseUnknownFields: !allowUnknownFields, ReadFile: os.ReadFile, Warn: warn,
		Secret: func(name string) *tlsv3.Secret { return bootstrap.Secret(bs, name) }})
	return errors.Join(sourceErr, adsErr, err)
}

// usable says what of a source this version cannot do; nil is no source.
func usable(bs *bootstrapv3.Bootstrap, src *bootstrap.Source) error {
	switch n := bs.GetNode(); {
	case src == nil:
		return nil
	case src.Cluster == "":
		return errors.New("dynamic_resources.ads_config: google_grpc: not supported by this version")
	case bootstrap.Cluster(bs, src.Cluster).GetType() == clusterv3.Cluster_EDS:
		return fmt.Errorf("dynamic_resources.ads_config: cluster %q is an EDS cluster: its endpoints would have to come over the stream that it is for", src.Cluster)
	case n.GetId() == "" || n.GetCluster() == "": // as Envoy
		return errors.New("dynamic_resources.ads_config: node.id and node.cluster are required: set them there, or by --service-node and --service-cluster")
	}
	return nil
}

// knownClusters refuses inline routes to clusters that are not among the
// bootstrap's: validate_clusters is true by default for route tables that are
// not loaded by RDS.
func knownClusters(m *listenerv3.Listener, known map[string]bool) error {
	r := &report{kind: "Listener", name: m.GetName(), env: &Env{}}
	chain := func(a *at, fc *listenerv3.FilterChain) {
		for i, f := range fc.GetFilters() {
			var h hcmv3.HttpConnectionManager
			if typeName(f.GetTypedConfig()) == typeHCM && f.GetTypedConfig().UnmarshalTo(&h) == nil {
				a.item("filters", i).field("typed_config").field("route_config").knownClusters(h.GetRouteConfig(), known)
			}
		}
	}
	for i, fc := range m.GetFilterChains() {
		chain(r.root().item("filter_chains", i), fc)
	}
	chain(r.root().field("default_filter_chain"), m.GetDefaultFilterChain())
	return r.done()
}

func (a *at) knownClusters(m *routev3.RouteConfiguration, known map[string]bool) {
	if v := m.GetValidateClusters(); v != nil && !v.GetValue() {
		return
	}
	for i, vh := range m.GetVirtualHosts() {
		for k, rt := range vh.GetRoutes() {
			here := a.item("virtual_hosts", i).item("routes", k).field("route")
			if name := rt.GetRoute().GetCluster(); name != "" && !known[name] {
				here.field("cluster").errorf("unknown cluster %q", name)
			}
			for n, w := range rt.GetRoute().GetWeightedClusters().GetClusters() {
				if name := w.GetName(); name != "" && !known[name] {
					here.field("weighted_clusters").item("clusters", n).field("name").errorf("unknown cluster %q", name)
				}
			}
		}
	}
}

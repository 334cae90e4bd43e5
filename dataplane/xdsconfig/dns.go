package xdsconfig

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"

	"github.com/sluice-proxy/sluice/dataplane/cluster/discovery"
)

// clusterType compiles cluster extensions.
func (a *at) clusterType(m *clusterv3.Cluster, t *clusterv3.Cluster_CustomClusterType, cl *Cluster) {
	here := a.field("cluster_type").field("typed_config")
	if name := typeName(t.GetTypedConfig()); name != "envoy.extensions.clusters.dns.v3.DnsCluster" {
		a.field("cluster_type").errorf("%q of type %q: no such cluster type in this version", t.GetName(), name)
		return
	}
	c, ok := unpackAs[*dnsv3.DnsCluster](here, t.GetTypedConfig())
	if !ok {
		return
	}
	a.dns(m, cl, c.GetAllAddressesInSingleEndpoint(), discovery.Config{
		Family:         families[c.GetDnsLookupFamily()],
		RefreshRate:    c.GetDnsRefreshRate().AsDuration(),
		MinRefreshRate: c.GetDnsMinRefreshRate().AsDuration(),
		FailureBase:    c.GetDnsFailureRefreshRate().GetBaseInterval().AsDuration(),
		FailureMax:     c.GetDnsFailureRefreshRate().GetMaxInterval().AsDuration(),
		RespectTTL:     c.GetRespectDnsTtl(),
		Jitter:         c.GetDnsJitter().AsDuration(),
	})
}

var families = map[commondnsv3.DnsLookupFamily]discovery.Family{
	commondnsv3.DnsLookupFamily_V4_ONLY:      discovery.V4Only,
	commondnsv3.DnsLookupFamily_V6_ONLY:      discovery.V6Only,
	commondnsv3.DnsLookupFamily_V4_PREFERRED: discovery.V4Preferred,
	commondnsv3.DnsLookupFamily_ALL:          discovery.All,
}

var legacyFamilies = map[clusterv3.Cluster_DnsLookupFamily]discovery.Family{
	clusterv3.Cluster_V4_ONLY:      discovery.V4Only,
	clusterv3.Cluster_V6_ONLY:      discovery.V6Only,
	clusterv3.Cluster_V4_PREFERRED: discovery.V4Preferred,
	clusterv3.Cluster_ALL:          discovery.All,
}

// dnsOptions compiles the dns_* fields of a Cluster.
func dnsOptions(m *clusterv3.Cluster) discovery.Config {
	return discovery.Config{
		Family:      legacyFamilies[m.GetDnsLookupFamily()],
		RefreshRate: m.GetDnsRefreshRate().AsDuration(),
		FailureBase: m.GetDnsFailureRefreshRate().GetBaseInterval().AsDuration(),
		FailureMax:  m.GetDnsFailureRefreshRate().GetMaxInterval().AsDuration(),
		RespectTTL:  m.GetRespectDnsTtl(),
		Jitter:      m.GetDnsJitter().AsDuration(),
	}
}

// dnsWarmTimeout is how long a cluster warms for its names.
const dnsWarmTimeout = 15 * time.Second

func (a *at) dns(m *clusterv3.Cluster, cl *Cluster, logical bool, c discovery.Config) {
	c.Cluster, c.Logical = m.GetName(), logical
	c.Assignment = a.field("load_assignment").assignment(m.GetLoadAssignment(), true)
	if e := m.GetLoadAssignment().GetEndpoints(); logical && !a.field("load_assignment").bad() && (len(e) != 1 || len(c.Assignment.Localities[0].Endpoints) != 1) {
		a.field("load_assignment").errorf("LOGICAL_DNS clusters have exactly one locality with one endpoint")
	}
	cl.DNS = &c
}

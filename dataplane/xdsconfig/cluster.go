package xdsconfig

import (
	"maps"
	"math"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/cluster/discovery"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// Cluster is a compiled cluster and where its endpoints come from: exactly one
// of Endpoints, DNS and EDS is set.
type Cluster struct {
	Config    cluster.Config
	Endpoints *cluster.Assignment // STATIC
	DNS       *discovery.Config   // STRICT_DNS, LOGICAL_DNS
	EDS       *EndpointSource     // EDS
	Secrets   Secrets             // of its TLS context

	statName string      // alt_stat_name, or the name
	tlsPrint fingerprint // of transport_socket; what of it is compiled depends on nothing else
}

// EndpointSource is an EDS subscription of a cluster.
type EndpointSource struct {
	Name string
	// FetchTimeout is how long the cluster warms for it; 0: for ever.
	FetchTimeout time.Duration

	service string // service_name as configured
}

// defaultConnectTimeout is Envoy's Cluster.connect_timeout.
const defaultConnectTimeout = 5 * time.Second

// defaultHostConnections is the core's own limit per worker and host; a lower
// max_connections holds instead of it. All of a cluster's connections are
// bounded by its call.Limits.
const defaultHostConnections = 4

// CompileCluster compiles a Cluster.
func CompileCluster(m *clusterv3.Cluster, env *Env) (*Cluster, error) {
	r := &report{kind: "Cluster", name: m.GetName(), env: env}
	a := r.root()
	a.check(m)
	stat := m.GetAltStatName()
	if stat == "" {
		stat = m.GetName()
	}
	cl := &Cluster{statName: stat, Config: cluster.Config{
		Name:     m.GetName(),
		Options:  a.upstreamOptions(m),
		Breakers: a.field("circuit_breakers").breakers(m.GetCircuitBreakers()),
	}}
	if c := a.clientTLS(m.GetTransportSocket(), &cl.Secrets); c != nil {
		cl.Config.Options.TLS = c
		cl.tlsPrint = fingerprintOf(m.GetTransportSocket())
	}
	a.balancing(m, &cl.Config)
	a.discoveryType(m, cl)
	if r.failed() {
		return nil, r.done()
	}
	// A cluster that is refused leaves no stats behind.
	cl.Config.Scope = env.scope(telemetry.KindCluster, stat)
	cl.Config.Options.Cluster = cl.Config.Scope
	return cl, r.done()
}

// discoveryType compiles where the endpoints come from.
func (a *at) discoveryType(m *clusterv3.Cluster, cl *Cluster) {
	switch t := m.GetClusterDiscoveryType().(type) {
	case *clusterv3.Cluster_ClusterType:
		a.clusterType(m, t.ClusterType, cl)
		return
	case *clusterv3.Cluster_Type:
		switch t.Type {
		case clusterv3.Cluster_EDS:
			a.eds(m, cl)
			return
		case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
			a.dns(m, cl, t.Type == clusterv3.Cluster_LOGICAL_DNS, dnsOptions(m))
			return
		case clusterv3.Cluster_ORIGINAL_DST:
			a.field("type").errorf("ORIGINAL_DST: not supported by this version")
			return
		}
	}
	if m.GetEdsClusterConfig() != nil {
		a.field("eds_cluster_config").errorf("is for clusters of type EDS")
	}
	cl.Endpoints = a.field("load_assignment").assignment(m.GetLoadAssignment(), false)
}

func (a *at) eds(m *clusterv3.Cluster, cl *Cluster) {
	c := m.GetEdsClusterConfig()
	here := a.field("eds_cluster_config")
	if c == nil {
		here.errorf("value is required")
		return
	}
	here.field("eds_config").overADS(c.GetEdsConfig())
	if m.GetLoadAssignment() != nil {
		a.field("load_assignment").warnf("an EDS cluster takes no endpoints from here")
	}
	name := c.GetServiceName()
	if name == "" {
		name = m.GetName()
	}
	cl.EDS = &EndpointSource{Name: name, FetchTimeout: fetchTimeout(c.GetEdsConfig()), service: c.GetServiceName()}
}

func (a *at) upstreamOptions(m *clusterv3.Cluster) *call.UpstreamOptions {
	o := &call.UpstreamOptions{ConnectTimeout: defaultConnectTimeout}
	if d := m.GetConnectTimeout(); d != nil {
		o.ConnectTimeout = d.AsDuration()
	}
	common, http2 := m.GetCommonHttpProtocolOptions(), m.GetHttp2ProtocolOptions()
	commonAt := a.field("common_http_protocol_options")
	typed := http2 != nil
	options := m.GetTypedExtensionProtocolOptions()
	for _, name := range slices.Sorted(maps.Keys(options)) {
		here := a.field("typed_extension_protocol_options[" + name + "]")
		if p, ok := unpackAs[*upstreamsv3.HttpProtocolOptions](here, options[name]); ok {
			typed = true
			common, http2 = p.GetCommonHttpProtocolOptions(), here.upstreamProtocol(p)
			commonAt = here.field("common_http_protocol_options")
		}
	}
	if !typed {
		a.warnf("no HTTP/2 options: calls go by HTTP/2 all the same, as gRPC needs it")
	}
	// These two are a connection manager's only.
	if common.GetMaxStreamDuration() != nil {
		commonAt.field("max_stream_duration").warnf("of a cluster: ignored by this version")
	}
	if common.GetHeadersWithUnderscoresAction() != corev3.HttpProtocolOptions_ALLOW {
		commonAt.field("headers_with_underscores_action").warnf("of a cluster: ignored by this version")
	}
	o.IdleTimeout = orNone(common.GetIdleTimeout())
	o.MaxAge = common.GetMaxConnectionDuration().AsDuration()
	o.MaxAgeJitter = common.GetMaxConnectionDurationJitter().GetValue()
	o.MaxRequests = m.GetMaxRequestsPerConnection().GetValue()
	if v := common.GetMaxRequestsPerConnection(); v != nil {
		o.MaxRequests = v.GetValue()
	}
	o.HTTP2 = http2Options(http2)
	o.HTTP2.MaxHeaderCount = common.GetMaxHeadersCount().GetValue()
	o.MaxStreams = http2.GetMaxConcurrentStreams().GetValue()
	for _, t := range m.GetCircuitBreakers().GetThresholds() {
		if t.GetPriority() != corev3.RoutingPriority_DEFAULT {
			continue
		}
		if v := t.GetMaxConnections(); v != nil && v.GetValue() < defaultHostConnections {
			o.MaxConnections = max(v.GetValue(), 1)
		}
		break // Envoy takes the first of a priority
	}
	return o
}

// upstreamProtocol returns the HTTP/2 options among p's alternatives.
func (a *at) upstreamProtocol(p *upstreamsv3.HttpProtocolOptions) *corev3.Http2ProtocolOptions {
	switch o := p.GetUpstreamProtocolOptions().(type) {
	case *upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_:
		here := a.field("explicit_http_config")
		switch x := o.ExplicitHttpConfig.GetProtocolConfig().(type) {
		case *upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions:
			return x.Http2ProtocolOptions
		case *upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http3ProtocolOptions:
			here.field("http3_protocol_options").unsupported()
		default:
			here.warnf("HTTP/1.1: calls go by HTTP/2 all the same, as gRPC needs it")
		}
	case *upstreamsv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		return o.UseDownstreamProtocolConfig.GetHttp2ProtocolOptions()
	case *upstreamsv3.HttpProtocolOptions_AutoConfig:
		a.field("auto_config").warnf("calls go by HTTP/2")
		return o.AutoConfig.GetHttp2ProtocolOptions()
	}
	return nil
}

// breakers compiles circuit_breakers. Envoy takes the first of a priority.
func (a *at) breakers(m *clusterv3.CircuitBreakers) cluster.Breakers {
	var out cluster.Breakers
	for i, t := range m.GetThresholds() {
		to := &out.Default
		if t.GetPriority() == corev3.RoutingPriority_HIGH {
			a.item("thresholds", i).field("priority").warnf("HIGH: no call has this priority, as this version ignores that of routes")
			to = &out.High
		}
		if *to != nil {
			continue
		}
		th := cluster.DefaultThresholds()
		if v := t.GetMaxConnections(); v != nil {
			th.MaxConnections = v.GetValue()
		}
		if v := t.GetMaxPendingRequests(); v != nil {
			th.MaxPending = v.GetValue()
		}
		if v := t.GetMaxRequests(); v != nil {
			th.MaxRequests = v.GetValue()
		}
		if v := t.GetMaxRetries(); v != nil {
			th.MaxRetries = v.GetValue()
		}
		*to = &th
	}
	return out
}

// percent returns a Percent as whole percents; nil stays nil.
func percent(v float64) *uint32 {
	p := uint32(math.Round(v))
	return &p
}

package xdsconfig

import (
	"math"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Envoy's defaults of a connection manager.
const (
	defaultStreamIdle   = 5 * time.Minute
	defaultHeadersKB    = 60
	defaultHeaderCount  = 100
	defaultServerName   = "envoy"
	defaultDrainTimeout = 5 * time.Second
)

// managerCompiler compiles one HttpConnectionManager.
type managerCompiler struct {
	config *hcmv3.HttpConnectionManager
	out    *call.Manager
}

// manager compiles the connection manager in x; nil if a says why not.
func (a *at) manager(x *anypb.Any, ln *Listener) *managerCompiler {
	m, ok := unpackAs[*hcmv3.HttpConnectionManager](a, x)
	if !ok {
		return nil
	}
	hc := &managerCompiler{config: m, out: &call.Manager{
		StatPrefix:        m.GetStatPrefix(),
		StreamIdleTimeout: defaultStreamIdle,
		ServerName:        defaultServerName,
		ServerHeader:      serverHeaders[m.GetServerHeaderTransformation()],
		DrainTimeout:      defaultDrainTimeout,

		GenerateRequestID: m.GetGenerateRequestId() == nil || m.GetGenerateRequestId().GetValue(),
		KeepRequestID:     m.GetPreserveExternalRequestId(),
		RequestIDInReply:  m.GetAlwaysSetRequestIdInResponse(),
		ForwardedProto:    true,
		UseRemoteAddress:  m.GetUseRemoteAddress().GetValue(),
		SkipXFFAppend:     m.GetSkipXffAppend(),
		XFFTrustedHops:    m.GetXffNumTrustedHops(),
		Via:               m.GetVia(),
	}}
	if m.GetCodecType() == hcmv3.HttpConnectionManager_HTTP3 {
		a.field("codec_type").errorf("HTTP3: not supported by this version")
	}
	if m.GetServerName() != "" {
		hc.out.ServerName = m.GetServerName()
	}
	hc.edge(a, m)
	hc.timeouts(a, m)
	hc.protocol(a, m)
	hc.routes(a, m, ln)
	hc.httpFilters(a, m.GetHttpFilters())
	return hc
}

var serverHeaders = map[hcmv3.HttpConnectionManager_ServerHeaderTransformation]call.ServerHeader{
	hcmv3.HttpConnectionManager_OVERWRITE:        call.ServerOverwrite,
	hcmv3.HttpConnectionManager_APPEND_IF_ABSENT: call.ServerAppendIfAbsent,
	hcmv3.HttpConnectionManager_PASS_THROUGH:     call.ServerPass,
}

func (hc *managerCompiler) timeouts(a *at, m *hcmv3.HttpConnectionManager) {
	out := hc.out
	if d := m.GetStreamIdleTimeout(); d != nil {
		out.StreamIdleTimeout = d.AsDuration()
	} else {
		a.field("stream_idle_timeout").warnf("not set: Envoy's default ends a stream on which nothing was sent for %s; 0s disables it", defaultStreamIdle)
	}
	out.RequestTimeout = m.GetRequestTimeout().AsDuration()
	out.RequestHeadersTimeout = m.GetRequestHeadersTimeout().AsDuration()
	if d := m.GetDrainTimeout(); d != nil {
		out.DrainTimeout = d.AsDuration()
	}
	c := m.GetCommonHttpProtocolOptions()
	out.IdleTimeout = orNone(c.GetIdleTimeout())
	out.MaxConnectionDuration = c.GetMaxConnectionDuration().AsDuration()
	out.MaxConnectionJitter = c.GetMaxConnectionDurationJitter().GetValue()
	out.MaxStreamDuration = c.GetMaxStreamDuration().AsDuration()
	out.MaxRequestsPerConn = c.GetMaxRequestsPerConnection().GetValue()
}

func (hc *managerCompiler) protocol(a *at, m *hcmv3.HttpConnectionManager) {
	out := &hc.out.HTTP2
	*out = http2Options(m.GetHttp2ProtocolOptions())
	out.MaxHeaderBytes = defaultHeadersKB << 10
	if v := m.GetMaxRequestHeadersKb(); v != nil {
		out.MaxHeaderBytes = v.GetValue() << 10
	}
	out.MaxHeaderCount = defaultHeaderCount
	if v := m.GetCommonHttpProtocolOptions().GetMaxHeadersCount(); v != nil {
		out.MaxHeaderCount = v.GetValue()
	}
	if m.GetCodecType() == hcmv3.HttpConnectionManager_HTTP1 {
		a.field("codec_type").warnf("HTTP1: HTTP/2 is served; gRPC needs it")
	}
}

// defaultKeepaliveJitter is Envoy's KeepaliveSettings.interval_jitter in per cent.
const defaultKeepaliveJitter = 15

// http2Options compiles Http2ProtocolOptions; unset fields are the core's
// defaults.
func http2Options(m *corev3.Http2ProtocolOptions) call.HTTP2Options {
	k := m.GetConnectionKeepalive()
	var jitter uint8
	if p := k.GetIntervalJitter(); p != nil {
		jitter = uint8(math.Round(p.GetValue()))
	} else if k != nil {
		jitter = defaultKeepaliveJitter
	}
	return call.HTTP2Options{
		MaxConcurrentStreams:        m.GetMaxConcurrentStreams().GetValue(),
		InitialStreamWindowSize:     m.GetInitialStreamWindowSize().GetValue(),
		InitialConnectionWindowSize: m.GetInitialConnectionWindowSize().GetValue(),
		HPACKTableSize:              m.GetHpackTableSize().GetValue(),
		KeepaliveInterval:           k.GetInterval().AsDuration(),
		KeepaliveJitter:             jitter,
		KeepaliveTimeout:            k.GetTimeout().AsDuration(),
		KeepaliveIdle:               k.GetConnectionIdleInterval().AsDuration(),
	}
}

// routes sets the manager's director: a table of its own, or the cell of a
// RouteConfiguration that comes by RDS.
func (hc *managerCompiler) routes(a *at, m *hcmv3.HttpConnectionManager, ln *Listener) {
	switch s := m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_RouteConfig:
		if tbl := a.field("route_config").routeConfiguration(s.RouteConfig); tbl != nil {
			hc.out.Director = tbl
		}
	case *hcmv3.HttpConnectionManager_Rds:
		here := a.field("rds")
		here.field("config_source").overADS(s.Rds.GetConfigSource())
		name := s.Rds.GetRouteConfigName()
		if name == "" {
			here.field("route_config_name").errorf("value is required")
			return
		}
		ln.addStatPrefix(name, m.GetStatPrefix())
		ln.addRoutes(name, fetchTimeout(s.Rds.GetConfigSource()))
		hc.out.Director = a.r.env.routes(name)
	case nil:
		a.field("route_specifier").errorf("rds or route_config is required")
	}
}

// overADS checks that a ConfigSource says ADS. The support table refuses the
// other kinds.
func (a *at) overADS(m *corev3.ConfigSource) {
	if m == nil {
		a.errorf("value is required")
		return
	}
	if v := m.GetResourceApiVersion(); v == corev3.ApiVersion_V2 {
		a.field("resource_api_version").errorf("V2: not supported by this version")
	}
	switch m.GetConfigSourceSpecifier().(type) {
	case nil:
		a.field("config_source_specifier").errorf("ads is required")
	case *corev3.ConfigSource_PathConfigSource:
		a.field("path_config_source").unsupported()
	case *corev3.ConfigSource_Path:
		a.field("path").unsupported()
	}
}

// fetchTimeout is how long something warms for what comes from m; 0: for ever.
func fetchTimeout(m *corev3.ConfigSource) time.Duration {
	if d := m.GetInitialFetchTimeout(); d != nil {
		return max(d.AsDuration(), 0)
	}
	return defaultFetchTimeout
}

// connectionKey is the hash of what a connection is bound to: match, transport
// socket and the options of the connection manager that hold for connections.
// What holds for calls (routes, filters, header policy, stream timeouts) may
// change below it.
//
// The default chain may look like one without a match, but is another.
func connectionKey(m *listenerv3.FilterChain, isDefault bool, hcm *hcmv3.HttpConnectionManager) uint64 {
	f := fingerprintOf(
		wrapperspb.Bool(isDefault),
		connectionSocket(m.GetTransportSocket()),
		&listenerv3.FilterChain{
			FilterChainMatch:              m.GetFilterChainMatch(),
			TransportSocketConnectTimeout: m.GetTransportSocketConnectTimeout(),
		},
		&hcmv3.HttpConnectionManager{
			CodecType:                 hcm.GetCodecType(),
			StatPrefix:                hcm.GetStatPrefix(), // counters are opened and closed in one scope
			CommonHttpProtocolOptions: connectionOptions(hcm.GetCommonHttpProtocolOptions()),
			Http2ProtocolOptions:      hcm.GetHttp2ProtocolOptions(),
			MaxRequestHeadersKb:       hcm.GetMaxRequestHeadersKb(),
			RequestHeadersTimeout:     hcm.GetRequestHeadersTimeout(),
		},
	)
	return f.key()
}

func connectionOptions(m *corev3.HttpProtocolOptions) *corev3.HttpProtocolOptions {
	if m == nil {
		return nil
	}
	m = proto.Clone(m).(*corev3.HttpProtocolOptions)
	m.MaxStreamDuration = nil // of calls
	return m
}

package call

import "time"

// Manager is a compiled HTTP connection manager: what the core needs to know
// to serve the connections of one filter chain. Immutable; what changes per
// RPC hides behind Director.
type Manager struct {
	StatPrefix string
	Scope      Scope // http.<stat_prefix> counters
	Director   Director

	HTTP2 HTTP2Options

	IdleTimeout           time.Duration // common_http_protocol_options.idle_timeout; 1 h, negative: never
	MaxConnectionDuration time.Duration // 0: unlimited
	MaxRequestsPerConn    uint32        // max_requests_per_connection; 0: unlimited
	StreamIdleTimeout     time.Duration // stream_idle_timeout; 0: none (Compile puts Envoy's default of 5 min)
	RequestTimeout        time.Duration // request_timeout: until the request has ended; 0: none
	RequestHeadersTimeout time.Duration // 0: the core's 10 s
	MaxStreamDuration     time.Duration // common_http_protocol_options.max_stream_duration; 0: none
	DrainTimeout          time.Duration // between the two GOAWAYs; 0: Envoy's default of 5 s

	// Header policy, Envoy's defaults filled in by Compile. The zero value
	// adds and changes nothing: a transparent proxy.
	ServerHeader      ServerHeader
	ServerName        string // server_name; "envoy" by Envoy's default
	GenerateRequestID bool   // generate_request_id
	KeepRequestID     bool   // preserve_external_request_id
	RequestIDInReply  bool   // always_set_request_id_in_response
	ForwardedProto    bool   // set x-forwarded-proto (Envoy always does)
	UseRemoteAddress  bool   // use_remote_address: append to x-forwarded-for, mark x-envoy-external-address
	SkipXFFAppend     bool
	XFFTrustedHops    uint32
	Via               string
	EnvoyHeaders      bool // router: not suppress_envoy_headers: x-envoy-expected-rq-timeout-ms, x-envoy-upstream-service-time
}

// ServerHeader is HttpConnectionManager.server_header_transformation.
type ServerHeader uint8

// What to do with the response's server header.
const (
	ServerPass           ServerHeader = iota // PASS_THROUGH
	ServerOverwrite                          // OVERWRITE
	ServerAppendIfAbsent                     // APPEND_IF_ABSENT
)

package call

import (
	"net/netip"
	"time"
)

// Manager is a compiled HTTP connection manager: what the core needs to know
// to serve the connections of one filter chain. Immutable; what changes per
// RPC hides behind Director.
type Manager struct {
	StatPrefix string
	Scope      Scope // http.<stat_prefix> counters
	Director   Director

	Filters         []FilterFactory // asked in order before the Director
	MaxMessageBytes int             // of a message that a MessageFilter sees; 0: 4 MiB
	MaxPeekBytes    int             // of the first message for a Director that asks for it; 0: 64 KiB

	HTTP2 HTTP2Options

	IdleTimeout           time.Duration // common_http_protocol_options.idle_timeout; 1 h, negative: never
	MaxConnectionDuration time.Duration // 0: unlimited
	MaxConnectionJitter   float64       // max_connection_duration_jitter: up to so many percent longer; 0: up to 10 % shorter
	MaxRequestsPerConn    uint32        // max_requests_per_connection; 0: unlimited
	StreamIdleTimeout     time.Duration // stream_idle_timeout; 0: none (Compile puts Envoy's default of 5 min)
	RequestTimeout        time.Duration // request_timeout: until the request has ended; 0: none
	RequestHeadersTimeout time.Duration // 0: the core's 10 s
	MaxStreamDuration     time.Duration // common_http_protocol_options.max_stream_duration; 0: none
	DrainTimeout          time.Duration // between the two GOAWAYs; 0: the core's 1 s (Compile puts Envoy's default of 5 s)

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

	// Sanitize is what Envoy always does: it takes from requests what only a
	// proxy of ours may say (x-envoy-…, x-forwarded-client-cert), refuses
	// those without an authority or with a fragment in their path, and knows
	// no host header beside :authority.
	Sanitize bool
	// Internal are the addresses of clients of our own, InternalUnix says that
	// the peers of Unix sockets are (internal_address_config). Their requests
	// keep the x-envoy-… headers, and the router does what these say.
	Internal     []netip.Prefix
	InternalUnix bool

	ForwardedPort     bool   // append_x_forwarded_port
	UserAgent         string // add_user_agent: the cluster of our node
	ServiceNode       string // and its id
	ClientCert        ClientCert
	ClientCertDetails CertDetails
	AnswerContinue    bool // not proxy_100_continue: answer expect: 100-continue
	Paths             PathPolicy
	StripPort         StripPort
	StripDot          bool // strip_trailing_host_dot
	Underscores       Underscores
}

// ClientCert is HttpConnectionManager.forward_client_cert_details: what
// becomes of x-forwarded-client-cert.
type ClientCert uint8

// What to do with x-forwarded-client-cert. Without a client certificate all
// but CertAlwaysForward remove it.
const (
	CertSanitize      ClientCert = iota // SANITIZE
	CertForward                         // FORWARD_ONLY
	CertAppend                          // APPEND_FORWARD
	CertSet                             // SANITIZE_SET
	CertAlwaysForward                   // ALWAYS_FORWARD_ONLY
)

// CertDetails is a set of elements of x-forwarded-client-cert
// (set_current_client_cert_details) besides By and Hash.
type CertDetails uint8

// Elements of x-forwarded-client-cert.
const (
	CertPEM CertDetails = 1 << iota
	CertChain
	CertSubject
	CertURI
	CertDNS
)

// PathPolicy is what is done to the path before a request is routed.
type PathPolicy struct {
	Normalize    bool // normalize_path: RFC 3986
	MergeSlashes bool // merge_slashes
	Escaped      EscapedSlashes
}

// EscapedSlashes is path_with_escaped_slashes_action.
type EscapedSlashes uint8

// What to do with %2F and %5C in a path.
const (
	EscapedKeep     EscapedSlashes = iota // KEEP_UNCHANGED
	EscapedReject                         // REJECT_REQUEST
	EscapedRedirect                       // UNESCAPE_AND_REDIRECT
	EscapedForward                        // UNESCAPE_AND_FORWARD
)

// StripPort says which port is taken off :authority.
type StripPort uint8

// Ports that are taken off.
const (
	StripNone     StripPort = iota
	StripMatching           // strip_matching_host_port: the listener's
	StripAny                // strip_any_host_port
)

// Underscores is headers_with_underscores_action.
type Underscores uint8

// What to do with header names that have an underscore.
const (
	UnderscoresAllow Underscores = iota
	UnderscoresReject
	UnderscoresDrop
)

// ServerHeader is HttpConnectionManager.server_header_transformation.
type ServerHeader uint8

// What to do with the response's server header.
const (
	ServerPass           ServerHeader = iota // PASS_THROUGH
	ServerOverwrite                          // OVERWRITE
	ServerAppendIfAbsent                     // APPEND_IF_ABSENT
)

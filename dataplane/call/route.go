package call

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Route is the policy of a matched route (one per weighted cluster, where
// these differ). Immutable and shared by all calls; it never points back to
// its table.
type Route struct {
	Name        string // Route.name
	VirtualHost string
	Cluster     string // for the access log
	Scope       Scope  // virtual host or route counters; zero: none

	// Timeout is RouteAction.timeout: from the end of the request to the end
	// of the response. 0: none. Compile puts Envoy's default of 15 s here.
	Timeout time.Duration
	// IdleTimeout is RouteAction.idle_timeout; 0: the manager's
	// StreamIdleTimeout; negative: none.
	IdleTimeout time.Duration
	// MaxStreamDuration is max_stream_duration.max_stream_duration: from the
	// request's headers to the end of the response. 0: the manager's;
	// negative: none.
	MaxStreamDuration time.Duration

	// UseGRPCTimeout: the deadline of the client's grpc-timeout holds instead
	// of Timeout for gRPC requests that carry one (grpc_timeout_header_max or
	// max_grpc_timeout present). GRPCTimeoutMax caps it (0: no cap),
	// GRPCTimeoutOffset is taken off it.
	UseGRPCTimeout    bool
	GRPCTimeoutMax    time.Duration
	GRPCTimeoutOffset time.Duration
	// OldGRPCTimeout: GRPCTimeoutMax is max_grpc_timeout. It holds instead of
	// Timeout for all gRPC requests, and x-envoy-expected-rq-timeout-ms tells.
	OldGRPCTimeout bool
	// TellDuration: the upstream of a gRPC request reads the stream's duration
	// in grpc-timeout (max_stream_duration present).
	TellDuration bool

	// RequestOps and ResponseOps are applied in order, most specific level
	// first as Envoy does (weighted cluster, route, virtual host, table).
	RequestOps  []HeaderOp
	ResponseOps []HeaderOp

	Rewrite *Rewrite // nil: none
	Retry   *RetryPolicy
}

// Rewrite changes what the upstream sees as :path and :authority.
type Rewrite struct {
	Path func(c *Call) string // new :path; "" or nil: unchanged
	// Host returns the new :authority; "" or nil: unchanged.
	Host func(c *Call, h Host) string
	// Base, if not empty, is what Host takes the place of, and what stays if it
	// says nothing: a weighted cluster's host_rewrite_literal.
	Base string
	// AppendHost: what Host replaces is appended to x-forwarded-host
	// (append_x_forwarded_host).
	AppendHost bool
	// Silent: x-envoy-original-host does not tell (a weighted cluster's
	// host_rewrite_literal).
	Silent bool
}

// RetryPolicy is envoy.config.route.v3.RetryPolicy, compiled.
type RetryPolicy struct {
	On          RetryOn
	GRPCCodes   uint32 // bit n: retry on grpc-status n
	HTTPCodes   []int  // retriable_status_codes
	Max         int    // num_retries: attempts after the first
	PerTry      time.Duration
	BackOffBase time.Duration
	BackOffMax  time.Duration
	BufferLimit int64 // request_body_buffer_limit; 256 KiB
}

// RetryOn is the set of transport conditions of retry_on.
type RetryOn uint32

// Conditions of RetryPolicy.retry_on.
const (
	RetryConnectFailure RetryOn = 1 << iota
	RetryRefusedStream
	RetryReset
	RetryResetBeforeRequest
	Retry5xx
	RetryGatewayError
	RetryRetriable4xx
)

// HeaderAction says what a HeaderOp does
// (HeaderValueOption.append_action, *_headers_to_remove).
type HeaderAction uint8

// Actions of a HeaderOp.
const (
	HeaderAppend           HeaderAction = iota // APPEND_IF_EXISTS_OR_ADD
	HeaderAddIfAbsent                          // ADD_IF_ABSENT
	HeaderOverwrite                            // OVERWRITE_IF_EXISTS_OR_ADD
	HeaderOverwriteIfExist                     // OVERWRITE_IF_EXISTS
	HeaderRemove                               // headers_to_remove
)

// HeaderOp is one header mutation. Immutable.
type HeaderOp struct {
	Action HeaderAction
	// Next: the mutations of another level (route, virtual host, …) begin. What
	// is absent, and what values are made of, is looked up before any header of
	// the level is added.
	Next bool
	// Field is the header with hashes made at compile time (hpack.NewField,
	// marked as repeating so that it is indexed). Its value is used if Value
	// is nil.
	Field hpack.Field
	// Value formats the value for one call; an empty result adds nothing
	// unless KeepEmpty.
	Value     func(c *Call, o *Outcome) string
	KeepEmpty bool
}

// Package hdr names the well-known header fields, so that filters, routing and
// the relay switch on a number instead of comparing strings.
//
// It knows names only: what a field means, and whether it may be relayed, is
// decided elsewhere.
package hdr

// ID is a well-known header name; 0 (Unknown) is any other name. The numbers
// are private to a process: they are never stored or sent.
type ID uint8

// Unknown is the ID of every name that has no constant here.
const Unknown ID = 0

// The names of HPACK's static table come first and in its order (RFC 7541
// appendix A), which package hpack relies on.
const (
	Authority                ID = iota + 1 // :authority
	Method                                 // :method
	Path                                   // :path
	Scheme                                 // :scheme
	Status                                 // :status
	AcceptCharset                          // accept-charset
	AcceptEncoding                         // accept-encoding
	AcceptLanguage                         // accept-language
	AcceptRanges                           // accept-ranges
	Accept                                 // accept
	AccessControlAllowOrigin               // access-control-allow-origin
	Age                                    // age
	Allow                                  // allow
	Authorization                          // authorization
	CacheControl                           // cache-control
	ContentDisposition                     // content-disposition
	ContentEncoding                        // content-encoding
	ContentLanguage                        // content-language
	ContentLength                          // content-length
	ContentLocation                        // content-location
	ContentRange                           // content-range
	ContentType                            // content-type
	Cookie                                 // cookie
	Date                                   // date
	ETag                                   // etag
	Expect                                 // expect
	Expires                                // expires
	From                                   // from
	Host                                   // host
	IfMatch                                // if-match
	IfModifiedSince                        // if-modified-since
	IfNoneMatch                            // if-none-match
	IfRange                                // if-range
	IfUnmodifiedSince                      // if-unmodified-since
	LastModified                           // last-modified
	Link                                   // link
	Location                               // location
	MaxForwards                            // max-forwards
	ProxyAuthenticate                      // proxy-authenticate
	ProxyAuthorization                     // proxy-authorization
	Range                                  // range
	Referer                                // referer
	Refresh                                // refresh
	RetryAfter                             // retry-after
	Server                                 // server
	SetCookie                              // set-cookie
	StrictTransportSecurity                // strict-transport-security
	TransferEncoding                       // transfer-encoding
	UserAgent                              // user-agent
	Vary                                   // vary
	Via                                    // via
	WWWAuthenticate                        // www-authenticate

	// HTTP (RFC 8441, RFC 9110, RFC 9113).
	Protocol        // :protocol
	Connection      // connection
	KeepAlive       // keep-alive
	ProxyConnection // proxy-connection
	Upgrade         // upgrade
	TE              // te
	Trailer         // trailer
	HTTP2Settings   // http2-settings

	// gRPC and ORCA.
	GRPCTimeout            // grpc-timeout
	GRPCStatus             // grpc-status
	GRPCMessage            // grpc-message
	GRPCStatusDetails      // grpc-status-details-bin
	GRPCEncoding           // grpc-encoding
	GRPCAcceptEncoding     // grpc-accept-encoding
	GRPCMessageType        // grpc-message-type
	GRPCRetryPushback      // grpc-retry-pushback-ms
	GRPCPreviousAttempts   // grpc-previous-rpc-attempts
	GRPCTraceBin           // grpc-trace-bin
	GRPCTagsBin            // grpc-tags-bin
	LBCostBin              // lb-cost-bin
	EndpointLoadMetrics    // endpoint-load-metrics
	EndpointLoadMetricsBin // endpoint-load-metrics-bin

	// CORS.
	Origin                             // origin
	AccessControlAllowCredentials      // access-control-allow-credentials
	AccessControlAllowHeaders          // access-control-allow-headers
	AccessControlAllowMethods          // access-control-allow-methods
	AccessControlAllowPrivateNetwork   // access-control-allow-private-network
	AccessControlExposeHeaders         // access-control-expose-headers
	AccessControlMaxAge                // access-control-max-age
	AccessControlRequestHeaders        // access-control-request-headers
	AccessControlRequestMethod         // access-control-request-method
	AccessControlRequestPrivateNetwork // access-control-request-private-network

	// Forwarding.
	XForwardedFor        // x-forwarded-for
	XForwardedProto      // x-forwarded-proto
	XForwardedHost       // x-forwarded-host
	XForwardedPort       // x-forwarded-port
	XForwardedClientCert // x-forwarded-client-cert
	XRealIP              // x-real-ip
	XRequestID           // x-request-id
	XClientTraceID       // x-client-trace-id
	Forwarded            // forwarded

	// Tracing.
	TraceParent              // traceparent
	TraceState               // tracestate
	Baggage                  // baggage
	B3                       // b3
	XB3TraceID               // x-b3-traceid
	XB3SpanID                // x-b3-spanid
	XB3ParentSpanID          // x-b3-parentspanid
	XB3Sampled               // x-b3-sampled
	XB3Flags                 // x-b3-flags
	XOTSpanContext           // x-ot-span-context
	XAmznTraceID             // x-amzn-trace-id
	XCloudTraceContext       // x-cloud-trace-context
	XDatadogTraceID          // x-datadog-trace-id
	XDatadogParentID         // x-datadog-parent-id
	XDatadogSamplingPriority // x-datadog-sampling-priority

	// Envoy.
	XEnvoyAttemptCount                 // x-envoy-attempt-count
	XEnvoyDecoratorOperation           // x-envoy-decorator-operation
	XEnvoyDegraded                     // x-envoy-degraded
	XEnvoyDownstreamServiceCluster     // x-envoy-downstream-service-cluster
	XEnvoyDownstreamServiceNode        // x-envoy-downstream-service-node
	XEnvoyExpectedRqTimeout            // x-envoy-expected-rq-timeout-ms
	XEnvoyExternalAddress              // x-envoy-external-address
	XEnvoyForceTrace                   // x-envoy-force-trace
	XEnvoyHedgeOnPerTryTimeout         // x-envoy-hedge-on-per-try-timeout
	XEnvoyImmediateHealthCheckFail     // x-envoy-immediate-health-check-fail
	XEnvoyInternal                     // x-envoy-internal
	XEnvoyIPTags                       // x-envoy-ip-tags
	XEnvoyIsTimeoutRetry               // x-envoy-is-timeout-retry
	XEnvoyMaxRetries                   // x-envoy-max-retries
	XEnvoyOriginalDstHost              // x-envoy-original-dst-host
	XEnvoyOriginalHost                 // x-envoy-original-host
	XEnvoyOriginalMethod               // x-envoy-original-method
	XEnvoyOriginalPath                 // x-envoy-original-path
	XEnvoyOriginalURL                  // x-envoy-original-url
	XEnvoyOverloaded                   // x-envoy-overloaded
	XEnvoyPeerMetadata                 // x-envoy-peer-metadata
	XEnvoyPeerMetadataID               // x-envoy-peer-metadata-id
	XEnvoyRateLimited                  // x-envoy-ratelimited
	XEnvoyRetriableHeaderNames         // x-envoy-retriable-header-names
	XEnvoyRetriableStatusCodes         // x-envoy-retriable-status-codes
	XEnvoyRetryGRPCOn                  // x-envoy-retry-grpc-on
	XEnvoyRetryOn                      // x-envoy-retry-on
	XEnvoyUpstreamAltStatName          // x-envoy-upstream-alt-stat-name
	XEnvoyUpstreamCanary               // x-envoy-upstream-canary
	XEnvoyUpstreamHealthCheckedCluster // x-envoy-upstream-healthchecked-cluster
	XEnvoyUpstreamRqPerTryTimeout      // x-envoy-upstream-rq-per-try-timeout-ms
	XEnvoyUpstreamRqTimeout            // x-envoy-upstream-rq-timeout-ms
	XEnvoyUpstreamRqTimeoutAltResponse // x-envoy-upstream-rq-timeout-alt-response
	XEnvoyUpstreamServiceTime          // x-envoy-upstream-service-time
	XEnvoyUpstreamStreamDuration       // x-envoy-upstream-stream-duration-ms

	// Others.
	XRateLimitLimit     // x-ratelimit-limit
	XRateLimitRemaining // x-ratelimit-remaining
	XRateLimitReset     // x-ratelimit-reset
	XContentTypeOptions // x-content-type-options
	XGRPCWeb            // x-grpc-web
	XUserAgent          // x-user-agent
	Priority            // priority

	// Count is one more than the highest ID: the length of an array indexed by ID.
	Count = iota + 1
)

// LastStatic is the last ID whose name is in HPACK's static table.
const LastStatic = WWWAuthenticate

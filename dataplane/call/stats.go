package call

// Scope is a group of counters: one cluster, one connection manager, one
// listener. Its Index addresses the arrays that every worker keeps; the zero
// Scope counts nowhere. Scopes are handed out by telemetry.Registry.
type Scope struct {
	Index uint32
}

// Counter is one counter of a scope. Which of them are meaningful depends on
// the kind of scope; all are Envoy's stat names.
type Counter uint8

// Counters of a connection manager's scope (http.<stat_prefix>.*).
const (
	DownstreamCxTotal Counter = iota
	DownstreamCxActive
	DownstreamCxDestroy
	DownstreamCxProtocolError
	DownstreamCxDrainClose
	DownstreamCxIdleTimeout
	DownstreamCxMaxDuration
	DownstreamCxRxBytes
	DownstreamCxTxBytes
	DownstreamRqTotal
	DownstreamRqActive
	DownstreamRqCompleted
	DownstreamRq1xx
	DownstreamRq2xx
	DownstreamRq3xx
	DownstreamRq4xx
	DownstreamRq5xx
	DownstreamRqRxReset
	DownstreamRqTxReset
	DownstreamRqTimeout
	DownstreamRqIdleTimeout
	DownstreamRqMaxDuration
	DownstreamRqDrainDeadline
	NoRouteTotal
	NoClusterTotal
	RqDirectResponse
	RqTotal
	// DownstreamCounters is the number of counters above.
	DownstreamCounters
)

// Counters of a cluster's scope (cluster.<name>.*).
const (
	UpstreamCxTotal Counter = iota
	UpstreamCxActive
	UpstreamCxConnectFail
	UpstreamCxConnectTimeout
	UpstreamCxDestroy
	UpstreamCxDestroyLocal
	UpstreamCxDestroyRemote
	UpstreamCxIdleTimeout
	UpstreamCxMaxRequests
	UpstreamCxProtocolError
	UpstreamCxRxBytes
	UpstreamCxTxBytes
	UpstreamCxCloseNotify
	UpstreamRqTotal
	UpstreamRqActive
	UpstreamRqCompleted
	UpstreamRq1xx
	UpstreamRq2xx
	UpstreamRq3xx
	UpstreamRq4xx
	UpstreamRq5xx
	UpstreamRqPendingTotal
	UpstreamRqPendingActive
	UpstreamRqPendingOverflow
	UpstreamRqPendingFailureEject
	UpstreamRqCancelled
	UpstreamRqTimeout
	UpstreamRqDropOverload
	UpstreamRqPerTryTimeout
	UpstreamRqRxReset
	UpstreamRqTxReset
	UpstreamRqRetry
	UpstreamRqRetrySuccess
	UpstreamRqRetryOverflow
	UpstreamCxNoneHealthy
	UpstreamCxOverflow
	UpstreamCxMaxDuration
	// UpstreamCounters is the number of counters above.
	UpstreamCounters
)

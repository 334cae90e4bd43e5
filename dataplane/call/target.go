package call

import "time"

// Target says how to reach a host. Immutable; all hosts of one cluster share
// Options.
type Target struct {
	Network string // "tcp" or "unix"
	Address string // "10.0.0.1:50051", "[::1]:50051" or a socket's path; never a name to resolve
	Options *UpstreamOptions
	Limits  *Limits    // of the host's cluster; nil: none but those of Options
	Stats   *HostStats // nil: not counted
}

// UpstreamOptions are a cluster's connection options. Immutable. Zero values
// mean the documented defaults.
type UpstreamOptions struct {
	Cluster Scope // where connection counters go

	ConnectTimeout time.Duration // Cluster.connect_timeout; 5 s
	IdleTimeout    time.Duration // HttpProtocolOptions.idle_timeout; 1 h, negative: never
	MaxAge         time.Duration // max_connection_duration; 0: unlimited
	MaxAgeJitter   float64       // percent, as Manager.MaxConnectionJitter
	MaxRequests    uint32        // max_requests_per_connection; 0: unlimited

	MaxConnections uint32 // per worker and host; default 4
	MaxPending     uint32 // waiting for a stream, per worker and host; 1,024, or with Limits no bound of its own
	MaxStreams     uint32 // concurrent streams per connection; peer's limit if 0

	HTTP2 HTTP2Options

	TLS ClientTLS // nil: plaintext
}

// HTTP2Options are envoy.config.core.v3.Http2ProtocolOptions. Zero values mean
// the core's defaults.
type HTTP2Options struct {
	MaxConcurrentStreams        uint32 // advertised by a server; limit for a client
	InitialStreamWindowSize     uint32 // bytes; 64 KiB by default
	InitialConnectionWindowSize uint32 // bytes; 4 MiB by default
	HPACKTableSize              uint32 // bytes; 4,096
	MaxHeaderBytes              uint32 // decoded size (RFC 9113 §6.5.2); 64 KiB
	MaxHeaderCount              uint32 // 200

	// connection_keepalive; off by default.

	KeepaliveInterval time.Duration // interval between PINGs; 0: none
	KeepaliveJitter   uint8         // interval_jitter: per cent of the interval that are added at most
	KeepaliveTimeout  time.Duration // timeout; 10 s
	KeepaliveIdle     time.Duration // connection_idle_interval: PING before a stream after such a silence; 0: none
}

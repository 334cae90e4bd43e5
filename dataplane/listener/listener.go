package listener

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Listener is a compiled envoy.config.listener.v3.Listener. Immutable.
type Listener struct {
	Name      string
	Addresses []Address // address, then additional_addresses
	Chains    *Table
	Scope     call.Scope // listener.<address> counters

	ReusePort bool // enable_reuse_port
	Backlog   int  // tcp_backlog_size; 0: the system's
	Inbound   bool // traffic_direction is INBOUND

	FiltersTimeout    time.Duration // listener_filters_timeout; 0: none
	ContinueOnTimeout bool          // continue_on_listener_filters_timeout
	Inspect           bool          // some chain needs what the TLS ClientHello says
}

// Address is where a listener listens.
type Address struct {
	Network string // "tcp" or "unix"
	Address string // "10.0.0.1:50051", "[::]:443", or the socket's path
	Mode    uint32 // permissions of a unix socket; 0: unchanged
}

// Chain is a compiled filter chain. Immutable: a changed chain is a new Chain,
// and connections stay with it while its Key stands.
type Chain struct {
	Name  string
	Match Match
	// Key is a hash of what a connection is bound to: match, transport socket,
	// network filters and connection-level HCM options.
	Key     uint64
	Manager *call.Manager
	TLS     any // the transport socket's server context; nil: plaintext

	HandshakeTimeout time.Duration // transport_socket_connect_timeout; 0: the core's
}

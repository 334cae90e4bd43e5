package h2

import (
	"math/rand/v2"
	"time"
)

// Role says which end of the connection a Conn is.
type Role uint8

// The two roles.
const (
	Server Role = iota // faces a client: streams are opened by the peer
	Client             // faces a server: OpenStream opens streams
)

// Sizes of the protocol and of our buffers.
const (
	// MaxFrame is the largest payload we accept and send (RFC 9113 §4.2; the
	// minimum every endpoint must take).
	MaxFrame = 16 << 10
	// Preface is the client connection preface (RFC 9113 §3.4).
	Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// Config is what a Conn is built with. It is read-only once in use and may be
// shared by the connections of one listener or cluster *within one worker*,
// because Pool, Counters and Rand are a worker's: see ForWorker. Start from
// DefaultConfig; zero durations switch a timer off.
type Config struct {
	// MaxConcurrentStreams is advertised by a server and caps a client's own.
	MaxConcurrentStreams uint32
	// StreamWindow (W0) is our SETTINGS_INITIAL_WINDOW_SIZE.
	StreamWindow int64
	// ConnWindow (Wc) is what the peer may send on the whole connection.
	ConnWindow int64
	// HoldLimit (H) is how many held bytes do not count against ConnWindow.
	HoldLimit int64
	// MaxStreamWindow and MaxConnWindow bound how far windows grow on fast
	// long paths (see tuneTrips); 0: not at all.
	MaxStreamWindow, MaxConnWindow int64
	// HeaderTable is our SETTINGS_HEADER_TABLE_SIZE.
	HeaderTable uint32
	// MaxHeaderBytes and MaxHeaderFields bound a decoded header list; bytes as
	// RFC 9113 §6.5.2 counts them.
	MaxHeaderBytes  int
	MaxHeaderFields int
	// HiWater is how much unsent output refuses more DATA. 128 KiB cost 64 KiB
	// more for each blocked connection than 64 KiB, and a fifth less CPU where
	// calls carry 64 KiB messages.
	HiWater int
	// AllowConnect lets CONNECT requests through to the handler.
	AllowConnect bool
	// ExtendedConnect also advertises RFC 8441.
	ExtendedConnect bool

	PrefaceTimeout  time.Duration // until the peer's preface and first SETTINGS
	SettingsTimeout time.Duration // until the ACK of ours
	HeaderTimeout   time.Duration // from a block's first frame to its END_HEADERS
	SlowReader      time.Duration // output pending and none taken for so long
	IdleTimeout     time.Duration // no streams for so long: graceful shutdown
	DrainPing       time.Duration // at most so long between the two GOAWAYs

	// KeepaliveInterval is what passes between the ACK of a PING and the next
	// PING, streams or not, and KeepaliveJitter how many per cent of it are
	// added at most, at random. Off by default, as in Envoy: gRPC servers end
	// connections that PING more often than every 5 minutes (gRFC A8).
	KeepaliveInterval time.Duration
	KeepaliveJitter   int
	// KeepaliveTimeout ends a connection on which so long after a PING, or
	// after the last bytes that came since, there was no ACK.
	KeepaliveTimeout time.Duration
	// KeepaliveIdle makes PingIfIdle send a PING after so long without bytes
	// from the peer.
	KeepaliveIdle time.Duration

	Limits   *Limits
	Pool     *Pool
	Counters *Counters
	Rand     *rand.PCG // for the jitter; nil: none
}

// DefaultConfig returns the defaults of the role without Pool and Counters.
func DefaultConfig(r Role) *Config {
	c := &Config{
		MaxConcurrentStreams: 100,
		StreamWindow:         64 << 10,
		ConnWindow:           4 << 20,
		HoldLimit:            4 << 20,
		MaxStreamWindow:      16 << 20,
		MaxConnWindow:        16 << 20,
		HeaderTable:          4096,
		MaxHeaderBytes:       64 << 10,
		MaxHeaderFields:      200,
		HiWater:              128 << 10,
		PrefaceTimeout:       10 * time.Second,
		SettingsTimeout:      10 * time.Second,
		HeaderTimeout:        10 * time.Second,
		SlowReader:           30 * time.Second,
		DrainPing:            time.Second,
		KeepaliveTimeout:     10 * time.Second,
		Limits:               DefaultLimits(r),
	}
	if r == Client {
		c.MaxConcurrentStreams = 1 << 30 // the server's word counts
		c.IdleTimeout = time.Hour
	}
	return c
}

// ForWorker returns a copy of c with a worker's buffers, counters and dice.
func (c *Config) ForWorker(p *Pool, n *Counters, r *rand.PCG) *Config {
	d := *c
	d.Pool, d.Counters, d.Rand = p, n, r
	return &d
}

// Counters counts reactions to abuse and protocol errors; plain integers owned
// by the worker. The names in the stats are beside them (Envoy's where it has
// the counter), below http2. and cluster.<name>.http2.
type Counters struct {
	StreamsRefused    uint64 // streams_refused
	RapidReset        uint64 // rapid_reset
	HeaderOverflow    uint64 // header_overflow
	ContinuationFlood uint64 // continuation_flood
	HeaderTimeout     uint64 // header_timeout: blocks, prefaces and SETTINGS ACKs that did not come
	ControlFlood      uint64 // outbound_control_flood
	UselessFrames     uint64 // useless_frames
	EmptyFrames       uint64 // inbound_empty_frames_flood
	ClosedData        uint64 // closed_data
	FlowViolation     uint64 // flow_violation
	SlowReader        uint64 // slow_reader
	HeldOverflow      uint64 // held_overflow
	BadPreface        uint64 // bad_preface
	ProtocolErrors    uint64 // protocol_error: connection errors of any other kind
	Malformed         uint64 // rx_messaging_error: messages refused by RFC 9113 §8
	KeepaliveTimeout  uint64 // keepalive_timeout
}

// Add adds what m counted to n.
func (n *Counters) Add(m *Counters) {
	n.StreamsRefused += m.StreamsRefused
	n.RapidReset += m.RapidReset
	n.HeaderOverflow += m.HeaderOverflow
	n.ContinuationFlood += m.ContinuationFlood
	n.HeaderTimeout += m.HeaderTimeout
	n.ControlFlood += m.ControlFlood
	n.UselessFrames += m.UselessFrames
	n.EmptyFrames += m.EmptyFrames
	n.ClosedData += m.ClosedData
	n.FlowViolation += m.FlowViolation
	n.SlowReader += m.SlowReader
	n.HeldOverflow += m.HeldOverflow
	n.BadPreface += m.BadPreface
	n.ProtocolErrors += m.ProtocolErrors
	n.Malformed += m.Malformed
	n.KeepaliveTimeout += m.KeepaliveTimeout
}

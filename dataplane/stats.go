//go:build unix

package dataplane

import (
	"strings"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// scope is where connections of l are counted: in its own scope or, as in
// Envoy, under its first address with underscores for colons.
func (s *Server) scope(l *listener.Listener) call.Scope {
	if l.Scope != (call.Scope{}) {
		return l.Scope
	}
	return s.reg.Scope(telemetry.KindListener, strings.ReplaceAll(l.Addresses[0].Address, ":", "_"))
}

// http2Names are the names of h2.Counters in the stats, Envoy's where Envoy
// has the counter.
var http2Names = []struct {
	name string
	of   func(n *h2.Counters) uint64
}{
	{"bad_preface", func(n *h2.Counters) uint64 { return n.BadPreface }},
	{"closed_data", func(n *h2.Counters) uint64 { return n.ClosedData }},
	{"continuation_flood", func(n *h2.Counters) uint64 { return n.ContinuationFlood }},
	{"flow_violation", func(n *h2.Counters) uint64 { return n.FlowViolation }},
	{"header_overflow", func(n *h2.Counters) uint64 { return n.HeaderOverflow }},
	{"header_timeout", func(n *h2.Counters) uint64 { return n.HeaderTimeout }},
	{"held_overflow", func(n *h2.Counters) uint64 { return n.HeldOverflow }},
	{"inbound_empty_frames_flood", func(n *h2.Counters) uint64 { return n.EmptyFrames }},
	{"keepalive_timeout", func(n *h2.Counters) uint64 { return n.KeepaliveTimeout }},
	{"outbound_control_flood", func(n *h2.Counters) uint64 { return n.ControlFlood }},
	{"protocol_error", func(n *h2.Counters) uint64 { return n.ProtocolErrors }},
	{"rapid_reset", func(n *h2.Counters) uint64 { return n.RapidReset }},
	{"rx_messaging_error", func(n *h2.Counters) uint64 { return n.Malformed }},
	{"slow_reader", func(n *h2.Counters) uint64 { return n.SlowReader }},
	{"streams_refused", func(n *h2.Counters) uint64 { return n.StreamsRefused }},
	{"useless_frames", func(n *h2.Counters) uint64 { return n.UselessFrames }},
}

// http2Stats hands out http2.* of all downstream connections.
func (s *Server) http2Stats(add func(telemetry.Stat)) {
	n := s.group.DownstreamHTTP2()
	for _, c := range http2Names {
		name := "http2." + c.name
		add(telemetry.Stat{Name: name, Base: name, Value: c.of(&n)})
	}
}

// addUpstreamHTTP2 adds cluster.<name>.http2.* of the upstream connections.
func (s *Server) addUpstreamHTTP2(r *telemetry.Registry) {
	columns := make([]telemetry.Column, len(http2Names))
	for i, c := range http2Names {
		columns[i].Name = "http2." + c.name
	}
	r.Table(columns, func(add func(call.Scope, []uint64)) {
		values := make([]uint64, len(http2Names))
		s.group.UpstreamHTTP2(func(scope call.Scope, n *h2.Counters) {
			for i, c := range http2Names {
				values[i] = c.of(n)
			}
			add(scope, values)
		})
	})
}

// holdStats hands out for how many microseconds the workers' locks were held,
// batch by batch.
func (s *Server) holdStats(add func(telemetry.Stat)) {
	t := s.group.HoldTimes()
	h := &telemetry.Histogram{Buckets: t.Buckets[:], Sum: uint64(t.Sum / time.Microsecond)}
	add(telemetry.Stat{Name: "server.worker_lock_us", Base: "server.worker_lock_us", Value: h.Count(), Histogram: h})
}

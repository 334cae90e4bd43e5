package worker

import (
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// limitedScript is a script whose cluster has limits that others use, too.
func limitedScript(t *testing.T, connections, pending uint32) (*script, *call.Limits) {
	s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) {
		o.MaxStreams, o.MaxConnections = 1, 4
	})
	l := new(call.Limits)
	l.Connections.Set(connections)
	l.Pending.Set(pending)
	s.hosts[0].target.Limits = l
	return s, l
}

// The limits of a cluster hold for all of its pools together:
//
//  1. with the cluster's connections taken elsewhere a pool makes its first
//     one all the same, and no second one;
//  2. a call that would wait beyond max_pending_requests is answered;
//  3. what others give back can be taken;
//  4. in the end nothing is left taken.
func TestClusterLimits(t *testing.T) {
	s, l := limitedScript(t, 1, 2)
	host := new(call.HostStats)
	s.hosts[0].target.Stats = host
	l.Connections.Force() // another worker's
	l.Pending.Force()
	first := s.call(&rpc{grpc: true})
	s.server(first, 0)
	waits := s.call(&rpc{grpc: true})
	s.expect(waits, "not ended")
	refused := s.call(&rpc{grpc: true})
	s.expect(refused, "200 grpc 14")
	if host.Pending.Load() != 1 || host.Open.Load() != 1 {
		t.Errorf("the host has %d connections and %d attempts that wait, want one each", host.Open.Load(), host.Pending.Load())
	}
	n := s.wk.core.Counters[2]
	if n[call.UpstreamRqPendingOverflow] != 1 || n[call.UpstreamCxOverflow] == 0 || n[call.UpstreamCxTotal] != 1 {
		t.Errorf("pending overflow %d, want 1; connection overflow %d, want some; connections %d, want 1",
			n[call.UpstreamRqPendingOverflow], n[call.UpstreamCxOverflow], n[call.UpstreamCxTotal])
	}

	l.Connections.Release()
	l.Connections.Set(2)
	more := s.call(&rpc{grpc: true})
	s.expect(more, "200 grpc 14") // waits has the one place
	l.Pending.Release()
	more = s.call(&rpc{grpc: true}) // makes a connection, on which waits goes
	if len(waits.served) != 1 {
		t.Error("no second connection")
	}
	for _, r := range []*rpc{first, waits, more} {
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	s.finish()
	if host.Pending.Load() != 0 || host.Open.Load() != 0 || host.Connecting.Load() != 2 {
		t.Errorf("in the end the host has %d connections of %d, and %d attempts that wait", host.Open.Load(), host.Connecting.Load(), host.Pending.Load())
	}
	if c, p := l.Connections.Taken(), l.Pending.Taken(); c != 0 || p != 0 {
		t.Errorf("%d connections and %d places are left taken", c, p)
	}
}

// max_pending_requests: 0 lets no call wait, not even for a connection.
func TestNoPending(t *testing.T) {
	s, l := limitedScript(t, 1, 0)
	s.expect(s.call(&rpc{grpc: true}), "200 grpc 14")
	s.finish()
	if c := l.Connections.Taken(); c != 0 {
		t.Errorf("%d connections", c)
	}
}

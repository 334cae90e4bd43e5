package worker

import (
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// TestKeepalive: both roles PING every interval, calls or not, and a stream on
// an upstream connection that was silent for long is preceded by a PING.
func TestKeepalive(t *testing.T) {
	s := newScript(t, nil, func(m *call.Manager, o *call.UpstreamOptions) {
		m.HTTP2.KeepaliveInterval = 20 * time.Second
		o.HTTP2.KeepaliveIdle = 30 * time.Second
	})
	first := s.call(&rpc{grpc: true})
	server, _ := s.server(first, 0)
	s.reply(first, 0, true, trailersOnly(first, "0")...)
	s.pass(29 * time.Second)
	next := s.call(&rpc{grpc: true})
	s.reply(next, 0, true, trailersOnly(next, "0")...)
	if server.pings != 0 {
		t.Fatalf("%d PINGs after 29 s", server.pings)
	}
	s.pass(31 * time.Second)
	if last := s.call(&rpc{grpc: true}); server.pings != 1 {
		t.Fatalf("%d PINGs after 31 s of silence, want 1", server.pings)
	} else {
		s.reply(last, 0, true, trailersOnly(last, "0")...)
	}
	if s.client.pings != 3 {
		t.Fatalf("the client got %d PINGs in 60 s, want 3", s.client.pings)
	}
	s.finish()
}

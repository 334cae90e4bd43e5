package worker

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// blockReplies makes the client one that takes no payload any more: a response
// has used its connection's window up.
func (s *script) blockReplies() {
	s.client.deaf = true
	blocker := s.call(&rpc{grpc: true, respLen: 100_000})
	s.reply(blocker, 0, false, headersOf(blocker)...)
	p, st := s.server(blocker, 0)
	s.data(p, st, 65_535, false)
	s.client.rst(blocker.s, http2.ErrCodeCancel)
	blocker.end("cancelled")
	s.settleNow()
}

// TestEvictReplies: local replies whose bodies a client does not take are
// memory like other responses. Beyond the budget they end, before the calls of
// another client that holds less.
func TestEvictReplies(t *testing.T) {
	s := newScript(t, nil, nil)
	s.g.opt.MemoryBudget = 64 << 10
	hoarder, other := s.client, s.connect()
	s.settleNow()
	s.blockReplies()
	s.client = other
	s.blockReplies()
	slow := s.call(&rpc{grpc: true, respLen: 1000})
	s.reply(slow, 0, false, headersOf(slow)...)
	p, st := s.server(slow, 0)
	s.data(p, st, 1000, false)
	s.pass(2 * time.Second)

	s.client = hoarder
	for range 90 {
		s.call(&rpc{route: routeNone})
		if m := s.wk.core.Memory(); m > s.wk.budget() {
			t.Fatalf("%d bytes of memory, budget %d", m, s.wk.budget())
		}
	}
	if slow.done {
		t.Errorf("the other client's call ended: %v", slow)
	}
	for _, r := range s.rpcs {
		if !r.done {
			r.client.rst(r.s, http2.ErrCodeCancel)
			r.end("cancelled")
		}
	}
	hoarder.deaf, other.deaf = false, false
	s.finish()
}

// TestReplyNotTaken: a client that does not take the body of a local reply has
// as long as a silent stream may last, whatever the reply is for.
func TestReplyNotTaken(t *testing.T) {
	for name, r := range map[string]*rpc{
		"no route":        {route: routeNone},
		"direct response": {route: routeReply},
		"timeout":         {route: routeTimeout, timeout: 100 * time.Millisecond},
		"open request":    {route: routeNone, reqLen: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) {
				m.StreamIdleTimeout, m.RequestTimeout = time.Second, 500*time.Millisecond
			})
			s.client.stingy = true
			s.blockReplies()
			s.call(r)
			s.pass(900 * time.Millisecond)
			if !r.headers || r.done {
				t.Fatalf("the client should have the reply's headers and wait: %v", r)
			}
			s.pass(300 * time.Millisecond)
			s.expect(r, "reset INTERNAL_ERROR")
			s.client.deaf = false
			s.finish()
		})
	}
}

// TestNoRetryAfterReply: a call that has been answered in the pause before a
// retry makes no other attempt, however long the client takes the answer.
func TestNoRetryAfterReply(t *testing.T) {
	rt := &call.Route{Retry: &call.RetryPolicy{On: call.Retry5xx, Max: 1}, IdleTimeout: 300 * time.Millisecond}
	s := newScript(t, rt, nil)
	s.blockReplies()
	r := s.call(&rpc{})
	s.reply(r, 0, true, ":status", "503", "grpc-retry-pushback-ms", "450")
	s.pass(400 * time.Millisecond)
	if !r.headers || r.http != "408" || r.done {
		t.Fatalf("the client should have the head of a 408 and wait: %v", r)
	}
	s.pass(400 * time.Millisecond)
	s.expect(r, "reset INTERNAL_ERROR")
	if r.arrived != 1 {
		t.Errorf("%d attempts", r.arrived)
	}
	s.client.deaf = false
	s.finish()
}

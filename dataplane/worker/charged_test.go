package worker

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// What clients get in place of a cluster's response counts as the cluster's, by
// class, and once as completed; all calls count as routed.
func TestRepliesAreCharged(t *testing.T) {
	retry := call.Route{Retry: &call.RetryPolicy{On: call.Retry5xx, Max: 1, BackOffBase: 1}}
	for name, tt := range map[string]struct {
		route    *call.Route
		options  func(o *call.UpstreamOptions)
		do       func(s *script)
		calls    uint64
		ok, fail uint64
	}{
		"a response": {nil, nil, func(s *script) {
			r := s.call(&rpc{grpc: true})
			s.reply(r, 0, true, trailersOnly(r, "0")...)
		}, 1, 1, 0},
		"no host": {nil, nil, func(s *script) {
			s.hosts[0].retired = true
			s.expect(s.call(&rpc{grpc: true}), "200 grpc 14")
			s.hosts[0].retired = false
		}, 1, 0, 1},
		"overflow": {nil, func(o *call.UpstreamOptions) { o.MaxStreams, o.MaxConnections, o.MaxPending = 1, 1, 1 }, func(s *script) {
			one := s.call(&rpc{grpc: true})
			s.server(one, 0)
			two := s.call(&rpc{grpc: true})
			s.expect(s.call(&rpc{grpc: true}), "200 grpc 14")
			for _, r := range []*rpc{one, two} {
				s.reply(r, 0, true, trailersOnly(r, "0")...)
			}
		}, 3, 2, 1},
		"timeout": {&call.Route{Timeout: time.Second}, nil, func(s *script) {
			r := s.call(&rpc{grpc: true})
			s.server(r, 0)
			s.pass(2 * time.Second)
			s.expect(r, "200 grpc 4")
		}, 1, 0, 1},
		"per-try timeout": {&call.Route{Retry: &call.RetryPolicy{PerTry: time.Second}}, nil, func(s *script) {
			r := s.call(&rpc{grpc: true})
			s.server(r, 0)
			s.pass(2 * time.Second)
			s.expect(r, "200 grpc 4")
		}, 1, 0, 1},
		"reset": {nil, nil, func(s *script) {
			r := s.call(&rpc{grpc: true})
			p, st := s.server(r, 0)
			p.rst(st, http2.ErrCodeInternal)
			s.settleNow()
			s.expect(r, "200 grpc 13")
		}, 1, 0, 1},
		"a response after a retry": {&retry, nil, func(s *script) {
			r := s.call(&rpc{grpc: true})
			s.reply(r, 0, true, ":status", "503")
			s.pass(10 * time.Millisecond)
			s.reply(r, 1, true, trailersOnly(r, "0")...)
		}, 1, 1, 0},
		"a reset after a retry": {&retry, nil, func(s *script) {
			r := s.call(&rpc{grpc: true})
			s.reply(r, 0, true, ":status", "503")
			s.pass(10 * time.Millisecond)
			p, st := s.server(r, 1)
			p.rst(st, http2.ErrCodeInternal)
			s.settleNow()
			s.expect(r, "200 grpc 13")
		}, 1, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, tt.route, func(_ *call.Manager, o *call.UpstreamOptions) {
				if tt.options != nil {
					tt.options(o)
				}
			})
			tt.do(s)
			n := s.wk.core.Counters[2]
			if n == nil {
				n = make([]uint64, call.UpstreamCounters)
			}
			got := [...]uint64{s.wk.core.Counters[1][call.RqTotal], n[call.UpstreamRq2xx], n[call.UpstreamRq5xx], n[call.UpstreamRqCompleted]}
			if want := [...]uint64{tt.calls, tt.ok, tt.fail, tt.ok + tt.fail}; got != want {
				t.Errorf("routed, 2xx, 5xx, completed are %v, want %v", got, want)
			}
			if n := n[call.UpstreamRqCancelled]; n != 0 { // none was while it waited for a connection
				t.Errorf("%d cancelled, want none", n)
			}
			s.finish()
		})
	}
}

package worker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/relay"
)

// reply makes the server answer r's n-th attempt.
func (s *script) reply(r *rpc, n int, end bool, kv ...string) {
	s.t.Helper()
	p, st := s.server(r, n)
	s.respond(p, st, end, kv...)
}

func trailersOnly(r *rpc, code string) []string {
	return []string{":status", "200", "content-type", "application/grpc", "x-id", strconv.FormatUint(r.id, 10), "grpc-status", code}
}

func headersOf(r *rpc) []string {
	return []string{":status", "200", "content-type", "application/grpc", "x-id", strconv.FormatUint(r.id, 10)}
}

func (s *script) expect(r *rpc, want string) {
	s.t.Helper()
	if got := r.outcome(); got != want {
		s.t.Fatalf("the client got %q, want %q: %v", got, want, r)
	}
}

// TestReplayLimit: a request of exactly the limit can be sent again, one byte
// more cannot; an off-by-one here sends half a request.
func TestReplayLimit(t *testing.T) {
	const limit = 5000
	for _, tt := range []struct {
		n     int
		retry bool
	}{{limit - 1, true}, {limit, true}, {limit + 1, false}} {
		t.Run(fmt.Sprint(tt.n), func(t *testing.T) {
			s := newScript(t, &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, Max: 1, BufferLimit: limit, BackOffBase: 1}}, nil)
			r := s.call(&rpc{grpc: true, reqLen: tt.n})
			s.reply(r, 0, true, trailersOnly(r, "14")...)
			s.pass(10 * time.Millisecond)
			if !tt.retry {
				s.expect(r, "200 grpc 14")
				s.finish()
				return
			}
			_, st := s.server(r, 1)
			if st.got != tt.n || !st.recvEnd {
				t.Fatalf("the second attempt has %d bytes, ended %v", st.got, st.recvEnd)
			}
			s.reply(r, 1, true, trailersOnly(r, "0")...)
			s.expect(r, "200 grpc 0")
			s.finish()
		})
	}
}

// TestFreeRetry: without a policy, a request that no server has seen is sent
// again if no more than 64 KiB of it have left; a few times, and no more. If more
// have left, the client is told that it may do so itself.
func TestFreeRetry(t *testing.T) {
	for _, tt := range []struct {
		n     int
		reads bool // the server gives window back
		want  bool
	}{{0, true, true}, {4096, true, true}, {60_000, false, true}, {64 << 10, true, true}, {64<<10 + 1, true, false}} {
		s := newScript(t, nil, nil)
		first := s.call(&rpc{grpc: true})
		p, _ := s.server(first, 0)
		s.reply(first, 0, true, trailersOnly(first, "0")...)
		p.deaf = !tt.reads
		r := s.call(&rpc{grpc: true, reqLen: tt.n})
		for again := range maxFree + 1 {
			p, st := s.server(r, again)
			p.rst(st, http2.ErrCodeRefusedStream)
			r.served[again].refused = true
			s.settleNow()
			if !tt.want {
				break
			}
		}
		if got := len(r.served) > 1; got != tt.want {
			t.Fatalf("%+v: sent again %v", tt, got)
		}
		if tt.want {
			s.expect(r, "200 grpc 14")
		} else {
			s.expect(r, "refused")
		}
		p.deaf = false
		s.finish()
	}
}

// maxFree is how often a request that no server has seen is sent again.
const maxFree = 4

// TestSeenStaysSeen: what one server may have seen is not sent again for free
// when the next one has not.
func TestSeenStaysSeen(t *testing.T) {
	s := newScript(t, &call.Route{Retry: &call.RetryPolicy{On: call.RetryReset, Max: 1, BackOffBase: 1}}, nil)
	r := s.call(&rpc{grpc: true, reqLen: 10})
	for n, code := range []http2.ErrCode{http2.ErrCodeInternal, http2.ErrCodeRefusedStream} {
		p, st := s.server(r, n)
		r.served[n].refused = true
		p.rst(st, code)
		s.pass(10 * time.Millisecond)
	}
	if r.arrived != 2 {
		t.Errorf("%d attempts, want 2", r.arrived)
	}
	s.expect(r, "200 grpc 14")
	s.finish()
}

// TestCommittedRequestIsNotKept: when the response has begun there are no more
// attempts, and a call that goes on for long holds nothing.
func TestCommittedRequestIsNotKept(t *testing.T) {
	s := newScript(t, nil, nil)
	r := s.call(&rpc{grpc: true, reqLen: 10_000})
	if n := s.wk.core.Queued(); n != int64(r.reqLen) {
		t.Fatalf("%d bytes are kept for another attempt, want %d", n, r.reqLen)
	}
	s.reply(r, 0, false, headersOf(r)...)
	if n, m := s.wk.core.Queued(), s.wk.core.Memory(); n != 0 || m != 0 {
		t.Errorf("%d bytes are kept, %d of memory", n, m)
	}
	s.reply(r, 0, true, "grpc-status", "0")
	s.expect(r, "200 grpc 0")
	s.finish()
}

// TestRequestTimeout: it is for the request, not for the response.
func TestRequestTimeout(t *testing.T) {
	s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.RequestTimeout = time.Second })
	whole := s.call(&rpc{grpc: true, reqLen: 5000})
	s.client.stingy = true
	cut := s.call(&rpc{grpc: true, reqLen: 5000})
	s.pass(900 * time.Millisecond)
	if whole.done || cut.done {
		t.Fatal("too early")
	}
	s.pass(time.Second)
	s.expect(cut, "200 grpc 4")
	s.reply(whole, 0, true, trailersOnly(whole, "0")...)
	s.expect(whole, "200 grpc 0")
	s.finish()
}

// TestRetriesEnd: the policy's number of retries is kept, back-offs between.
func TestRetriesEnd(t *testing.T) {
	s := newScript(t, &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, Max: 3}}, nil)
	r := s.call(&rpc{grpc: true, reqLen: 10})
	for n := range 4 {
		if len(r.served) != n+1 {
			t.Fatalf("%d attempts, want %d", len(r.served), n+1)
		}
		s.reply(r, n, true, trailersOnly(r, "14")...)
		s.pass(300 * time.Millisecond)
	}
	s.expect(r, "200 grpc 14")
	if got := s.wk.core.Counters[2][call.UpstreamRqRetry]; got != 3 {
		t.Errorf("upstream_rq_retry = %d", got)
	}
	s.finish()
}

// TestPushback: the server's word replaces the back-off, or forbids the retry.
func TestPushback(t *testing.T) {
	for _, tt := range []struct {
		value string
		after time.Duration // 0: no retry
	}{{"400", 400 * time.Millisecond}, {"-1", 0}, {"x", 0}} {
		s := newScript(t, &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, Max: 1}}, nil)
		r := s.call(&rpc{grpc: true})
		s.reply(r, 0, true, append(trailersOnly(r, "14"), "grpc-retry-pushback-ms", tt.value)...)
		if tt.after == 0 {
			s.expect(r, "200 grpc 14")
			s.finish()
			continue
		}
		s.pass(tt.after - 50*time.Millisecond)
		if len(r.served) != 1 {
			t.Fatal("the retry came before the server wanted it")
		}
		s.pass(100 * time.Millisecond)
		s.reply(r, 1, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
		s.finish()
	}
}

// TestHold: headers wait for a status that the route retries on, but not while
// the request is open, and not longer than 100 ms.
func TestHold(t *testing.T) {
	rt := &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, Max: 1, BackOffBase: 1}}
	t.Run("status in trailers is retried", func(t *testing.T) {
		s := newScript(t, rt, nil)
		r := s.call(&rpc{grpc: true, reqLen: 5})
		s.reply(r, 0, false, headersOf(r)...)
		if r.headers {
			t.Fatal("the headers went out")
		}
		s.reply(r, 0, true, "grpc-status", "14")
		s.pass(10 * time.Millisecond)
		s.reply(r, 1, false, headersOf(r)...)
		s.reply(r, 1, true, "grpc-status", "0")
		s.expect(r, "200 grpc 0")
		s.finish()
	})
	t.Run("data releases them", func(t *testing.T) {
		s := newScript(t, rt, nil)
		r := s.call(&rpc{grpc: true, reqLen: 5, respLen: 100})
		s.reply(r, 0, false, headersOf(r)...)
		p, st := s.server(r, 0)
		s.data(p, st, 1, false)
		if !r.headers || r.s.got != 1 {
			t.Fatalf("headers %v, %d bytes", r.headers, r.s.got)
		}
		s.reply(r, 0, true, "grpc-status", "14")
		s.expect(r, "200 grpc 14")
		s.finish()
	})
	t.Run("time releases them", func(t *testing.T) {
		s := newScript(t, rt, nil)
		r := s.call(&rpc{grpc: true, reqLen: 5})
		s.reply(r, 0, false, headersOf(r)...)
		s.pass(50 * time.Millisecond)
		if r.headers {
			t.Fatal("the headers went out too early")
		}
		s.pass(100 * time.Millisecond)
		if !r.headers {
			t.Fatal("the headers still wait")
		}
		s.reply(r, 0, true, "grpc-status", "14")
		s.expect(r, "200 grpc 14")
		s.finish()
	})
	t.Run("an open request releases them", func(t *testing.T) {
		s := newScript(t, rt, nil)
		s.client.stingy = true
		r := s.call(&rpc{grpc: true, reqLen: 5000})
		s.reply(r, 0, false, headersOf(r)...)
		if !r.headers {
			t.Fatal("the headers wait")
		}
		s.reply(r, 0, true, "grpc-status", "0")
		s.expect(r, "200 grpc 0")
		s.finish()
	})
}

// TestPoolFillsThenQueues: connections are filled one after another, the rest
// waits in order, and the queue is bounded.
func TestPoolFillsThenQueues(t *testing.T) {
	s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) {
		o.MaxStreams, o.MaxConnections, o.MaxPending = 2, 2, 2
	})
	warm := s.call(&rpc{grpc: true})
	s.reply(warm, 0, true, trailersOnly(warm, "0")...)
	var rs []*rpc
	for range 7 {
		rs = append(rs, s.call(&rpc{grpc: true}))
	}
	perConn := map[*peer]int{}
	for _, r := range rs[:4] {
		p, _ := s.server(r, 0)
		perConn[p]++
	}
	if len(perConn) != 2 {
		t.Fatalf("%d connections, want 2", len(perConn))
	}
	for _, n := range perConn {
		if n != 2 {
			t.Fatalf("streams per connection: %v", perConn)
		}
	}
	s.expect(rs[4], "not ended")
	s.expect(rs[6], "200 grpc 14") // the queue is full
	if n := s.wk.core.Counters[2][call.UpstreamRqPendingOverflow]; n != 1 {
		t.Errorf("upstream_rq_pending_overflow = %d", n)
	}
	s.reply(rs[1], 0, true, trailersOnly(rs[1], "0")...)
	if len(rs[4].served) != 1 || len(rs[5].served) != 0 {
		t.Fatal("the queue is not served in order")
	}
	for _, r := range []*rpc{rs[0], rs[2], rs[3], rs[4], rs[5]} {
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	s.finish()
}

// TestQueueIsServedInOrder: a call that comes with the cancellation of another
// does not get its place before one that waits for it.
func TestQueueIsServedInOrder(t *testing.T) {
	s := newScript(t, nil, nil)
	s.opt.maxStreams = 1
	first := s.call(&rpc{grpc: true})
	waits := s.call(&rpc{grpc: true})
	late := &rpc{id: 3, grpc: true, mode: modeHang, cancelAfter: -1}
	s.rpcs = append(s.rpcs, late)
	s.client.rst(first.s, http2.ErrCodeCancel)
	first.end("cancelled")
	s.client.start(late)
	s.batch(func() { s.client.l.feed(1 << 20) })
	s.settleNow()
	if waits.arrived != 1 || late.arrived != 0 {
		t.Errorf("at the server: %d of the call that waited, %d of the one that came late", waits.arrived, late.arrived)
	}
	for _, r := range []*rpc{waits, late} {
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	s.finish()
}

// TestNoStreamBeforeSettings: calls wait for the server's SETTINGS, so that
// none is refused by a limit that they set.
func TestNoStreamBeforeSettings(t *testing.T) {
	s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxConnections = 1 })
	s.opt.maxStreams = 3
	var rs []*rpc
	for range 8 { // all of them before anything moves
		rs = append(rs, s.begin())
	}
	s.settleNow()
	for _, r := range rs {
		s.expect(r, "200 grpc 0")
		if r.refusals != 0 {
			t.Errorf("%v was refused", r)
		}
	}
	s.finish()
}

// TestUntakenConnection: calls wait on connections that a kernel has made and
// no process takes: they have not been sent, and go elsewhere when those end.
func TestUntakenConnection(t *testing.T) {
	s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxConnections = 1 })
	s.leave = 3
	var rs []*rpc
	for range 3 {
		rs = append(rs, s.begin())
	}
	s.settleNow()
	for _, r := range rs {
		s.expect(r, "200 grpc 0")
		if r.arrived != 1 {
			t.Errorf("%v reached %d servers", r, r.arrived)
		}
	}
	s.leave = 5
	s.hosts[0].retired = true // its connection is not used any more
	s.addHost(s.hosts[0].target.Options)
	r := s.begin()
	s.settleNow()
	s.expect(r, "200 grpc 14")
	s.finish()
}

// TestStoppingServer: a server that says GOAWAY with its SETTINGS is dialled as
// often as one that refuses, not until the call's deadline.
func TestStoppingServer(t *testing.T) {
	for stopping, want := range map[int]string{4: "200 grpc 0", 5: "200 grpc 14"} {
		s := newScript(t, nil, nil)
		s.stopping = stopping
		r := s.begin()
		s.settleNow()
		s.expect(r, want)
		if n := s.wk.core.Counters[2][call.UpstreamCxTotal]; n != 5 {
			t.Errorf("%d connections", n)
		}
		s.finish()
	}
}

// TestSilentServer: a server that never sends its SETTINGS is one that cannot
// be reached in time, which a call may meet once.
func TestSilentServer(t *testing.T) {
	for silent, want := range map[int]string{1: "200 grpc 0", 2: "200 grpc 14"} {
		s := newScript(t, nil, nil)
		r := s.begin()
		for range silent {
			for s.client.l.readable() {
				s.batch(func() { s.client.l.feed(1 << 20) })
			}
			l := s.links[len(s.links)-1]
			l.dialling = false
			s.batch(func() { l.k.dialed(nil) })
			s.expect(r, "not ended")
			s.now = s.now.Add(10*time.Second + 2*time.Millisecond)
			s.fireTimer()
			l.reset = true // the server ends, too
			s.batch(func() { l.feed(1) })
		}
		s.settleNow()
		s.expect(r, want)
		s.finish()
	}
}

// begin starts a call that is answered at once.
func (s *script) begin() *rpc {
	r := &rpc{id: uint64(len(s.rpcs) + 1), grpc: true, mode: modeTrailersOnly, cancelAfter: -1}
	s.rpcs = append(s.rpcs, r)
	s.client.start(r)
	return r
}

// TestSweep: a host that left its cluster finishes its streams and loses its
// connections.
func TestSweep(t *testing.T) {
	s := newScript(t, nil, nil)
	r := s.call(&rpc{grpc: true})
	s.addHost(s.hosts[0].target.Options)
	s.hosts[0].retired = true
	s.g.Sweep()
	s.settleNow()
	r2 := s.call(&rpc{grpc: true})
	if p, _ := s.server(r2, 0); p.l.host != s.hosts[1] {
		t.Fatal("the new call went to the old host")
	}
	s.reply(r, 0, true, trailersOnly(r, "0")...)
	s.expect(r, "200 grpc 0")
	s.reply(r2, 0, true, trailersOnly(r2, "0")...)
	if n := len(s.wk.order); n != 1 || len(s.wk.pools) != 1 {
		t.Fatalf("%d pools are left", n)
	}
	s.finish()
}

// TestCancelsAtDeadlines: a client that cancels its calls when their time is up,
// its own or that of a proxy in front of us, or after a second, is no attacker,
// however many they are; one that cancels them before is. Envoy's code for all
// of them is INTERNAL_ERROR.
func TestCancelsAtDeadlines(t *testing.T) {
	for _, tt := range []struct {
		timeout, told, after time.Duration
		code                 http2.ErrCode
		banned               bool
	}{
		{100 * time.Millisecond, 0, 100 * time.Millisecond, http2.ErrCodeCancel, false},
		{100 * time.Millisecond, 0, 76 * time.Millisecond, http2.ErrCodeCancel, false},
		{100 * time.Millisecond, 0, 76 * time.Millisecond, http2.ErrCodeInternal, false},
		{100 * time.Millisecond, 0, 70 * time.Millisecond, http2.ErrCodeCancel, true},
		{time.Millisecond, 0, 20 * time.Millisecond, http2.ErrCodeCancel, false},
		{time.Millisecond, 0, 15 * time.Millisecond, http2.ErrCodeCancel, true},
		{0, 100 * time.Millisecond, 76 * time.Millisecond, http2.ErrCodeInternal, false},
		{0, 100 * time.Millisecond, 70 * time.Millisecond, http2.ErrCodeInternal, true},
		{0, 0, 100 * time.Millisecond, http2.ErrCodeCancel, true},
		{0, 0, time.Second, http2.ErrCodeCancel, false},
		{10 * time.Second, 15 * time.Second, time.Second, http2.ErrCodeInternal, false},
	} {
		s := newScript(t, nil, nil)
		banned := false
		for range 30 {
			var rs []*rpc
			for range 20 {
				r := &rpc{grpc: true, told: tt.told}
				if tt.timeout > 0 {
					r.route, r.timeout = routeGRPC, tt.timeout
				}
				rs = append(rs, s.call(r))
			}
			s.now = s.now.Add(tt.after)
			for _, r := range rs {
				s.client.rst(r.s, tt.code)
				r.end("cancelled")
			}
			s.client.push()
			for s.client.l.readable() {
				s.batch(func() { s.client.l.feed(1 << 20) })
			}
			if banned = s.wk.downH2.RapidReset != 0; banned {
				break
			}
			s.settleNow()
		}
		if banned != tt.banned {
			t.Errorf("timeout %v, %v of the proxy, %v after %v: banned %v", tt.timeout, tt.told, tt.code, tt.after, banned)
		}
		if !banned {
			s.finish()
		}
	}
}

// TestCancelsAmongAnswered: of the calls of a connection half may be cancelled
// at once if upstreams answer the others; answers of our own do not count.
func TestCancelsAmongAnswered(t *testing.T) {
	for _, tt := range []struct {
		cancelled, answered int
		route               routeKind
		banned              bool
	}{
		{3, 7, routePlain, false},
		{5, 5, routePlain, false},
		{6, 4, routePlain, true},
		{3, 7, routeNone, true},
		{3, 7, routeReply, true},
	} {
		s := newScript(t, nil, nil)
		banned := false
		for range 150 {
			for range tt.answered {
				r := s.call(&rpc{grpc: true, route: tt.route})
				if tt.route == routePlain {
					s.reply(r, 0, true, trailersOnly(r, "0")...)
				}
			}
			for range tt.cancelled {
				r := s.call(&rpc{grpc: true})
				s.client.rst(r.s, http2.ErrCodeCancel)
				r.end("cancelled")
				s.client.push()
				for s.client.l.readable() {
					s.batch(func() { s.client.l.feed(1 << 20) })
				}
				if banned = s.wk.downH2.RapidReset != 0; banned {
					break
				}
				s.settleNow()
			}
			if banned = s.wk.downH2.RapidReset != 0; banned {
				break
			}
		}
		if banned != tt.banned {
			t.Errorf("%d cancelled for %d answered (%v): banned %v", tt.cancelled, tt.answered, tt.route, banned)
		}
		if !banned {
			s.finish()
		}
	}
}

// TestResetStreamsLinger: calls that a client has reset count until their
// attempts have ended, so that it cannot have more begun in one batch than twice
// what it may have open; and then they count no more.
func TestResetStreamsLinger(t *testing.T) {
	const limit = 5
	s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.HTTP2.MaxConcurrentStreams = limit })
	warm := s.call(&rpc{grpc: true}) // for a connection that takes calls at once
	s.reply(warm, 0, true, trailersOnly(warm, "0")...)
	s.client.l.in.cap = 1 << 20
	for round := uint64(1); round <= 2; round++ {
		for range 3 * limit {
			r := &rpc{id: uint64(len(s.rpcs) + 1), grpc: true, mode: modeHang, cancelAfter: -1}
			s.rpcs = append(s.rpcs, r)
			s.client.start(r)
			s.client.rst(r.s, http2.ErrCodeCancel)
			r.end("cancelled")
		}
		s.client.push()
		s.batch(func() { s.client.l.feed(1 << 20) })
		if n := s.wk.downH2.StreamsRefused; n != round*limit {
			t.Errorf("round %d: %d streams were refused, want %d", round, n, round*limit)
		}
		s.settleNow()
	}
	s.finish()
}

// TestCallsAfterCancelled: a client that resets all streams it may have may have
// as many others at once: it knows of no limit that would be exceeded.
func TestCallsAfterCancelled(t *testing.T) {
	const limit = 5
	s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.HTTP2.MaxConcurrentStreams = limit })
	s.client.l.in.cap = 1 << 20
	var first, second []*rpc
	for range limit {
		first = append(first, s.call(&rpc{grpc: true}))
	}
	for _, r := range first {
		s.client.rst(r.s, http2.ErrCodeCancel)
		r.end("cancelled")
	}
	for range limit {
		r := &rpc{id: uint64(len(s.rpcs) + 1), grpc: true, mode: modeHang, cancelAfter: -1}
		s.rpcs = append(s.rpcs, r)
		s.client.start(r)
		second = append(second, r)
	}
	s.client.push()
	s.batch(func() { s.client.l.feed(1 << 20) })
	s.settleNow()
	if n := s.wk.downH2.StreamsRefused; n != 0 {
		t.Errorf("%d streams were refused", n)
	}
	for _, r := range second {
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	s.finish()
}

// TestPatienceEndsWithItsCall: a client that had calls with deadlines may not
// cancel others that have none, in the places of those.
func TestPatienceEndsWithItsCall(t *testing.T) {
	s := newScript(t, nil, nil)
	var rs []*rpc
	for range 20 {
		rs = append(rs, s.call(&rpc{grpc: true, route: routeGRPC, timeout: 100 * time.Millisecond}))
	}
	for _, r := range rs {
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	s.pass(time.Second)
	for range 30 {
		rs = rs[:0]
		for range 20 {
			rs = append(rs, s.call(&rpc{grpc: true}))
		}
		for _, r := range rs {
			s.client.rst(r.s, http2.ErrCodeCancel)
			r.end("cancelled")
		}
		s.client.push()
		for s.client.l.readable() {
			s.batch(func() { s.client.l.feed(1 << 20) })
		}
		if s.wk.downH2.RapidReset != 0 {
			return
		}
		s.settleNow()
	}
	t.Error("600 calls without a deadline were cancelled, and nobody minds")
}

// cancelled makes a call that its client cancels when a server has it.
func cancelled(s *script) {
	r := s.call(&rpc{grpc: true})
	if len(r.served) != 1 {
		s.t.Fatalf("%v is not served", r)
	}
	s.client.rst(r.s, http2.ErrCodeCancel)
	r.end("cancelled")
	s.pass(20 * time.Millisecond)
}

// TestResetsWearOut: a connection on which clients' calls were cancelled often
// is replaced before its server takes it for an attack. Calls on it go on, and
// do not use up the places of connections that take new ones. While none can be
// had it stays.
func TestResetsWearOut(t *testing.T) {
	for maxConns, want := range map[uint32]uint64{4: 4, 1: 2} {
		s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxConnections = maxConns })
		long := s.call(&rpc{grpc: true})
		for range 3*wornResets + 1 {
			cancelled(s)
		}
		if n := s.wk.core.Counters[2][call.UpstreamCxTotal]; n != want {
			t.Errorf("%d connections, want %d", n, want)
		}
		s.reply(long, 0, true, trailersOnly(long, "0")...)
		s.expect(long, "200 grpc 0")
		s.dialsFail = true
		for range wornResets + 10 {
			cancelled(s)
		}
		s.finish()
	}
}

// TestEvict: over the memory budget calls of the connection that holds the most
// end with RESOURCE_EXHAUSTED at once; what it holds is free, other calls go on.
func TestEvict(t *testing.T) {
	s := newScript(t, nil, func(m *call.Manager, o *call.UpstreamOptions) {
		o.HTTP2.InitialStreamWindowSize = 400_000
	})
	budget := s.g.opt.MemoryBudget
	s.g.opt.MemoryBudget = 400_000 * windowShare // for that window
	s.client.deaf = true
	r := s.call(&rpc{grpc: true, respLen: 390_000})
	s.g.opt.MemoryBudget = budget
	s.reply(r, 0, false, headersOf(r)...)
	p, st := s.server(r, 0)
	s.client.stingy = false
	for st.sent < r.respLen && p.sendData(st, 16_000, r.respLen, false) {
		p.push()
		s.settleNow()
	}
	s.settleNow()
	if n := s.wk.core.Queued(); n != 0 {
		t.Fatalf("%d bytes queued, budget %d", n, s.wk.budget())
	}
	if n := s.wk.downH2.HeldOverflow; n != 1 {
		t.Errorf("held_overflow is %d, want 1", n)
	}
	s.expect(r, "200 grpc 8")
	r2 := s.call(&rpc{grpc: true})
	s.reply(r2, 0, true, trailersOnly(r2, "0")...)
	s.expect(r2, "200 grpc 0")
	s.client.deaf = false
	s.finish()
}

// TestPausingClient: a backend that sends as fast as its client takes it, until
// the client pauses, has filled a window that has grown. That alone is not over
// the budget.
func TestPausingClient(t *testing.T) {
	s := newScript(t, nil, nil)
	s.g.opt.MemoryBudget = 1 << 20
	r := s.call(&rpc{grpc: true, respLen: 8 << 20})
	s.reply(r, 0, false, headersOf(r)...)
	p, st := s.server(r, 0)
	pour := func(n int) {
		for st.sent < n && p.sendData(st, 16_000, n, false) {
			p.push()
			s.settleNow()
		}
	}
	pour(4 << 20)
	if st.sent != 4<<20 {
		t.Fatalf("%d bytes sent", st.sent)
	}
	s.client.deaf = true
	pour(8 << 20)
	if n := s.wk.downH2.HeldOverflow; n != 0 || r.done {
		t.Errorf("held_overflow is %d, done is %v", n, r.done)
	}
	if n := s.wk.core.Queued(); n <= 128<<10 || st.sent == 8<<20 {
		t.Errorf("the backend has sent %d bytes, %d are held: its window has not grown", st.sent, n)
	}
	s.client.deaf = false
	s.cancelAll()
	s.finish()
}

// TestPausingClients: nor are some clients that pause while as large a window
// is configured as Envoy has by default.
func TestPausingClients(t *testing.T) {
	s := newScript(t, nil, func(m *call.Manager, o *call.UpstreamOptions) {
		m.HTTP2.InitialStreamWindowSize, o.HTTP2.InitialStreamWindowSize = 16<<20, 16<<20
	})
	s.g.opt.MemoryBudget = 8 << 20
	for range 4 {
		s.client = s.connect()
		s.settleNow()
		s.client.deaf = true
		r := s.call(&rpc{grpc: true, respLen: 8 << 20})
		s.reply(r, 0, false, headersOf(r)...)
		p, st := s.server(r, 0)
		for st.sent < r.respLen && p.sendData(st, 16_000, r.respLen, false) {
			p.push()
			s.settleNow()
		}
		if st.sent < 8<<20/windowShare {
			t.Fatalf("the backend may send %d bytes", st.sent)
		}
	}
	for _, r := range s.rpcs {
		if r.done {
			t.Errorf("ended: %v", r)
		}
		r.client.deaf = false
		r.client.rst(r.s, http2.ErrCodeCancel)
		r.end("cancelled")
	}
	s.finish()
	for conf, want := range map[uint32]int64{0: 64 << 10, 1000: 1000, 200_000: 200_000, 16 << 20: 1 << 20} {
		if c := s.wk.fitWindow(serverConfig(&call.Manager{HTTP2: call.HTTP2Options{InitialStreamWindowSize: conf}})); c.StreamWindow != want {
			t.Errorf("of %d configured a stream gets %d, want %d", conf, c.StreamWindow, want)
		}
	}
}

// TestEvictSparesReaders: over the budget the call of a client that reads is
// not what ends, though it holds the most because it is fast, but those of
// clients that do not read. When it has stopped, too, it is its turn, whatever
// it sends meanwhile.
func TestEvictSparesReaders(t *testing.T) {
	s := newScript(t, nil, nil)
	s.g.opt.MemoryBudget = 1 << 20
	start := func(reqLen int) (r *rpc, pour func(n int)) {
		r = s.call(&rpc{grpc: true, reqLen: reqLen, respLen: 16 << 20})
		s.reply(r, 0, false, headersOf(r)...)
		p, st := s.server(r, 0)
		return r, func(n int) {
			for n += st.sent; st.sent < n && !r.done && p.sendData(st, 16_000, n, false); {
				p.push()
				s.settleNow()
			}
		}
	}
	reader := s.client
	reader.stingy = true
	fast, pour := start(5000)
	pour(4 << 20)
	var idle []*rpc
	stall := func(n int) {
		for range n {
			s.client = s.connect()
			s.settleNow()
			s.client.deaf = true
			r, pour := start(0)
			pour(1 << 20)
			idle = append(idle, r)
		}
	}
	ended := func() (n int) {
		for _, r := range idle {
			if r.done {
				n++
			}
		}
		return n
	}
	stall(4)
	s.pass(2 * time.Second)
	for i := 0; i < 16 && ended() == 0 && !fast.done; i++ {
		stall(1)
		reader.deaf = true // until its window is full
		pour(4 << 20)
		reader.deaf = false
		s.settleNow()
	}
	if n := ended(); n == 0 || fast.done {
		t.Fatalf("%d calls of clients that do not read ended, the reader's: %v", n, fast)
	}
	reader.deaf = true
	pour(4 << 20)
	s.pass(2 * time.Second)
	for n := len(idle); len(idle) < n+16 && !fast.done; {
		reader.sendData(fast.s, 1, fast.reqLen, false)
		reader.push()
		s.settleNow()
		stall(1)
	}
	if !fast.done {
		t.Error("the call that holds the most goes on, and its client has read nothing for seconds")
	}
	for _, r := range s.rpcs {
		r.client.deaf = false
		if !r.done {
			r.client.rst(r.s, http2.ErrCodeCancel)
			r.end("cancelled")
		}
	}
	s.finish()
}

// TestWindowsGrowByTheBudget: all windows of the process together grow by no
// more than the memory budget, those of a worker's streams by no more than half
// of its share, and make room again when they go.
func TestWindowsGrowByTheBudget(t *testing.T) {
	s := newScript(t, nil, nil)
	all := s.g.opt.MemoryBudget
	for i, step := range []struct {
		n    int64
		lent bool
		ok   bool
	}{
		{all - 1, false, true}, {2, false, false}, {1, false, true}, {1, false, false}, {-all, false, true}, {all, false, true}, {-all, false, true},
		{all/2 + 1, true, false}, {all / 2, true, true}, {1, true, false}, {all / 2, false, true}, {1, false, false},
		{-all / 2, true, true}, {1, true, true}, {-1, true, true}, {-all / 2, false, true},
	} {
		if ok := s.wk.grow(step.n, step.lent); ok != step.ok {
			t.Errorf("step %d: growing by %d: %v, want %v", i, step.n, ok, step.ok)
		}
	}
	s.finish()
}

// TestEvictKept: memory that requests take which have left, and are kept for
// another attempt, is freed first; no call ends for it.
func TestEvictKept(t *testing.T) {
	s := newScript(t, &call.Route{Retry: &call.RetryPolicy{On: call.Retry5xx, Max: 1, BufferLimit: 200_000}}, nil)
	var rs []*rpc
	for range 4 {
		rs = append(rs, s.call(&rpc{grpc: true, reqLen: 150_000}))
	}
	for _, r := range rs {
		if _, st := s.server(r, 0); st.got != r.reqLen {
			t.Fatalf("the server has %d bytes", st.got)
		}
		s.reply(r, 0, true, trailersOnly(r, "0")...)
		s.expect(r, "200 grpc 0")
	}
	s.finish()
}

// TestEvictSmall: many small answers that a client does not read are counted
// with what they take, not with their bytes.
func TestEvictSmall(t *testing.T) {
	s := newScript(t, nil, nil)
	s.client.deaf = true
	blocker := s.call(&rpc{grpc: true, respLen: 100_000}) // takes the connection's window
	s.reply(blocker, 0, false, headersOf(blocker)...)
	p, st := s.server(blocker, 0)
	s.data(p, st, 70_000, false)
	ended := 0
	for range 90 {
		r := s.call(&rpc{grpc: true, respLen: 1000})
		s.reply(r, 0, false, headersOf(r)...)
		p, st := s.server(r, 0)
		s.data(p, st, 1000, false)
		if r.done {
			ended++
		}
		if m := s.wk.core.Memory(); m > s.wk.budget() {
			t.Fatalf("%d bytes of memory, budget %d", m, s.wk.budget())
		}
	}
	if n := s.wk.downH2.HeldOverflow; n == 0 {
		t.Error("90 KB of payload in 90 calls took less than 256 KiB")
	}
	s.cancelAll()
	s.client.deaf = false
	s.finish()
}

// TestEvictTrailers: trailers that wait behind payload that a client does not
// read, and headers that wait for a filter, are memory, too.
func TestEvictTrailers(t *testing.T) {
	large := strings.Repeat("x", 10_000)
	for name, tt := range map[string]struct {
		filters []call.FilterFactory
		answer  func(s *script, r *rpc)
	}{
		"trailers": {nil, func(s *script, r *rpc) {
			s.reply(r, 0, false, headersOf(r)...)
			p, st := s.server(r, 0)
			s.data(p, st, 1, false)
			s.reply(r, 0, true, "grpc-status", "0", "x-large", large)
		}},
		"headers": {[]call.FilterFactory{filterFunc(func(*call.Call) call.Filter {
			return &scriptFilter{response: func(h *hpack.Block) error {
				if _, ok := h.GetName("x-large"); ok {
					return call.ErrPending
				}
				return nil
			}}
		})}, func(s *script, r *rpc) { s.reply(r, 0, false, append(headersOf(r), "x-large", large)...) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.Filters = tt.filters })
			s.blockReplies()
			for range 50 {
				r := s.call(&rpc{grpc: true, respLen: 1})
				tt.answer(s, r)
				if m := s.wk.core.Memory(); m > s.wk.budget() {
					t.Fatalf("%d bytes of memory, budget %d", m, s.wk.budget())
				}
			}
			if n := s.wk.downH2.HeldOverflow; n == 0 {
				t.Errorf("500 KB that wait in 50 calls took %d bytes", s.wk.core.Memory())
			}
			s.cancelAll()
			s.client.deaf = false
			s.finish()
		})
	}
}

// TestPeekedIsMemory: what a director has seen of a request stays until the
// call's end, and is memory for as long.
func TestPeekedIsMemory(t *testing.T) {
	s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.Director = peeking{m.Director} })
	const size = simBlock
	r := s.call(&rpc{grpc: true, reqLen: size})
	s.reply(r, 0, false, headersOf(r)...) // the request is not kept for a retry any more
	if m := s.wk.core.Memory(); m < size/2 {
		t.Errorf("%d bytes of memory, with a message of %d that a director has seen", m, size)
	}
	s.cancelAll()
	s.settleNow()
	if m := s.wk.core.Memory(); m != 0 {
		t.Errorf("%d bytes of memory after the call", m)
	}
	s.finish()
}

// peeking is a Director that looks at the first message before another decides.
type peeking struct{ call.Director }

func (p peeking) Direct(c *call.Call) (call.Decision, error) {
	if !c.Peek.Done {
		return call.Decision{}, call.ErrPeek
	}
	return p.Director.Direct(c)
}

// TestDrainLetsCallsFinish: two GOAWAYs, the call in progress ends well, then
// the connection closes.
func TestDrainLetsCallsFinish(t *testing.T) {
	s := newScript(t, nil, nil)
	r := s.call(&rpc{grpc: true})
	s.g.Drain(func(ch *Chain) bool { return ch == s.chain }, time.Minute)
	s.settleNow()
	if !s.client.goawaySeen {
		t.Fatal("no GOAWAY")
	}
	s.pass(2 * time.Second)
	s.reply(r, 0, true, trailersOnly(r, "0")...)
	s.expect(r, "200 grpc 0")
	s.pass(2 * time.Second)
	if !s.client.sawEnd || s.wk.downs != 0 {
		t.Fatal("the connection is still there")
	}
	s.finish()
}

// TestDeadlineWhilePaused: the deadline runs while the Director thinks.
func TestDeadlineWhilePaused(t *testing.T) {
	s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.MaxStreamDuration = time.Second })
	s.keepPaused = true
	r := s.call(&rpc{grpc: true, reqLen: 2000, pause: true})
	s.pass(2 * time.Second)
	s.expect(r, "200 grpc 4")
	r.handle.Resume(nil) // too late, and harmless
	s.paused = nil
	s.settleNow()
	s.finish()
	if r.directed != 1 || len(r.served) != 0 {
		t.Errorf("directed %d times, served %d", r.directed, len(r.served))
	}
}

// TestPanicCostsItsConnection: a panic in the core ends the connection it
// happened on; the worker and its other connections live.
func TestPanicCostsItsConnection(t *testing.T) {
	bomb := true
	op := call.HeaderOp{Field: hpack.NewField("x-a", ""), Value: func(*call.Call, *call.Outcome) string {
		if bomb {
			panic("sim: a bug")
		}
		return "fine"
	}}
	s := newScript(t, &call.Route{RequestOps: []call.HeaderOp{op}}, nil)
	s.g.opt.Debug = false
	other := s.connect()
	r := s.call(&rpc{grpc: true})
	s.expect(r, "lost")
	bomb = false
	s.client = other
	r2 := s.call(&rpc{grpc: true})
	s.reply(r2, 0, true, trailersOnly(r2, "0")...)
	s.expect(r2, "200 grpc 0")
	s.finish()
}

// TestPanicOutsideEvents: a panic in a call that goes on because somebody has
// resumed it, its time has come or its memory is needed costs its client's
// connection, too, and no more.
func TestPanicOutsideEvents(t *testing.T) {
	for name, explode := range map[string]func(s *script, r *rpc){
		"resumed":       func(_ *script, r *rpc) { r.handle.Resume(nil) },
		"its time came": func(s *script, _ *rpc) { s.pass(3 * time.Second) },
		"evicted":       func(s *script, _ *rpc) { s.g.opt.MemoryBudget = 1; s.batch(func() {}) },
		"drain deadline": func(s *script, _ *rpc) {
			s.g.Drain(func(*Chain) bool { return true }, time.Second)
			s.pass(1500 * time.Millisecond)
		},
		"killed": func(s *script, _ *rpc) { s.batch(func() { s.wk.eachDown((*downConn).drainDeadline) }) },
	} {
		t.Run(name, func(t *testing.T) {
			bomb := false
			op := call.HeaderOp{Field: hpack.NewField("x-a", ""), Value: func(*call.Call, *call.Outcome) string {
				if bomb {
					bomb = false
					panic("sim: a bug")
				}
				return "fine"
			}}
			ops := []call.HeaderOp{op}
			s := newScript(t, &call.Route{RequestOps: ops, ResponseOps: ops, MaxStreamDuration: 3 * time.Second}, nil)
			s.g.opt.Debug = false
			s.keepPaused = true
			warm := s.call(&rpc{grpc: true})
			s.reply(warm, 0, true, trailersOnly(warm, "0")...)
			p, _ := s.server(warm, 0)
			p.deaf = true
			r := s.call(&rpc{grpc: true, reqLen: 100_000, pause: name == "resumed"})
			bomb = true
			explode(s, r)
			s.settleNow()
			s.expect(r, "lost")
			if bomb {
				t.Error("nothing has panicked")
			}
			s.g.opt.MemoryBudget = 256 << 10
			p.deaf = false
			s.client = s.connect()
			other := s.call(&rpc{grpc: true})
			s.reply(other, 0, true, trailersOnly(other, "0")...)
			s.expect(other, "200 grpc 0")
			s.paused = nil
			s.finish()
		})
	}
}

// TestPanicAfterTheEnd: a panic that no connection pays for is logged all the
// same.
func TestPanicAfterTheEnd(t *testing.T) {
	s := newScript(t, nil, nil)
	s.g.opt.Debug = false
	var log bytes.Buffer
	s.g.opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	func() {
		defer s.wk.contain(new(relay.Downstream), "timer")
		panic("sim: a bug")
	}()
	if got := log.String(); !strings.Contains(got, "event=timer") || !strings.Contains(got, "sim: a bug") {
		t.Errorf("logged: %q", got)
	}
	s.finish()
}

// TestPanicWhileClosing: a panic at the end of a call does not keep its
// connection's end from the other calls, nor from the worker, which could not
// shut down.
func TestPanicWhileClosing(t *testing.T) {
	s := newScript(t, nil, nil)
	s.g.opt.Debug = false
	for range 3 {
		s.call(&rpc{grpc: true})
	}
	s.wk.core.Record = func(*call.Call, *call.Outcome) { panic("sim: a bug") }
	s.client.cut(true)
	s.settleNow()
	s.wk.core.Record = s.record
	if n := s.wk.core.Attempts(); s.wk.downs != 0 || n != 0 {
		t.Errorf("%d connections of clients and %d attempts are left", s.wk.downs, n)
	}
	s.shutdown()
}

// TestRetiredWhileDialled: a connection that comes when its host is gone
// already serves those who wait for it, and ends.
func TestRetiredWhileDialled(t *testing.T) {
	s := newScript(t, nil, nil)
	r := &rpc{id: 1, grpc: true, mode: modeHang, cancelAfter: -1}
	s.rpcs = append(s.rpcs, r)
	s.client.start(r)
	for s.client.l.readable() {
		s.batch(func() { s.client.l.feed(1 << 20) })
	}
	if n := s.wk.order[0].dials; n != 1 {
		t.Fatalf("%d dials", n)
	}
	s.hosts[0].retired = true
	s.g.Sweep()
	s.settleNow()
	s.reply(r, 0, true, trailersOnly(r, "0")...)
	s.expect(r, "200 grpc 0")
	if n := len(s.wk.order); n != 0 {
		t.Fatalf("%d pools are left", n)
	}
	s.finish()
}

// TestLongDial: a dial has the time that is configured for it. What is awaited
// of the server is awaited from its end.
func TestLongDial(t *testing.T) {
	s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.ConnectTimeout = 30 * time.Second })
	r := s.begin()
	for s.client.l.readable() {
		s.batch(func() { s.client.l.feed(1 << 20) })
	}
	for range 15 {
		s.now = s.now.Add(time.Second)
		s.fireTimer()
	}
	s.settleNow()
	s.expect(r, "200 grpc 0")
	if n := s.wk.core.Counters[2][call.UpstreamCxTotal]; n != 1 {
		t.Errorf("%d connections", n)
	}
	s.finish()
}

// TestShutdownCutsWhatIsLeft: when the context ends, calls in progress get
// UNAVAILABLE before their connections close.
func TestShutdownCutsWhatIsLeft(t *testing.T) {
	s := newScript(t, nil, nil)
	r := s.call(&rpc{grpc: true})
	s.wk.post(msg{kind: msgKill})
	s.settleNow()
	s.expect(r, "200 grpc 14")
	s.finish()
}

// TestFailedDialWaits: while a full connection lives, a host that refuses
// another one is not dialled again at once.
func TestFailedDialWaits(t *testing.T) {
	s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxStreams, o.MaxConnections = 1, 2 })
	r1 := s.call(&rpc{grpc: true})
	s.dialsFail = true
	r2 := s.call(&rpc{grpc: true})
	s.expect(r2, "not ended")
	before := len(s.links)
	s.pass(200 * time.Millisecond)
	if n := len(s.links) - before; n != 0 {
		t.Fatalf("%d dials in 200 ms", n)
	}
	s.reply(r1, 0, true, trailersOnly(r1, "0")...)
	s.reply(r2, 0, true, trailersOnly(r2, "0")...)
	s.expect(r2, "200 grpc 0")
	s.finish()
}

// TestFailedDialIsRepeated: a call that waits behind calls that may last for
// ever gets its connection when the host takes one again, though nothing else
// happens.
func TestFailedDialIsRepeated(t *testing.T) {
	s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxStreams, o.MaxConnections = 1, 2 })
	r1 := s.call(&rpc{grpc: true})
	s.dialsFail = true
	r2 := s.call(&rpc{grpc: true})
	s.pass(time.Second)
	s.expect(r2, "not ended")
	s.dialsFail = false
	s.pass(300 * time.Millisecond)
	s.reply(r2, 0, true, trailersOnly(r2, "0")...)
	s.expect(r2, "200 grpc 0")
	s.reply(r1, 0, true, trailersOnly(r1, "0")...)
	s.finish()
}

// TestNoResetAfterTheEnd: an attempt whose stream both sides have ended is not
// reset when the call is tried again.
func TestNoResetAfterTheEnd(t *testing.T) {
	s := newScript(t, &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, Max: 1, BackOffBase: 1}}, nil)
	r := s.call(&rpc{grpc: true, reqLen: 10})
	_, first := s.server(r, 0)
	s.reply(r, 0, true, trailersOnly(r, "14")...)
	s.pass(10 * time.Millisecond)
	if first.reset {
		t.Error("the first attempt's stream got RST_STREAM")
	}
	s.reply(r, 1, true, trailersOnly(r, "0")...)
	s.expect(r, "200 grpc 0")
	s.finish()
}

// TestBackendsDeadline: a backend that counts the same deadline and resets the
// call a moment before our timer runs is taken for what it is, one that cancels
// earlier too.
func TestBackendsDeadline(t *testing.T) {
	const timeout = 50 * time.Millisecond
	for at, want := range map[time.Duration]string{
		timeout - time.Millisecond: "200 grpc 4",
		timeout / 2:                "200 grpc 1",
	} {
		s := newScript(t, nil, nil)
		r := s.call(&rpc{grpc: true, timeout: timeout, route: routeGRPC})
		s.pass(at)
		p, st := s.server(r, 0)
		p.rst(st, http2.ErrCodeCancel)
		p.push()
		s.settleNow()
		s.expect(r, want)
		s.finish()
	}
}

// TestRetryTooLate: a response that would be retried, had the call the time for
// it, goes to the client as it is: trailers-only, with a body, and when only
// the trailers say what it is.
func TestRetryTooLate(t *testing.T) {
	const timeout = 50 * time.Millisecond
	route := func() *call.Route {
		return &call.Route{Timeout: timeout, Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, HTTPCodes: []int{503}, Max: 3, BackOffBase: 1}}
	}
	late := func(t *testing.T) (*script, *rpc) {
		s := newScript(t, route(), nil)
		r := s.call(&rpc{grpc: true, reqLen: 10})
		s.reply(r, 0, true, trailersOnly(r, "14")...)
		s.pass(timeout - time.Millisecond/2) // the second attempt waits meanwhile
		if len(r.served) != 2 {
			t.Fatalf("%d attempts, want 2", len(r.served))
		}
		return s, r
	}
	t.Run("trailers only", func(t *testing.T) {
		s, r := late(t)
		s.reply(r, 1, true, trailersOnly(r, "14")...)
		s.expect(r, "200 grpc 14")
		s.finish()
	})
	t.Run("body", func(t *testing.T) {
		s, r := late(t)
		p, st := s.server(r, 1)
		s.respond(p, st, false, ":status", "503", "content-type", "application/grpc", "x-id", strconv.FormatUint(r.id, 10))
		s.respond(p, st, true, "grpc-status", "14")
		s.expect(r, "503 grpc 14")
		s.finish()
	})
	t.Run("trailers", func(t *testing.T) {
		s, r := late(t)
		p, st := s.server(r, 1)
		s.respond(p, st, false, headersOf(r)...)
		s.respond(p, st, true, "grpc-status", "14")
		s.expect(r, "200 grpc 14")
		s.finish()
	})
}

// TestMaxRetries: a retry counts against its cluster from the decision until
// the next one or the end of the call; without room there is none.
func TestMaxRetries(t *testing.T) {
	s := newScript(t, &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, Max: 3, BackOffBase: 1}}, nil)
	s.hosts[0].maxRetries = 1
	first, second := s.call(&rpc{grpc: true}), s.call(&rpc{grpc: true})
	s.reply(first, 0, true, trailersOnly(first, "14")...)
	s.pass(time.Millisecond)
	s.reply(first, 1, true, trailersOnly(first, "14")...) // its own place is free again
	s.pass(time.Millisecond)
	s.reply(second, 0, true, trailersOnly(second, "14")...)
	s.expect(second, "200 grpc 14")
	s.reply(first, 2, true, trailersOnly(first, "0")...)
	s.expect(first, "200 grpc 0")

	third := s.call(&rpc{grpc: true})
	s.reply(third, 0, true, trailersOnly(third, "14")...)
	s.pass(time.Millisecond)
	third.cancelAfter = 0
	s.settleNow()
	s.expect(third, "cancelled")
	if n := s.hosts[0].retries; n != 0 {
		t.Errorf("%d retries are still counted", n)
	}
	c := s.wk.core.Counters[2]
	if c[call.UpstreamRqRetry] != 3 || c[call.UpstreamRqRetryOverflow] != 1 {
		t.Errorf("upstream_rq_retry = %d, upstream_rq_retry_overflow = %d", c[call.UpstreamRqRetry], c[call.UpstreamRqRetryOverflow])
	}
	s.finish()
}

// TestNoHost: a call without a host is counted for its cluster.
func TestNoHost(t *testing.T) {
	s := newScript(t, nil, nil)
	s.hosts[0].retired = true
	r := s.call(&rpc{grpc: true})
	s.expect(r, "200 grpc 14")
	if n := s.wk.core.Counters[2][call.UpstreamCxNoneHealthy]; n != 1 {
		t.Errorf("upstream_cx_none_healthy = %d", n)
	}
	s.finish()
}

// TestDrainingConnections: streams that go on for hours on connections whose server
// has said GOAWAY, be they ever so many, keep no call from the host; but one
// that says it to each connection gets only one a second beyond some.
func TestDrainingConnections(t *testing.T) {
	for _, conns := range []int{1, 4} {
		s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxConnections = uint32(conns) })
		var rs []*rpc
		for i := range maxDraining*conns + 3 {
			r := s.call(&rpc{grpc: true})
			rs = append(rs, r)
			if i > maxDraining*conns {
				s.pass(beyondPause - time.Millisecond)
				if len(r.served) != 0 {
					t.Errorf("connection %d came at once", i+1)
				}
				s.pass(5 * time.Millisecond)
			}
			p, st := s.server(r, 0)
			p.goawaySent, p.goawayLast = true, st.id
			if err := p.fr.WriteGoAway(st.id, http2.ErrCodeNo, nil); err != nil {
				t.Fatal(err)
			}
			s.settleNow()
		}
		for _, r := range rs {
			s.reply(r, 0, true, trailersOnly(r, "0")...)
			s.expect(r, "200 grpc 0")
		}
		s.finish()
	}
}

// TestFailedDialWhileOthersDrain: connections that only finish their streams
// are no hope for those that wait: a failed dial answers them at once.
func TestFailedDialWhileOthersDrain(t *testing.T) {
	s := newScript(t, nil, nil)
	r1 := s.call(&rpc{grpc: true})
	p, st := s.server(r1, 0)
	p.goawaySent, p.goawayLast = true, st.id
	if err := p.fr.WriteGoAway(st.id, http2.ErrCodeNo, nil); err != nil {
		t.Fatal(err)
	}
	s.settleNow()
	s.dialsFail = true
	r2 := s.call(&rpc{grpc: true})
	s.expect(r2, "200 grpc 14")
	s.reply(r1, 0, true, trailersOnly(r1, "0")...)
	s.expect(r1, "200 grpc 0")
	s.finish()
}

package worker

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// script is a world without chance: one client, one server, one call after
// another, every step written down by the test.
type script struct {
	*world
	client *peer
}

// newScript returns a script whose calls have route rt.
func newScript(t *testing.T, rt *call.Route, setup func(m *call.Manager, o *call.UpstreamOptions)) *script {
	w := &world{t: t, now: 1e6, hash: fnv.New64a(), faults: map[string]int{}, calm: true, scripted: true}
	w.rnd = rand.New(rand.NewPCG(7, 7))
	w.route = rt
	w.set = &simSet{w: w}
	m := &call.Manager{Scope: call.Scope{Index: 1}, Director: w.set}
	o := &call.UpstreamOptions{Cluster: call.Scope{Index: 2}, MaxConnections: 1}
	if setup != nil {
		setup(m, o)
	}
	w.chain = NewChain(m)
	w.addHost(o)
	w.g = NewGroup(Options{
		N: 1, Seed: 1, Debug: true, Record: w.record, MemoryBudget: 256 << 10,
		NewDriver: func(*Worker) Driver { return &simDriver{w} },
	})
	w.wk = w.g.workers[0]
	s := &script{world: w}
	s.client = w.connect()
	s.settleNow()
	return s
}

// settleNow lets everything move that can without time passing.
func (s *script) settleNow() {
	for range 1000 {
		if !s.moveAll() {
			return
		}
	}
	s.t.Fatal("the script does not come to rest")
}

// pass lets time pass, in steps, so that nobody's timers are missed.
func (s *script) pass(d time.Duration) {
	for until := s.now.Add(d); s.now < until; {
		s.now = min(until, s.now.Add(50*time.Millisecond))
		s.fireTimer()
		s.settleNow()
	}
}

// call starts a call; its server is told what to do by the test.
func (s *script) call(r *rpc) *rpc {
	r.id = uint64(len(s.rpcs) + 1)
	r.mode, r.cancelAfter = modeHang, -1
	s.rpcs = append(s.rpcs, r)
	s.client.start(r)
	s.settleNow()
	return r
}

// cancelAll resets all calls that have not ended.
func (s *script) cancelAll() {
	for _, r := range s.rpcs {
		if !r.done {
			s.client.rst(r.s, http2.ErrCodeCancel)
			r.end("cancelled")
		}
	}
}

// server returns the connection and the stream on which r's n-th attempt came.
func (s *script) server(r *rpc, n int) (*peer, *pstream) {
	s.t.Helper()
	if n >= len(r.served) {
		s.t.Fatalf("attempt %d did not reach a server: %v", n, r)
	}
	p := r.served[n].p
	for _, id := range p.order {
		if st := p.streams[id]; st.attempt == r.served[n] {
			return p, st
		}
	}
	s.t.Fatalf("no stream of attempt %d", n)
	return nil, nil
}

func (s *script) respond(p *peer, st *pstream, end bool, kv ...string) {
	p.writeHeaders(st, end, kv...)
	s.settleNow()
}

// data sends n bytes of the response's pattern.
func (s *script) data(p *peer, st *pstream, n int, end bool) {
	for total := st.sent + n; st.sent < total; {
		if !p.sendData(st, total-st.sent, total, end) {
			s.settleNow()
		}
		p.push()
	}
	s.settleNow()
}

func (s *script) finish() {
	s.t.Helper()
	s.settleNow()
	if s.failure != "" {
		s.t.Fatal(s.failure)
	}
	s.checkRest()
	s.shutdown()
}

// stateOf is what the client has got before the cause.
type stateOf string

const (
	gotNothing  stateOf = "nothing"
	gotHeaders  stateOf = "headers"
	gotData     stateOf = "data"
	gotBlocked  stateOf = "blocked data" // DATA waits for the client's window
	gotTrailers stateOf = "trailers queued"
)

// TestLocalReplies walks the table of docs/core.md, "Local replies": what the client gets,
// by what it has got before, why the call ends, and whether it is gRPC.
func TestLocalReplies(t *testing.T) {
	type want struct{ grpc, other string }
	tests := []struct {
		cause string
		want  map[stateOf]want
	}{
		{"deadline", map[stateOf]want{
			gotNothing:  {"200 grpc 4", "504"},
			gotHeaders:  {"200 grpc 4", "reset INTERNAL_ERROR"},
			gotData:     {"200 grpc 4", "reset INTERNAL_ERROR"},
			gotBlocked:  {"200 grpc 4", "reset INTERNAL_ERROR"},
			gotTrailers: {"200 grpc 4", "reset INTERNAL_ERROR"},
		}},
		{"connection lost", map[stateOf]want{
			gotNothing: {"200 grpc 14", "503"},
			gotHeaders: {"200 grpc 14", "reset INTERNAL_ERROR"},
			gotData:    {"200 grpc 14", "reset INTERNAL_ERROR"},
			gotBlocked: {"200 grpc 14", "reset INTERNAL_ERROR"},
		}},
		{"reset CANCEL", map[stateOf]want{
			gotNothing: {"200 grpc 1", "503"},
			gotHeaders: {"reset CANCEL", "reset CANCEL"},
			gotData:    {"reset CANCEL", "reset CANCEL"},
			gotBlocked: {"reset CANCEL", "reset CANCEL"},
		}},
		{"reset INADEQUATE_SECURITY", map[stateOf]want{
			gotNothing: {"200 grpc 7", "503"},
			gotHeaders: {"reset INADEQUATE_SECURITY", "reset INADEQUATE_SECURITY"},
		}},
		{"malformed", map[stateOf]want{
			gotNothing: {"200 grpc 13", "502"},
			gotHeaders: {"200 grpc 13", "reset INTERNAL_ERROR"},
		}},
		{"drain deadline", map[stateOf]want{
			gotNothing: {"200 grpc 14", "503"},
			gotHeaders: {"200 grpc 14", "reset INTERNAL_ERROR"},
			gotData:    {"200 grpc 14", "reset INTERNAL_ERROR"},
			gotBlocked: {"200 grpc 14", "reset INTERNAL_ERROR"},
		}},
		{"idle", map[stateOf]want{
			gotNothing: {"200 grpc 4", "408"},
			gotHeaders: {"200 grpc 4", "reset INTERNAL_ERROR"},
			gotBlocked: {"200 grpc 4", "reset INTERNAL_ERROR"},
		}},
	}
	for _, tt := range tests {
		for state, want := range tt.want {
			for _, grpc := range []bool{true, false} {
				for _, open := range []bool{false, true} {
					name := fmt.Sprintf("%s/%s/grpc=%v/open=%v", tt.cause, state, grpc, open)
					expect := want.other
					if grpc {
						expect = want.grpc
					}
					t.Run(name, func(t *testing.T) { localReply(t, tt.cause, state, grpc, open, expect) })
				}
			}
		}
	}
}

func localReply(t *testing.T, cause string, state stateOf, grpc, open bool, want string) {
	rt := &call.Route{}
	switch cause {
	case "deadline":
		rt.MaxStreamDuration = 500 * time.Millisecond
	case "idle":
		rt.IdleTimeout = 500 * time.Millisecond
	}
	s := newScript(t, rt, nil)
	blocked := state == gotBlocked || state == gotTrailers
	r := &rpc{grpc: grpc, reqLen: 100, respLen: 200_000}
	if open {
		r.reqLen = 1 << 30 // never ends
		s.client.stingy = true
	}
	s.client.deaf = blocked
	s.call(r)
	p, st := s.server(r, 0)
	if state != gotNothing {
		kv := []string{":status", "200", "x-id", strconv.FormatUint(r.id, 10)}
		if grpc {
			kv = append(kv, "content-type", "application/grpc")
		}
		s.respond(p, st, false, kv...)
	}
	switch state {
	case gotData:
		s.data(p, st, 1000, false)
	case gotBlocked, gotTrailers:
		s.data(p, st, 100_000, false)
	}
	if state == gotTrailers {
		s.respond(p, st, true, "grpc-status", "0")
	}
	if r.done {
		t.Fatalf("ended before its cause: %v", r)
	}
	switch cause {
	case "deadline", "idle":
		s.pass(time.Second)
	case "connection lost":
		p.cut(true)
	case "drain deadline":
		s.g.Drain(func(*Chain) bool { return true }, 500*time.Millisecond)
		s.pass(time.Second)
	case "malformed":
		if state == gotNothing {
			p.writeHeaders(st, false, ":status", "200", "Upper-Case", "x")
		} else {
			p.writeHeaders(st, false, "x-trailers", "without END_STREAM")
		}
	case "reset CANCEL":
		p.rst(st, http2.ErrCodeCancel)
	case "reset INADEQUATE_SECURITY":
		p.rst(st, http2.ErrCodeInadequateSecurity)
	}
	s.settleNow()
	if got := r.outcome(); got != want {
		t.Errorf("the client got %q, want %q: %v", got, want, r)
	}
	if open && r.result == "replied" && !r.s.reset {
		t.Error("the open request was not stopped by RST_STREAM(NO_ERROR)")
	}
	if r.records != 1 {
		t.Errorf("recorded %d times", r.records)
	}
	s.client.deaf = false
	s.finish()
}

// outcome is what the client saw, in words.
func (r *rpc) outcome() string {
	switch {
	case !r.done:
		return "not ended"
	case r.result != "replied" && r.result != "served":
		return r.result
	case r.grpc || r.code != "":
		return r.http + " grpc " + r.code
	}
	return r.http
}

package worker

import (
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// loop is a worker between an HTTP/2 client and an HTTP/2 server in memory,
// all of them ours: for measuring, not for judging.
type loop struct {
	now     clock.Nanos
	w       *Worker
	wake    bool
	clients []*loopEnd
	ends    []*loopEnd
	calls   int
	buf     []byte
	target  call.Target
	size    []byte
}

// loopEnd is the peer of one of the worker's connections.
type loopEnd struct {
	l       *loop
	k       *Sock
	conn    *h2.Conn
	in      []byte // from the worker
	free    []*loopStream
	dial    bool
	request []hpack.Field
}

type loopStream struct {
	h2.Stream
}

func (l *loop) Now() clock.Nanos                        { return l.now }
func (l *loop) Arm(*Sock)                               {}
func (l *loop) Resume(*Sock)                            {}
func (l *loop) CloseWrite(*Sock)                        {}
func (l *loop) Queued(*Sock) int                        { return 0 }
func (l *loop) Shutdown(*Sock)                          {}
func (l *loop) SetTimer(clock.Nanos)                    {}
func (l *loop) Wake()                                   { l.wake = true }
func (l *loop) Close()                                  {}
func (l *loop) Target() *call.Target                    { return &l.target }
func (l *loop) Retired() bool                           { return false }
func (l *loop) Pick(*call.Call, int) (call.Host, error) { return l, nil }
func (l *loop) Done(call.Host, *call.Outcome)           {}
func (l *loop) Direct(*call.Call) (call.Decision, error) {
	return call.Decision{Backends: l, Route: loopRoute}, nil
}
func (l *loop) Dial(k *Sock, _ *call.Target, _ time.Duration) { l.newEnd(k, h2.Server).dial = true }
func (l *loop) Write(k *Sock, b [][]byte) (int, bool, error) {
	e := k.impl.(*loopEnd)
	n := 0
	for _, p := range b {
		e.in = append(e.in, p...)
		n += len(p)
	}
	return n, false, nil
}

var loopRoute = &call.Route{Timeout: 15 * time.Second, Scope: call.Scope{Index: 3}}

func newLoop(clients, size int, full bool) *loop {
	l := &loop{now: 1e9, buf: make([]byte, 1<<20), size: make([]byte, size)}
	l.target = call.Target{Network: "tcp", Address: "x", Options: &call.UpstreamOptions{Cluster: call.Scope{Index: 2}}}
	g := NewGroup(Options{N: 1, Seed: 1, NewDriver: func(w *Worker) Driver { l.w = w; return l }})
	l.w = g.workers[0]
	m := &call.Manager{Scope: call.Scope{Index: 1}, Director: l, StreamIdleTimeout: 5 * time.Minute}
	if full { // Envoy's defaults
		m.ForwardedProto, m.GenerateRequestID, m.EnvoyHeaders, m.Sanitize = true, true, true, true
		m.ServerHeader, m.ServerName = call.ServerOverwrite, "envoy"
	}
	ch := NewChain(m)
	for range clients {
		e := l.newEnd(nil, h2.Client)
		l.w.begin()
		e.k = l.w.attach(ch, &call.Conn{}, e)
		l.w.end()
		l.clients = append(l.clients, e)
	}
	l.move()
	return l
}

func (l *loop) newEnd(k *Sock, role h2.Role) *loopEnd {
	e := &loopEnd{l: l, k: k}
	if k != nil {
		k.impl = e
	}
	cfg := h2.DefaultConfig(role)
	cfg.StreamWindow, cfg.ConnWindow, cfg.HoldLimit = 1<<20, 16<<20, 16<<20
	cfg.Pool = h2.NewPool(1<<20, false)
	e.conn = h2.NewConn(role, cfg, e, l.now)
	for _, kv := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/bench.Echo/Unary"}, {":authority", "bench.example"},
		{"content-type", "application/grpc"}, {"user-agent", "grpc-go/1.80.0"}, {"te", "trailers"}, {"grpc-timeout", "14999990u"}} {
		e.request = append(e.request, hpack.NewField(kv[0], kv[1]))
	}
	l.ends = append(l.ends, e)
	return e
}

var (
	loopResponse = []hpack.Field{hpack.NewField(":status", "200"), hpack.NewField("content-type", "application/grpc")}
	loopTrailers = []hpack.Field{hpack.NewField("grpc-status", "0"), hpack.NewField("grpc-message", "")}
)

// The peers' h2.Handler.

func (e *loopEnd) stream() *loopStream {
	if n := len(e.free); n > 0 {
		s := e.free[n-1]
		e.free = e.free[:n-1]
		return s
	}
	s := &loopStream{}
	s.Owner = s
	return s
}

func (e *loopEnd) NewStream(uint32) *h2.Stream { return &e.stream().Stream }

func (e *loopEnd) OnHeaders(s *h2.Stream, k h2.Kind, b *hpack.Block, end bool) {}

func (e *loopEnd) OnData(s *h2.Stream, p []byte, end bool) {
	e.conn.Credit(s, len(p))
	if e.dial && end {
		e.conn.WriteHeaders(s, loopResponse, false)
		e.conn.WriteData(s, e.l.size, false)
		e.conn.WriteHeaders(s, loopTrailers, true)
	}
}

func (e *loopEnd) OnWritable(*h2.Stream) {}
func (e *loopEnd) OnConn(h2.ConnEvent)   {}
func (e *loopEnd) Pending()              {}
func (e *loopEnd) Flush()                {}
func (e *loopEnd) OnEnd(s *h2.Stream, err h2.StreamError) {
	e.free = append(e.free, s.Owner.(*loopStream))
	if !e.dial && err.Kind == h2.EndClean {
		e.l.calls++
	}
}

// move carries all bytes until nothing moves.
func (l *loop) move() {
	for moved := true; moved; {
		moved = false
		for _, e := range l.ends {
			if e.dial && !e.k.connected {
				l.w.begin()
				e.k.dialed(nil)
				l.w.end()
				moved = true
			}
			if n := len(e.in); n > 0 {
				moved = true
				used, err := e.conn.Feed(l.now, e.in)
				if err != nil {
					panic(err)
				}
				e.in = e.in[:copy(e.in, e.in[used:])]
			}
			e.conn.Deliver(l.now)
			for e.conn.Output().Len() > 0 {
				moved = true
				l.w.begin()
				b := e.k.readBuf()
				n := 0
				for _, p := range e.conn.Output().Buffers(nil) {
					k := copy(b[n:], p)
					n += k
					if k < len(p) {
						break
					}
				}
				e.k.fed(n)
				l.w.end()
				e.conn.Wrote(l.now, n)
			}
		}
	}
}

// round makes n calls on every client at once.
func (l *loop) round(n int) {
	for _, e := range l.clients {
		for range n {
			s := e.stream()
			if !e.conn.OpenStream(&s.Stream) {
				panic("loop: no stream")
			}
			e.conn.WriteHeaders(&s.Stream, e.request, false)
			e.conn.WriteData(&s.Stream, l.size, true)
		}
	}
	l.move()
	l.now += 1e5
}

// TestUnaryAllocs: a call costs at most 2 allocations (the target), all of
// client, proxy and server together.
func TestUnaryAllocs(t *testing.T) {
	for _, full := range []bool{false, true} {
		l := newLoop(4, 100, full)
		for range 100 {
			l.round(16)
		}
		before := l.calls
		per := testing.AllocsPerRun(100, func() { l.round(16) }) / (4 * 16)
		if l.calls == before {
			t.Fatal("no calls")
		}
		if per > 2 {
			t.Errorf("header policy %v: %.2f allocations per call", full, per)
		}
	}
}

// BenchmarkUnary is client, proxy and server on one goroutine without sockets.
func BenchmarkUnary(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(map[bool]string{false: "transparent", true: "policy"}[full], func(b *testing.B) {
			l := newLoop(4, 100, full)
			l.round(16)
			b.ReportAllocs()
			b.ResetTimer()
			for start := l.calls; l.calls-start < b.N; {
				l.round(16)
			}
		})
	}
}

package h2

import (
	"testing"
	"unsafe"

	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// benchEnd is one end of an in-memory pair: the client sends unary requests,
// the server answers them.
type benchEnd struct {
	c      *Conn
	free   []*benchCall
	ended  int
	head   []hpack.Field
	trail  []hpack.Field
	body   []byte
	server bool
}

type benchCall struct {
	Stream
	head hpack.Block
}

func (e *benchEnd) get() *benchCall {
	if n := len(e.free); n > 0 {
		x := e.free[n-1]
		e.free = e.free[:n-1]
		return x
	}
	x := &benchCall{}
	x.Owner = x
	x.Head = &x.head
	return x
}

func (e *benchEnd) NewStream(uint32) *Stream { return &e.get().Stream }
func (e *benchEnd) OnHeaders(s *Stream, k Kind, b *hpack.Block, end bool) {
	if e.server && end {
		e.answer(s)
	}
}
func (e *benchEnd) OnData(s *Stream, p []byte, end bool) {
	e.c.Credit(s, len(p))
	if e.server && end {
		e.answer(s)
	}
}
func (e *benchEnd) answer(s *Stream) {
	e.c.WriteHeaders(s, e.head, false)
	e.c.WriteData(s, e.body, false)
	e.c.WriteHeaders(s, e.trail, true)
}
func (e *benchEnd) OnWritable(*Stream) {}
func (e *benchEnd) OnEnd(s *Stream, _ StreamError) {
	e.ended++
	e.free = append(e.free, s.Owner.(*benchCall))
}
func (e *benchEnd) OnConn(ConnEvent) {}
func (e *benchEnd) Pending()         {}
func (e *benchEnd) Flush()           {}

type benchPair struct {
	client, server benchEnd
	now            clock.Nanos
	rbuf           []byte
	bufs           [][]byte
}

func newBenchPair() *benchPair {
	p := &benchPair{now: 1, rbuf: make([]byte, 64<<10)}
	pool := NewPool(8<<20, false)
	p.client.head = []hpack.Field{
		hpack.NewField(":method", "POST"), hpack.NewField(":scheme", "http"), hpack.NewField(":path", "/echo.Echo/Unary"),
		hpack.NewField(":authority", "backend:8080"), hpack.NewField("content-type", "application/grpc"),
		hpack.NewField("user-agent", "grpc-go/1.85.0"), hpack.NewField("te", "trailers"), hpack.NewField("grpc-timeout", "10S"),
	}
	p.client.body = make([]byte, 37)
	p.server.server = true
	p.server.head = []hpack.Field{hpack.NewField(":status", "200"), hpack.NewField("content-type", "application/grpc")}
	p.server.trail = []hpack.Field{hpack.NewField("grpc-status", "0"), hpack.NewField("grpc-message", "")}
	p.server.body = make([]byte, 37)
	ccfg, scfg := DefaultConfig(Client).ForWorker(pool, &Counters{}, nil), DefaultConfig(Server).ForWorker(pool, &Counters{}, nil)
	p.client.c = NewConn(Client, ccfg, &p.client, p.now)
	p.server.c = NewConn(Server, scfg, &p.server, p.now)
	p.pump()
	return p
}

// pump moves bytes until both ends are silent.
func (p *benchPair) pump() {
	for p.move(p.client.c, p.server.c) || p.move(p.server.c, p.client.c) {
	}
}

func (p *benchPair) move(from, to *Conn) bool {
	from.Deliver(p.now)
	if from.Output().Len() == 0 {
		return false
	}
	n := 0
	p.bufs = from.Output().Buffers(p.bufs[:0])
	for _, b := range p.bufs {
		n += copy(p.rbuf[n:], b)
	}
	from.Wrote(p.now, n)
	if k, err := to.Feed(p.now, p.rbuf[:n]); err != nil || k != n {
		panic(err)
	}
	return true
}

func benchUnary(b *testing.B, batch int) {
	p := newBenchPair()
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		for range min(batch, b.N-n) {
			x := p.client.get()
			if !p.client.c.OpenStream(&x.Stream) {
				b.Fatal("cannot open")
			}
			p.client.c.WriteHeaders(&x.Stream, p.client.head, false)
			p.client.c.WriteData(&x.Stream, p.client.body, true)
			n++
		}
		p.now += 1000
		p.pump()
	}
	if p.client.ended != b.N || p.server.ended != b.N {
		b.Fatal("ended", p.client.ended, p.server.ended, "of", b.N)
	}
}

// BenchmarkStream is what 16 KiB of DATA cost in a client Conn and a server
// Conn together, window updates included.
func BenchmarkStream(b *testing.B) {
	p := newBenchPair()
	x := p.client.get()
	if !p.client.c.OpenStream(&x.Stream) {
		b.Fatal("cannot open")
	}
	p.client.c.WriteHeaders(&x.Stream, p.client.head, false)
	p.pump()
	data := make([]byte, MaxFrame)
	b.SetBytes(MaxFrame)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if n := p.client.c.WriteData(&x.Stream, data, false); n != len(data) {
			b.Fatal("took", n)
		}
		p.now += 1000
		p.pump()
	}
}

// TestNoAllocations: in the steady state neither calls nor DATA allocate.
func TestNoAllocations(t *testing.T) {
	p := newBenchPair()
	call := func() {
		x := p.client.get()
		if !p.client.c.OpenStream(&x.Stream) {
			t.Fatal("cannot open")
		}
		p.client.c.WriteHeaders(&x.Stream, p.client.head, false)
		p.client.c.WriteData(&x.Stream, p.client.body, true)
		p.now += 1000
		p.pump()
	}
	for range 1000 {
		call()
	}
	if n := testing.AllocsPerRun(1000, call); n != 0 {
		t.Errorf("%v allocations per call", n)
	}
	p.client.body = make([]byte, 60_000)
	call()
	if n := testing.AllocsPerRun(100, call); n != 0 {
		t.Errorf("%v allocations per call with DATA", n)
	}
}

// TestSizes keeps what every connection and stream costs in sight.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 768 {
		t.Errorf("Conn has %d bytes", n)
	}
	if n := unsafe.Sizeof(Stream{}); n > 208 {
		t.Errorf("Stream has %d bytes", n)
	}
	t.Logf("Conn %d, Stream %d bytes", unsafe.Sizeof(Conn{}), unsafe.Sizeof(Stream{}))
}

// BenchmarkUnary is what one unary RPC costs in a client Conn and a server
// Conn together, HPACK and copies included.
func BenchmarkUnary(b *testing.B) {
	b.Run("batch=1", func(b *testing.B) { benchUnary(b, 1) })
	b.Run("batch=16", func(b *testing.B) { benchUnary(b, 16) })
	b.Run("batch=100", func(b *testing.B) { benchUnary(b, 100) })
}

// BenchmarkTable finds one of 16,000 streams: with the ids of a client that
// opens one after another, and with those of one that wants them to collide.
func BenchmarkTable(b *testing.B) {
	const streams = 16_000
	for name, step := range map[string]uint32{"in a row": 2, "colliding": 65_536} {
		b.Run(name, func(b *testing.B) {
			var tab table
			for i := range uint32(streams) {
				tab.put(&Stream{ID: 1 + i*step})
			}
			i := uint32(0)
			for b.Loop() {
				if i += 7919; i >= streams {
					i -= streams
				}
				if tab.get(1+i*step) == nil {
					b.Fatal("lost")
				}
			}
		})
	}
}

package h2

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// TestPair lets two Conns talk over a wire that delivers any number of bytes at
// a time and sometimes takes none, with random windows, and checks that
//   - every byte arrives in order (position-coded), trailers after the last;
//   - every stream ends exactly once at either end, cleanly unless one of the
//     two reset it;
//   - the invariants of docs/core.md, "Flow control" hold after every step;
//   - nothing stalls: when the wire is empty and all bytes were credited, all
//     streams are over and the windows are whole again;
//   - no chunk is left over.
func TestPair(t *testing.T) {
	worlds := 150
	if testing.Short() {
		worlds = 20
	}
	grown := 0
	for seed := range uint64(worlds) {
		ok, g := runPair(t, seed)
		if !ok {
			t.Fatalf("seed %d", seed)
		}
		grown += g
	}
	if grown < worlds/4 {
		t.Errorf("windows grew in %d of %d worlds", grown, worlds)
	}
}

// TestPairDeterministic: the same seed makes the same bytes.
func TestPairDeterministic(t *testing.T) {
	for seed := range uint64(10) {
		a, b := newPair(t, seed), newPair(t, seed)
		a.play(300)
		b.play(300)
		for i := range a.ends {
			if !bytes.Equal(a.ends[i].sent.Bytes(), b.ends[i].sent.Bytes()) {
				t.Fatalf("seed %d: two runs sent different bytes", seed)
			}
		}
	}
}

// runPair also returns how many ends let a stream's window grow.
func runPair(t *testing.T, seed uint64) (ok bool, grown int) {
	p := newPair(t, seed)
	p.play(400 + p.rng.IntN(800))
	p.finish()
	for _, e := range p.ends {
		if e.c.tune.hold > e.c.cfg.HoldLimit {
			grown++
		}
	}
	return !t.Failed(), grown
}

type pair struct {
	t    *testing.T
	rng  *rand.Rand
	now  clock.Nanos
	pool *Pool
	ends [2]*pairEnd // client, server
	calm bool        // no resets, no new streams, everything flows
}

// pairEnd is one Conn, its application and its half of the wire.
type pairEnd struct {
	p      *pair
	c      *Conn
	wire   []byte // written by c, not yet fed to the other end
	space  int    // what the wire takes
	sent   bytes.Buffer
	calls  []*pairCall // open or owing
	opened int
	settle int // clean ends
}

// pairCall is one end of a stream.
type pairCall struct {
	Stream
	e               *pairEnd
	head            hpack.Block
	toSend, sent    int
	got             int
	want            int // announced by the other end
	blocked         bool
	sentHead, ended bool
	reset           bool // by us
	gotEnd          bool
}

func newPair(t *testing.T, seed uint64) *pair {
	p := &pair{t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: 1, pool: NewPool(1<<20, true)}
	for i := range p.ends {
		cfg := DefaultConfig(Role(1-i)).ForWorker(p.pool, &Counters{}, nil)
		cfg.StreamWindow = p.size(200_000)
		cfg.ConnWindow = initialWindow + p.size(300_000)
		cfg.HoldLimit = p.size(300_000) - 1
		cfg.MaxStreamWindow = p.size(2 << 20)
		cfg.MaxConnWindow = p.size(2 << 20)
		cfg.HiWater = int(p.size(70_000))
		cfg.MaxConcurrentStreams = uint32(1 + p.rng.IntN(40))
		cfg.HeaderTable = uint32(p.rng.IntN(3) * 2048)
		lim := *DefaultLimits(Client)
		lim.ResetBurst, lim.RefusedBurst, lim.UselessBurst = 1<<20, 1<<20, 1<<20
		cfg.Limits = &lim
		e := &pairEnd{p: p, space: 1 << 20}
		e.c = NewConn(Role(1-i), cfg, e, p.now)
		p.ends[i] = e
	}
	return p
}

// size returns a positive number, small ones as likely as large ones.
func (p *pair) size(most int) int64 {
	return int64(1 + p.rng.IntN(1+p.rng.IntN(1+p.rng.IntN(most))))
}

func (p *pair) play(steps int) {
	for range steps {
		p.now += clock.Nanos(p.rng.IntN(int(time.Millisecond)))
		e := p.ends[p.rng.IntN(2)]
		switch p.rng.IntN(10) {
		case 0:
			p.ends[0].open()
		case 1, 2:
			e.flush()
		case 3, 4, 5:
			e.deliver(int(p.size(100_000)))
		case 6, 7:
			e.write()
		case 8:
			e.credit(int(p.size(50_000)))
		case 9:
			e.mishap()
		}
		p.check()
		if p.t.Failed() {
			return
		}
	}
}

// finish lets everything flow until nothing moves, and looks at what is left.
func (p *pair) finish() {
	p.calm = true
	for range 100_000 {
		p.now++
		before := p.progress()
		for _, e := range p.ends {
			e.space = 1 << 30
			e.write()
			e.credit(1 << 30)
			e.flush()
			e.deliver(1 << 30)
			e.flush()
		}
		p.check()
		if p.t.Failed() {
			return
		}
		if p.progress() == before {
			break
		}
	}
	for i, e := range p.ends {
		for _, x := range e.calls {
			p.t.Errorf("end %d: stream %d stalled: sent %d of %d, got %d of %d, window %d, blocked %v, ring %v, conn window %d",
				i, x.ID, x.sent, x.toSend, x.got, x.want, x.sendWin, x.blocked, x.inQ, e.c.sendWin)
		}
		if e.c.Dead() {
			p.t.Errorf("end %d died: %v", i, e.c.err)
		}
		if e.c.HeldBytes() != 0 || e.c.FreeWindow() != e.c.tune.window {
			p.t.Errorf("end %d: at rest %d bytes are held, %d of the window are free", i, e.c.HeldBytes(), e.c.FreeWindow())
		}
		e.c.Close()
	}
	if n := p.pool.Live(); n != 0 {
		p.t.Errorf("%d chunks leaked", n)
	}
}

func (p *pair) progress() (n int64) {
	for _, e := range p.ends {
		n += e.c.out.total + int64(len(e.wire)) + int64(e.settle) + e.c.heldBytes + int64(len(e.calls))
	}
	return n
}

func (p *pair) check() {
	for i, e := range p.ends {
		if err := e.c.Check(); err != nil {
			p.t.Errorf("end %d: %v", i, err)
		}
	}
}

func (e *pairEnd) other() *pairEnd {
	if e == e.p.ends[0] {
		return e.p.ends[1]
	}
	return e.p.ends[0]
}

var (
	pairRequest  = []hpack.Field{hpack.NewField(":method", "POST"), hpack.NewField(":scheme", "http"), hpack.NewField(":path", "/x"), hpack.NewField(":authority", "a")}
	pairResponse = []hpack.Field{hpack.NewField(":status", "200")}
)

func (e *pairEnd) newCall() *pairCall {
	x := &pairCall{e: e, toSend: int(e.p.size(300_000)) - 1}
	x.Owner = x
	x.Head = &x.head
	e.calls = append(e.calls, x)
	return x
}

func (e *pairEnd) open() {
	if !e.c.CanOpen() {
		return
	}
	x := e.newCall()
	if !e.c.OpenStream(&x.Stream) {
		e.p.t.Error("CanOpen and OpenStream disagree")
	}
	e.opened++
	x.begin(pairRequest)
}

// begin sends the head with the number of bytes that will follow.
func (x *pairCall) begin(f []hpack.Field) {
	x.sentHead = true
	fields := append(append([]hpack.Field{}, f...), hpack.NewUniqueField("content-length", fmt.Sprint(x.toSend)))
	x.e.c.WriteHeaders(&x.Stream, fields, false)
}

// pump sends some of what is left: in pieces, and trailers or END_STREAM last.
func (x *pairCall) pump() {
	rng := x.e.p.rng
	for x.Open() && !x.blocked && x.state&stSendEnd == 0 {
		n := min(x.toSend-x.sent, int(x.e.p.size(40_000)))
		buf := make([]byte, n)
		for i := range buf {
			buf[i] = code(x.ID, x.e.c.role, x.sent+i)
		}
		last := x.sent+n == x.toSend
		end := last && rng.IntN(2) == 0
		k := x.e.c.WriteData(&x.Stream, buf, end)
		x.sent += k
		if k < n {
			x.blocked = true
			return
		}
		if last && !end {
			x.e.c.WriteHeaders(&x.Stream, []hpack.Field{hpack.NewUniqueField("total", fmt.Sprint(x.toSend))}, true)
		}
		if rng.IntN(3) == 0 && !x.e.p.calm {
			return
		}
	}
}

// code is the byte at a position of a stream's direction.
func code(id uint32, r Role, pos int) byte {
	h := uint64(id)<<40 ^ uint64(r)<<33 ^ uint64(pos)
	h *= 0x9e3779b97f4a7c15
	return byte(h >> 56)
}

func (e *pairEnd) write() {
	for _, x := range e.calls {
		if e.p.calm || e.p.rng.IntN(2) == 0 {
			x.pump()
		}
	}
}

func (e *pairEnd) credit(most int) {
	for i := 0; i < len(e.calls); i++ {
		x := e.calls[i]
		if e.p.calm || e.p.rng.IntN(2) == 0 {
			e.c.Credit(&x.Stream, min(most, x.Held()))
		}
		if x.ended && x.Held() == 0 {
			e.calls = append(e.calls[:i], e.calls[i+1:]...)
			i--
		}
	}
}

func (e *pairEnd) mishap() {
	if e.p.rng.IntN(3) == 0 {
		e.space = e.p.rng.IntN(50_000) // the socket's room from now on
		return
	}
	if len(e.calls) == 0 || e.p.rng.IntN(4) != 0 {
		return
	}
	x := e.calls[e.p.rng.IntN(len(e.calls))]
	if x.Open() {
		x.reset = true
		e.c.Reset(&x.Stream, ErrCodeCancel)
	}
}

// flush is the end of the driver's batch.
func (e *pairEnd) flush() {
	e.c.Deliver(e.p.now)
	e.c.Wrote(e.p.now, e.take())
}

// take moves what fits from the output to the wire.
func (e *pairEnd) take() (n int) {
	for _, b := range e.c.Output().Buffers(nil) {
		k := min(len(b), e.space-len(e.wire))
		if k <= 0 {
			break
		}
		e.wire = append(e.wire, b[:k]...)
		e.sent.Write(b[:k])
		n += k
	}
	return n
}

// deliver feeds the other end up to n bytes; what it does not consume comes
// again with more.
func (e *pairEnd) deliver(n int) {
	n = min(n, len(e.wire))
	k, err := e.other().c.Feed(e.p.now, e.wire[:n])
	if err != nil {
		e.p.t.Error(err)
	}
	if n-k >= frameHeaderLen+MaxFrame {
		e.p.t.Errorf("%d bytes left unconsumed", n-k)
	}
	e.wire = e.wire[k:]
}

func (e *pairEnd) NewStream(uint32) *Stream { return &e.newCall().Stream }

func (e *pairEnd) OnHeaders(s *Stream, k Kind, b *hpack.Block, end bool) {
	x := s.Owner.(*pairCall)
	switch k {
	case Request, Response:
		v, _ := b.GetName("content-length")
		fmt.Sscan(v, &x.want)
		if k == Request {
			x.begin(pairResponse)
		}
	case Trailers:
		v, _ := b.GetName("total")
		if v != fmt.Sprint(x.got) || x.got != x.want {
			e.p.t.Errorf("stream %d: trailers after %d bytes of %s", s.ID, x.got, v)
		}
	}
	x.gotEnd = x.gotEnd || end
}

func (e *pairEnd) OnData(s *Stream, data []byte, end bool) {
	x := s.Owner.(*pairCall)
	for i, b := range data {
		if b != code(s.ID, 1-e.c.role, x.got+i) {
			e.p.t.Errorf("stream %d: wrong byte at %d", s.ID, x.got+i)
			break
		}
	}
	x.got += len(data)
	x.gotEnd = x.gotEnd || end
	if e.p.rng.IntN(3) == 0 {
		e.c.Credit(s, len(data))
	}
}

func (e *pairEnd) OnWritable(s *Stream) {
	x := s.Owner.(*pairCall)
	if !x.blocked {
		e.p.t.Errorf("stream %d: OnWritable without a short write", s.ID)
	}
	x.blocked = false
	x.pump()
}

func (e *pairEnd) OnEnd(s *Stream, end StreamError) {
	x := s.Owner.(*pairCall)
	if x.ended {
		e.p.t.Errorf("stream %d ended twice", s.ID)
	}
	x.ended = true
	e.settle++
	switch {
	case end.Kind == EndClean:
		if x.got != x.want || x.sent != x.toSend || !x.gotEnd {
			e.p.t.Errorf("stream %d: clean end with %d of %d bytes", s.ID, x.got, x.want)
		}
	case end.Side == SideLocal && !x.reset, end.Err != nil:
		e.p.t.Errorf("stream %d: %+v", s.ID, end)
	}
	if x.Held() == 0 {
		for i, y := range e.calls {
			if x == y {
				e.calls = append(e.calls[:i:i], e.calls[i+1:]...)
				break
			}
		}
	}
}

func (e *pairEnd) OnConn(ev ConnEvent) {
	if ev.Kind == EventClosed && !errors.Is(ev.Err, ErrClosed) {
		e.p.t.Errorf("closed: %v", ev.Err)
	}
}
func (e *pairEnd) Pending() {}
func (e *pairEnd) Flush()   { e.c.Wrote(e.p.now, e.take()) }

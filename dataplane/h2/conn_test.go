package h2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// TestIdleHoldsNoBuffers: between calls a connection has no chunk, and a
// partial frame is the driver's.
func TestIdleHoldsNoBuffers(t *testing.T) {
	w := newWorld(t, "server")
	w.run(t, "> HEADERS 1 end std")
	w.run(t, "headers 1 :status=200")
	w.run(t, "data 1 60000 end")
	if n := w.pool.Live(); n != 0 {
		t.Errorf("%d chunks held", n)
	}
	w.done(t)
}

// TestReuseCredits: a Stream that ended cleanly with held bytes gives them back
// when it is used again.
func TestReuseCredits(t *testing.T) {
	w := newWorld(t, "server hold")
	w.run(t, "> HEADERS 1 std")
	w.run(t, "> DATA 1 1000 end")
	w.run(t, "headers 1 end :status=200")
	if got := w.c.HeldBytes(); got != 1000 {
		t.Fatalf("held %d after the end, want 1000", got)
	}
	s := w.streams[1]
	s.start(w.c, 3)
	if got := w.c.HeldBytes(); got != 0 {
		t.Errorf("held %d after reuse, want 0", got)
	}
}

// TestHeadBlock: with Head set the request stays readable until its owner
// resets it; trailers do not touch it.
func TestHeadBlock(t *testing.T) {
	w := newWorld(t, "server")
	var b hpack.Block
	w.head = &b
	w.run(t, "> HEADERS 1 std x=first")
	w.head = nil
	w.run(t, "> HEADERS 3 end std x=second")
	w.run(t, "> HEADERS 1 end x=trailer")
	if v, _ := b.GetName("x"); v != "first" {
		t.Errorf("x = %q, want first", v)
	}
	w.done(t)
}

// TestKeepaliveOfSlowReader: while the peer is not read because it does not take
// what it asked for, its silence is ours; what it takes is its sign of life. One
// that takes nothing is given up.
func TestKeepaliveOfSlowReader(t *testing.T) {
	for _, takes := range []int{10, 0} {
		w := newWorld(t, "server keepalive=15s hiwater=1000")
		w.blocked = true
		w.run(t, "x5 > HEADERS {1+2i} end std")
		w.run(t, "x5 headers {1+2i} end x={10+1i}"+strings.Repeat("x", 600))
		w.run(t, "time +15s") // a PING, behind all that
		for range 4 {
			if !w.c.StopReading() {
				t.Fatal("the peer would be read")
			}
			w.c.Wrote(w.now, takes)
			w.run(t, "time +3s")
		}
		if want := takes == 0; w.c.Dead() != want {
			t.Errorf("it takes %d bytes at a time: given up %v, want %v", takes, w.c.Dead(), want)
		}
		if takes > 0 {
			w.blocked = false
			w.settle(t)
			w.run(t, "time +9s")
			w.run(t, "> PING ack sluiceka")
			w.run(t, "time +9s")
			if w.c.Dead() {
				t.Error("given up after its ACK")
			}
		}
		w.done(t)
	}
}

// TestHeadersOfSlowReader: half a header block, and the ACK of our SETTINGS, are
// not late while the peer is not read, as long as it takes what it asked for.
func TestHeadersOfSlowReader(t *testing.T) {
	w := newWorld(t, "server raw hiwater=1000")
	w.feed(t, []byte(Preface))
	w.feed(t, w.peer.frame(t, "SETTINGS"))
	w.blocked = true
	w.run(t, "x5 > HEADERS {1+2i} end std")
	w.run(t, "x5 headers {1+2i} end x={10+1i}"+strings.Repeat("x", 600))
	block := w.peer.frame(t, "HEADERS 11 end std")
	w.feed(t, block[:12])
	for range 5 {
		if !w.c.StopReading() {
			t.Fatal("the peer would be read")
		}
		w.c.Wrote(w.now, 10)
		w.run(t, "time +3s")
	}
	w.blocked = false
	w.settle(t)
	w.run(t, "time +9s")
	if w.c.Dead() {
		t.Fatal("given up")
	}
	w.feed(t, block[12:])
	w.feed(t, w.peer.frame(t, "SETTINGS ack"))
	if w.streams[11] == nil {
		t.Error("the request was not taken")
	}
	w.run(t, "headers 11 end :status=200")
	w.done(t)
}

// TestLastWords: what is left to write of a connection that is over waits for
// its peer as long as any output, and no longer.
func TestLastWords(t *testing.T) {
	w := newWorld(t, "server")
	w.blocked = true
	w.run(t, "> HEADERS 1 end std")
	w.run(t, "headers 1 :status=200")
	w.run(t, "data 1 1000 end")
	w.run(t, "shutdown 2")
	w.run(t, "time +29s")
	if !w.c.Dead() || !w.c.Unsent() {
		t.Fatalf("after 29 s: over %v, output waits %v", w.c.Dead(), w.c.Unsent())
	}
	w.run(t, "time +1s")
	if n := w.ctr.SlowReader; w.c.Unsent() || n != 1 {
		t.Errorf("after 30 s: output waits %v, slow_reader is %d", w.c.Unsent(), n)
	}
	w.done(t)
}

// TestLinger: attempts that still run for streams the client has reset have as
// many places as streams.
func TestLinger(t *testing.T) {
	w := newWorld(t, "server streams=2")
	for id := 1; id < 7; id += 2 {
		w.run(t, fmt.Sprintf("> HEADERS %d std", id))
		w.run(t, fmt.Sprintf("> RST_STREAM %d CANCEL", id))
		w.c.Linger(1)
	}
	w.run(t, "> HEADERS 7 std")
	w.run(t, "> HEADERS 9 std")
	if w.c.Streams() != 1 || w.ctr.StreamsRefused != 1 {
		t.Errorf("%d streams, %d refused, want 1 and 1", w.c.Streams(), w.ctr.StreamsRefused)
	}
	w.c.Linger(-1)
	w.run(t, "> HEADERS 11 std")
	if w.c.Streams() != 2 {
		t.Errorf("%d streams, want 2", w.c.Streams())
	}
	w.done(t)
}

// TestTickChanged: the worker learns of earlier instants only.
func TestTickChanged(t *testing.T) {
	w := newWorld(t, "server")
	w.c.Tick(w.now)
	if w.c.TickChanged() {
		t.Error("changed right after Tick")
	}
	w.c.DrainAt(w.now.Add(time.Hour))
	if !w.c.TickChanged() || w.c.NextTick() != w.now.Add(time.Hour) || w.c.TickChanged() {
		t.Error("DrainAt did not move NextTick once")
	}
	w.c.DrainAt(w.now.Add(2 * time.Hour))
	if w.c.TickChanged() {
		t.Error("a later instant moved NextTick")
	}
	w.done(t)
}

// TestConnected: a dial takes its time; the server's comes after it.
func TestConnected(t *testing.T) {
	w := newWorld(t, "client")
	cfg := DefaultConfig(Client)
	c := NewConn(Client, cfg, w, w.now)
	at := w.now.Add(time.Minute)
	c.Connected(at)
	c.Tick(at.Add(cfg.PrefaceTimeout - 1))
	if c.Dead() || c.GoingAway() {
		t.Error("the time of the dial counts")
	}
	c.Tick(at.Add(cfg.PrefaceTimeout))
	if !c.Dead() && !c.GoingAway() {
		t.Error("a server without SETTINGS is waited for for ever")
	}
	c.Close()
}

// TestEndNotInsideSend: OnEnd never comes from inside a send call.
func TestEndNotInsideSend(t *testing.T) {
	w := newWorld(t, "server")
	w.run(t, "> HEADERS 1 end std")
	w.run(t, "> HEADERS 3 std")
	w.log = nil
	w.c.WriteHeaders(w.streams[1], []hpack.Field{hpack.NewField(":status", "200")}, true)
	w.c.Reset(w.streams[3], ErrCodeCancel)
	if len(w.log) != 0 {
		t.Errorf("handler called from a send call: %q", w.log)
	}
	if w.pendings == 0 {
		t.Error("Pending was not called")
	}
	w.c.Deliver(w.now)
	if w.ended[1] != 1 || w.ended[3] != 1 {
		t.Errorf("ended %v", w.ended)
	}
	w.done(t)
}

// TestFairness: senders blocked by the connection's window take turns of
// 16 KiB, in the order in which they were blocked.
func TestFairness(t *testing.T) {
	w := newWorld(t, "server")
	w.run(t, "> SETTINGS INITIAL_WINDOW_SIZE=100000000")
	w.run(t, "x4 > HEADERS {1+2i} end std")
	sent := map[uint32]int{}
	w.writable = func(s *Stream) { sent[s.ID] += w.c.WriteData(s, make([]byte, 1<<20), false) }
	for id := uint32(1); id <= 7; id += 2 {
		w.c.WriteHeaders(w.streams[id], []hpack.Field{hpack.NewField(":status", "200")}, false)
		w.c.WriteData(w.streams[id], make([]byte, 1<<20), false)
	}
	w.settle(t)
	clear(sent)
	for range 10 {
		w.run(t, "> WINDOW_UPDATE 0 65536")
	}
	for id, n := range sent {
		if n != 10*65536/4 {
			t.Errorf("stream %d sent %d of %d bytes", id, n, 10*65536)
		}
	}
	w.done(t)
}

// TestTableCollisions: ids that share a slot are found through the overflow
// map, and growing and removing keep all of them.
func TestTableCollisions(t *testing.T) {
	var tab table
	var all []*Stream
	check := func() {
		t.Helper()
		for _, s := range all {
			if got := tab.get(s.ID); got != s {
				t.Fatalf("get(%d) = %v", s.ID, got)
			}
		}
		if tab.get(1<<20+1) != nil || tab.n != len(all) {
			t.Fatal("table is wrong")
		}
	}
	for i := range 100 {
		s := &Stream{ID: uint32(1 + i*64)}
		tab.put(s)
		all = append(all, s)
		check()
	}
	for len(all) > 0 {
		i := len(all) * 7 / 11
		tab.remove(all[i])
		all = append(all[:i], all[i+1:]...)
		check()
	}
	if tab.first != nil || len(tab.overflow) != 0 {
		t.Error("empty table has entries")
	}
}

// TestPool: poison, reuse and the bound of the free list.
func TestPool(t *testing.T) {
	p := NewPool(chunkSmall, true)
	c := p.Get(100)
	if c.Cap() != chunkTiny || c.Append([]byte("abc")) != 3 {
		t.Fatal("Get or Append")
	}
	b := c.Bytes()
	if string(b) != "abc" || p.Live() != 1 {
		t.Error("not in use")
	}
	p.Put(c)
	if b[0] != poison || p.Live() != 0 || p.LiveBytes() != 0 {
		t.Error("not freed")
	}
	if d := p.Get(1); d != c {
		t.Error("free chunk not reused")
	}
	big := p.Get(1 << 20)
	if len(big.b) != 1<<20 {
		t.Error("large chunk too small")
	}
	p.Put(big)
	p.Put(p.Get(chunkLarge))
	if p.freeLen > chunkSmall {
		t.Errorf("%d bytes kept, the limit is %d", p.freeLen, chunkSmall)
	}
}

// TestServed: answered calls earn resets, but no more than some bursts of them.
func TestServed(t *testing.T) {
	w := newWorld(t, "server")
	for range 10_000 {
		w.c.Served()
	}
	id, most := 1, int(servedBursts*w.c.lim.ResetBurst)
	for range most + 1 {
		if w.c.Dead() {
			t.Fatalf("dead before reset %d", id/2+1)
		}
		w.run(t, fmt.Sprintf("> HEADERS %d std", id))
		w.run(t, fmt.Sprintf("> RST_STREAM %d CANCEL", id))
		id += 2
	}
	if !w.c.Dead() {
		t.Errorf("%d resets at once are no attack", most+1)
	}
}

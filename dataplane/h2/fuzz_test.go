package h2

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// FuzzServer and FuzzClient feed any bytes after a handshake, cut at any
// place, to a Conn whose handler answers, credits and resets depending on the
// input. Nothing may panic, the invariants hold after every piece, every stream
// ends exactly once and no chunk leaks.
func FuzzServer(f *testing.F) {
	seedFromScripts(f, Server)
	f.Fuzz(func(t *testing.T, cut uint8, in []byte) { fuzzConn(t, Server, cut, in) })
}

func FuzzClient(f *testing.F) {
	seedFromScripts(f, Client)
	f.Fuzz(func(t *testing.T, cut uint8, in []byte) { fuzzConn(t, Client, cut, in) })
}

// seedFromScripts makes a seed of the peer's frames of every script.
func seedFromScripts(f *testing.F, r Role) {
	names, _ := filepath.Glob("testdata/scripts/*.txt")
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			f.Fatal(err)
		}
		var seed []byte
		var p *peer
		flush := func() {
			if len(seed) > 0 {
				f.Add(uint8(len(seed)), seed)
			}
			seed, p = nil, nil
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			line := strings.TrimSpace(lines.Text())
			switch {
			case strings.HasPrefix(line, "server") && r == Server, strings.HasPrefix(line, "client") && r == Client:
				flush()
				p = newPeer()
			case strings.HasPrefix(line, "server"), strings.HasPrefix(line, "client"):
				flush()
			case strings.HasPrefix(line, "> ") && p != nil && line != "> PREFACE" && len(seed) < 4<<10:
				seed = append(seed, p.frame(f, line[2:])...)
			}
		}
		flush()
		file.Close()
	}
}

func fuzzConn(t *testing.T, r Role, cut uint8, in []byte) {
	h := &fuzzHandler{t: t, pool: NewPool(1<<20, true), mix: uint32(cut)}
	cfg := DefaultConfig(r).ForWorker(h.pool, &Counters{}, nil)
	cfg.StreamWindow, cfg.ConnWindow, cfg.HoldLimit = 1000, 70_000, 500
	cfg.HiWater = 2000
	cfg.MaxConcurrentStreams = 10
	cfg.MaxHeaderBytes, cfg.MaxHeaderFields = 500, 10
	cfg.KeepaliveInterval, cfg.KeepaliveIdle, cfg.IdleTimeout = 1e9, 1e8, 60e9
	now := worldStart
	h.c = NewConn(r, cfg, h, now)
	feed := func(b []byte) {
		n, _ := h.c.Feed(now, b)
		if n > len(b) {
			t.Fatal("consumed more than there was")
		}
		h.tail = append(h.tail[:0], b[n:]...)
	}
	if r == Server {
		feed([]byte(Preface))
	}
	feed([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
	for i := 0; len(in) > 0 && !h.c.Dead(); i++ {
		n := min(len(in), 1+int(h.next()%64)*int(h.next()%8))
		feed(append(append([]byte(nil), h.tail...), in[:n]...))
		in = in[n:]
		h.act()
		if h.next()%8 == 0 {
			now = now.Add(1e9)
			h.c.Tick(now)
		}
		h.c.Deliver(now)
		if err := h.c.Check(); err != nil {
			t.Fatal(err)
		}
		if h.next()%4 != 0 {
			h.c.Wrote(now, min(h.c.Output().Len(), int(h.next()%5000)))
		}
		if h.c.Output().Len() > 1<<20 {
			t.Fatalf("%d bytes of output", h.c.Output().Len())
		}
	}
	if h.next()%2 == 0 {
		h.c.FeedEOF(now)
	}
	h.c.Close()
	if err := h.c.Check(); err != nil {
		t.Fatal(err)
	}
	if len(h.open) != 0 {
		t.Fatalf("%d streams never ended", len(h.open))
	}
	if h.closed != 1 {
		t.Fatalf("EventClosed came %d times", h.closed)
	}
	if n := h.pool.Live(); n != 0 {
		t.Fatalf("%d chunks leaked", n)
	}
}

// fuzzHandler does anything a handler may do.
type fuzzHandler struct {
	t      *testing.T
	c      *Conn
	pool   *Pool
	mix    uint32
	open   []*Stream
	owing  []*Stream
	tail   []byte
	closed int

	flushes int
}

func (h *fuzzHandler) next() uint32 {
	h.mix = h.mix*1664525 + 1013904223
	return h.mix >> 8
}

var fuzzFields = []hpack.Field{hpack.NewField(":status", "200"), hpack.NewField("x", strings.Repeat("y", 100))}

// act makes a call or two from outside of events.
func (h *fuzzHandler) act() {
	if h.c.role == Client && h.next()%2 == 0 {
		s := &Stream{}
		if h.c.OpenStream(s) {
			h.open = append(h.open, s)
			h.c.WriteHeaders(s, pairRequest, h.next()%2 == 0)
		}
	}
	for _, s := range h.open {
		h.send(s)
	}
	for _, s := range h.owing {
		h.c.Credit(s, int(h.next()%1000))
	}
	switch h.next() % 64 {
	case 0:
		h.c.Shutdown(ShutdownGraceful, ErrCodeNo)
	case 1:
		h.c.Shutdown(ShutdownNow, ErrCodeNo)
	case 2:
		h.c.PingIfIdle(h.c.now)
	case 3:
		h.c.DrainAt(worldStart)
	}
}

func (h *fuzzHandler) send(s *Stream) {
	switch h.next() % 8 {
	case 0:
		h.c.WriteHeaders(s, fuzzFields, h.next()%4 == 0)
	case 1, 2:
		h.c.WriteData(s, make([]byte, h.next()%3000), h.next()%4 == 0)
	case 3:
		h.c.Reset(s, ErrCodeCancel)
	case 4:
		h.c.Credit(s, int(h.next()%1000))
	}
}

func (h *fuzzHandler) NewStream(id uint32) *Stream {
	if h.next()%8 == 0 {
		return nil
	}
	s := &Stream{}
	h.open = append(h.open, s)
	return s
}

func (h *fuzzHandler) OnHeaders(s *Stream, _ Kind, b *hpack.Block, _ bool) { h.send(s) }
func (h *fuzzHandler) OnData(s *Stream, p []byte, _ bool)                  { h.send(s) }
func (h *fuzzHandler) OnWritable(s *Stream)                                { h.send(s) }

func (h *fuzzHandler) OnEnd(s *Stream, e StreamError) {
	for i, x := range h.open {
		if x == s {
			h.open = append(h.open[:i:i], h.open[i+1:]...)
			if s.Held() > 0 {
				h.owing = append(h.owing, s)
			}
			return
		}
	}
	h.t.Fatalf("stream %d ended and was not open", s.ID)
}

func (h *fuzzHandler) OnConn(ev ConnEvent) {
	switch ev.Kind {
	case EventStalled:
		h.c.Reset(ev.Stream, ErrCodeEnhanceYourCalm)
	case EventClosed:
		h.closed++
	}
}

func (h *fuzzHandler) Pending() {}

func (h *fuzzHandler) Flush() {
	if h.flushes++; h.flushes < 1000 && h.next()%2 == 0 { // the handler never runs out of data
		h.c.Wrote(h.c.now, h.c.Output().Len())
	}
}

package h2

import (
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// path is a simulated network path from a client that always has something to
// send to a server that reads at a rate.
type path struct {
	t          *testing.T
	now        clock.Nanos
	delay      time.Duration // one way
	bandwidth  int64         // bytes per second, towards the server
	read       int64         // bytes per second the server's handler takes of each stream; 0: at once
	send       int64         // bytes per second a stream's client writes; 0: all that fits
	client     pathEnd
	server     pathEnd
	grown      int64 // granted by the pool
	allow      int64
	peakWindow int64
}

type pathEnd struct {
	p       *path
	c       *Conn
	streams []*pathStream
	wire    []packet
	free    clock.Nanos // when the link has sent what it has
	tail    []byte
}

type packet struct {
	at clock.Nanos
	b  []byte
}

type pathStream struct {
	Stream
	got     int64
	stalled bool
	budget  int64
}

const pathStep = time.Millisecond / 4

func newPath(t *testing.T, delay time.Duration) *path {
	p := &path{t: t, now: 1e9, delay: delay, bandwidth: 400 << 20, allow: 1 << 40}
	scfg := DefaultConfig(Server).ForWorker(NewPool(1<<20, false), &Counters{}, nil)
	scfg.Pool.Grow = func(n int64, _ bool) bool {
		if n > 0 && p.grown+n > p.allow {
			return false
		}
		p.grown += n
		return true
	}
	ccfg := DefaultConfig(Client).ForWorker(NewPool(1<<20, false), &Counters{}, nil)
	ccfg.HiWater = 64 << 20
	p.client.p, p.server.p = p, p
	p.client.c = NewConn(Client, ccfg, &p.client, p.now)
	p.server.c = NewConn(Server, scfg, &p.server, p.now)
	p.run(300 * time.Millisecond)
	return p
}

// open starts a stream of the client.
func (p *path) open() (client, server *pathStream) {
	client = &pathStream{}
	client.Owner = client
	if !p.client.c.OpenStream(&client.Stream) {
		p.t.Fatal("cannot open a stream")
	}
	p.client.c.WriteHeaders(&client.Stream, pairRequest, false)
	p.client.streams = append(p.client.streams, client)
	for range 1000 {
		p.run(pathStep)
		for _, s := range p.server.streams {
			if s.ID == client.ID {
				return client, s
			}
		}
	}
	p.t.Fatal("the stream did not arrive")
	return nil, nil
}

// run lets d pass.
func (p *path) run(d time.Duration) {
	data := make([]byte, 64<<10)
	for end := p.now.Add(d); p.now < end; {
		p.now = p.now.Add(pathStep)
		for _, s := range p.client.streams {
			if p.send == 0 {
				for p.client.c.WriteData(&s.Stream, data, false) == len(data) && s.Open() {
				}
				continue
			}
			s.budget += p.send * int64(pathStep) / 1e9
			s.budget -= int64(p.client.c.WriteData(&s.Stream, data[:min(s.budget, 64<<10)], false))
		}
		for _, s := range p.server.streams {
			if p.read > 0 && !s.stalled {
				p.server.c.Credit(&s.Stream, int(p.read*int64(pathStep)/1e9))
			}
		}
		p.client.move(&p.server, p.bandwidth)
		p.server.move(&p.client, 1<<40)
		if err := p.server.c.Check(); err != nil {
			p.t.Fatal(err)
		}
		for _, s := range p.server.streams {
			p.peakWindow = max(p.peakWindow, s.window)
		}
	}
}

// move sends e's output on its way to the other end and delivers what has come.
func (e *pathEnd) move(to *pathEnd, bandwidth int64) {
	e.c.Deliver(e.p.now)
	for e.c.Output().Len() > 0 {
		n := 0
		for _, b := range e.c.Output().Buffers(nil) {
			e.free = max(e.free, e.p.now) + clock.Nanos(int64(len(b))*1e9/bandwidth)
			e.wire = append(e.wire, packet{e.free.Add(e.p.delay), append([]byte(nil), b...)})
			n += len(b)
		}
		e.c.Wrote(e.p.now, n)
	}
	for len(e.wire) > 0 && e.wire[0].at <= e.p.now {
		to.tail = append(to.tail, e.wire[0].b...)
		e.wire = e.wire[1:]
		n, err := to.c.Feed(e.p.now, to.tail)
		if err != nil {
			e.p.t.Fatal(err)
		}
		to.tail = append(to.tail[:0], to.tail[n:]...)
	}
}

func (e *pathEnd) NewStream(uint32) *Stream {
	s := &pathStream{}
	s.Owner = s
	e.streams = append(e.streams, s)
	return &s.Stream
}
func (e *pathEnd) OnHeaders(*Stream, Kind, *hpack.Block, bool) {}
func (e *pathEnd) OnData(s *Stream, p []byte, _ bool) {
	x := s.Owner.(*pathStream)
	x.got += int64(len(p))
	if e.p.read == 0 && !x.stalled {
		e.c.Credit(s, len(p))
	}
}
func (e *pathEnd) OnWritable(*Stream)         {}
func (e *pathEnd) OnEnd(*Stream, StreamError) {}
func (e *pathEnd) OnConn(ConnEvent)           {}
func (e *pathEnd) Pending()                   {}
func (e *pathEnd) Flush()                     {}

// TestTuneLongPath: over 50 ms a stream reaches what the path carries, 150 MB/s
// instead of the 1.3 MB/s of the first window, after 8 doublings and in half a
// second, with the RTT of the SETTINGS alone.
func TestTuneLongPath(t *testing.T) {
	p := newPath(t, 25*time.Millisecond)
	p.bandwidth = 150e6
	_, s := p.open()
	if rtt := time.Duration(p.server.c.tune.rtt); rtt < 50*time.Millisecond || rtt > 55*time.Millisecond {
		t.Errorf("RTT %v", rtt)
	}
	p.run(500 * time.Millisecond)
	before := s.got
	p.run(time.Second)
	if rate := s.got - before; rate < 145e6 {
		t.Errorf("%d bytes/s with a window of %d", rate, s.window)
	}
	if s.window != 16<<20 {
		t.Errorf("window %d", s.window)
	}
	if window, hold := p.server.c.ReceiveWindow(); window != 16<<20 || hold != 20<<20-64<<10 {
		t.Errorf("connection window %d, lent %d", window, hold)
	}
}

// TestTuneShortOfNeed: a path that carries less gets no more than 8 times what
// it needs.
func TestTuneShortOfNeed(t *testing.T) {
	p := newPath(t, 25*time.Millisecond)
	p.bandwidth = 10e6
	_, s := p.open()
	p.run(2 * time.Second)
	if need := int64(500e3); s.window < 2*need || s.window > 8*need {
		t.Errorf("window %d where %d are needed", s.window, need)
	}
	if window, _ := p.server.c.ReceiveWindow(); window != 4<<20 {
		t.Errorf("connection window %d", window)
	}
}

// TestTuneSlow: neither a slow receiver nor a slow sender gets a larger window.
func TestTuneSlow(t *testing.T) {
	for _, c := range []struct {
		name       string
		read, send int64
	}{
		{"receiver", 1 << 20, 0},
		{"sender", 0, 300e3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPath(t, 25*time.Millisecond)
			p.read, p.send = c.read, c.send
			_, s := p.open()
			p.run(2 * time.Second)
			if p.peakWindow != 64<<10 || s.got < 500e3 {
				t.Errorf("window %d after %d bytes", p.peakWindow, s.got)
			}
		})
	}
}

// TestTuneStalled: a stream whose window has grown and that then stalls holds
// its window and no more, and its neighbours have the whole connection window.
func TestTuneStalled(t *testing.T) {
	p := newPath(t, 5*time.Millisecond)
	_, s := p.open()
	p.run(500 * time.Millisecond)
	if s.window < 4<<20 {
		t.Fatalf("window %d", s.window)
	}
	s.stalled = true
	p.run(500 * time.Millisecond)
	wc, hold := p.server.c.ReceiveWindow()
	if s.held != s.window || s.held > hold {
		t.Errorf("held %d, window %d, lent %d", s.held, s.window, hold)
	}
	if n := p.server.c.FreeWindow(); n != wc {
		t.Errorf("%d of %d free", n, wc)
	}
	_, u := p.open()
	p.run(500 * time.Millisecond)
	before := u.got
	p.run(500 * time.Millisecond)
	// The stalled stream keeps most of the growth; a neighbour has at least
	// what it had before there was tuning: a window in a round trip.
	if rate := 2 * (u.got - before); rate < 6<<20 {
		t.Errorf("the neighbour had %d bytes/s with a window of %d", rate, u.window)
	}
}

// TestTuneBudget: what is granted is bounded and comes back.
func TestTuneBudget(t *testing.T) {
	p := newPath(t, 25*time.Millisecond)
	p.allow = 1 << 20
	_, s := p.open()
	p.run(time.Second)
	if s.window != 1<<20 || p.grown != 1<<20-64<<10 {
		t.Errorf("window %d, granted %d", s.window, p.grown)
	}
	p.server.c.Close()
	if p.grown != 0 {
		t.Errorf("%d not given back", p.grown)
	}
	if err := p.server.c.Check(); err != nil {
		t.Error(err)
	}
}

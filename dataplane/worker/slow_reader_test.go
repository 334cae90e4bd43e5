//go:build unix

package worker

import (
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// TestSlowReader: a client that takes nothing for so long is given up, whether
// what it does not take waits in HTTP/2's output or, encrypted, behind it; one
// that takes little is not.
func TestSlowReader(t *testing.T) { plainAndTLS(t, testSlowReader) }

func testSlowReader(t *testing.T, secure bool) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	judged := false
	for limit := 2 * time.Second; !judged; limit *= 2 {
		t.Run(limit.String(), func(t *testing.T) { judged = slowReader(t, secure, limit) })
		if !judged && limit > patience {
			t.Fatal("the machine is too busy to read")
		}
	}
}

// slowReader reports false if this test itself has not read as often as it
// should, so that the client that reads was given up.
func slowReader(t *testing.T, secure bool, limit time.Duration) (judged bool) {
	r := newRig(t, 1, secure)
	w := r.g.workers[0]
	slow, silent := r.dial(), r.dial()
	slow.settle()
	silent.settle()
	w.mu.Lock()
	cfg := w.chains[r.chain].cfg
	cfg.SlowReader = limit
	cfg.HiWater = maxEncrypt - 8<<10 // so that much is encrypted at once
	w.eachDown(func(d *downConn) { _ = d.sock.impl.(*netConn).nc.(*net.TCPConn).SetWriteBuffer(16 << 10) })
	w.mu.Unlock()
	for _, c := range []*client{slow, silent} {
		_ = c.tcp.SetReadBuffer(16 << 10)
		c.get(1, "/"+strconv.Itoa(8<<20)) // more than all buffers hold
		c.send()
	}
	count := func() (conns int, given uint64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.downs, w.downH2.SlowReader
	}
	b := make([]byte, 4<<10)
	last, longest := time.Now(), time.Duration(0)
	read := func() {
		_, _ = slow.Conn.Read(b)
		time.Sleep(40 * time.Millisecond) // the pace of a thin line
		now := time.Now()
		last, longest = now, max(longest, now.Sub(last))
	}
	deadline := time.Now().Add(patience)
	for n := uint64(0); n == 0; _, n = count() {
		if time.Now().After(deadline) {
			t.Fatal("the client that reads nothing is still served")
		}
		read()
	}
	for until := time.Now().Add(limit * 3 / 2); time.Now().Before(until); {
		read()
	}
	conns, n := count()
	if conns == 1 && n == 1 {
		return true
	}
	if longest > limit/4 { // the kernel has room for little
		t.Logf("%d connections are left, but there were %v between two reads", conns, longest)
		return false
	}
	t.Errorf("%d connections are left, %d were given up, want the one that reads", conns, n)
	return true
}

// TestLastAnswerIsTaken: a connection that drains ends when its client has taken
// the last answer, however slowly.
func TestLastAnswerIsTaken(t *testing.T) { plainAndTLS(t, testLastAnswerIsTaken) }

func testLastAnswerIsTaken(t *testing.T, secure bool) {
	r := newRig(t, 1, secure)
	w := r.g.workers[0]
	c := r.dial()
	c.settle()
	w.mu.Lock()
	w.eachDown(func(d *downConn) { _ = d.sock.impl.(*netConn).nc.(*net.TCPConn).SetWriteBuffer(16 << 10) })
	w.mu.Unlock()
	_ = c.tcp.SetReadBuffer(16 << 10)
	const n = 120_000 // more than the kernel holds, less than HTTP/2's output
	c.get(1, "/"+strconv.Itoa(n))
	c.send()
	r.g.Drain(func(*Chain) bool { return true }, 0)
	poll(t, "the connection is over", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		k := w.socks.next
		return k.down && k.conn.Dead()
	})
	time.Sleep(2 * lingerTime)
	c.wantAnswer(n)
	if err := c.closed(); err != nil {
		t.Error(err)
	}
}

// TestInformationalUnread: informational responses, which no window bounds, do
// not pile up for a client that takes nothing.
func TestInformationalUnread(t *testing.T) {
	s := newScript(t, nil, nil)
	r := s.call(&rpc{grpc: true})
	p, st := s.server(r, 0)
	s.respond(p, st, false, ":status", "103", "link", "</first>")
	s.client.l.out.cap = 0
	for range 300 {
		s.respond(p, st, false, ":status", "103", "link", strings.Repeat("x", 10_000))
	}
	conn := s.client.l.k.conn
	if n := conn.Output().Len(); n > 512<<10 {
		t.Errorf("%d bytes wait for the client", n)
	}
	s.client.l.out.cap = 1 << 20
	s.settleNow()
	s.respond(p, st, true, trailersOnly(r, "0")...)
	s.expect(r, "200 grpc 0")
	s.finish()
}

// TestLastAnswerIsDelivered: what the kernel has of the last answer reaches a
// client whose line is slow, although it sends frames meanwhile: a socket that
// was closed answers them by a reset, and drops what is under way.
func TestLastAnswerIsDelivered(t *testing.T) { plainAndTLS(t, testLastAnswerIsDelivered) }

func testLastAnswerIsDelivered(t *testing.T, secure bool) {
	if runtime.GOOS != "linux" {
		t.Skip("nobody knows here what the kernel has")
	}
	r := newRig(t, 1, secure)
	w := r.g.workers[0]
	c := r.dial()
	c.settle()
	_ = c.tcp.SetReadBuffer(16 << 10)
	w.mu.Lock()
	w.eachDown(func(d *downConn) { _ = d.sock.impl.(*netConn).nc.(*net.TCPConn).SetWriteBuffer(1 << 20) })
	w.mu.Unlock()
	const n = 120_000 // more than the client's kernel holds, less than ours
	c.get(1, "/"+strconv.Itoa(n))
	c.send()
	r.g.Drain(func(*Chain) bool { return true }, 0)
	poll(t, "all is written", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		k := w.socks.next
		return k.down && k.lingering
	})
	w.mu.Lock()
	under := w.driver.Queued(w.socks.next)
	w.mu.Unlock()
	if under == 0 {
		t.Skip("this system's buffers hold all of it")
	}
	time.Sleep(2 * lingerTime) // by then a client that owes nothing is let go
	_ = c.fr.WritePing(false, [8]byte{3})
	c.send()
	c.wantAnswer(n)
	poll(t, "the connection has an end", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.downs == 0
	})
}

// TestPatienceEnds: a client that takes something of its last answers now and
// then has five minutes, however much is left, less at the drain's deadline or
// if it sends without end, and half a minute if it takes nothing.
func TestPatienceEnds(t *testing.T) {
	for _, tt := range []struct {
		takes, sends int // each second
		cutAt        clock.Nanos
		want         time.Duration
	}{
		{takes: 1, want: lingerMost},
		{takes: 1, cutAt: 10e9, want: 10 * time.Second},
		{takes: 1, sends: lingerRead/20 + 1, want: 20 * time.Second},
		{takes: 0, want: lingerStall + time.Second}, // it is looked at first after one
	} {
		d := &kernel{queued: 1 << 20}
		k := &Sock{}
		k.w, k.patient, k.cutAt = &Worker{driver: d}, true, tt.cutAt
		k.endAt, k.endMost = clock.Nanos(lingerMost), lingerRead
		now := clock.Nanos(1e9)
		for ; now < 3600e9 && k.underWay(now); now += 1e9 {
			d.queued -= tt.takes
			k.moved += uint64(tt.sends)
		}
		if got := time.Duration(now); got < tt.want-time.Second || got > tt.want+time.Second {
			t.Errorf("%+v: it had %v", tt, got)
		}
	}
}

// kernel is a driver that knows only what is on its way.
type kernel struct {
	Driver
	queued int
}

func (d *kernel) Queued(*Sock) int { return d.queued }

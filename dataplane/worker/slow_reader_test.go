//go:build unix

package worker

import (
	"bytes"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
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
	var got []byte
	for len(got) < n {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		f, err := c.fr.ReadFrame()
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(got), n, err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			got = append(got, d.Data()...)
		}
	}
	if !bytes.Equal(got, pattern(n)) {
		t.Error("the answer is a wrong one")
	}
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
	var got []byte
	for len(got) < n {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		f, err := c.fr.ReadFrame()
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(got), n, err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			got = append(got, d.Data()...)
		}
	}
	if !bytes.Equal(got, pattern(n)) {
		t.Error("the answer is a wrong one")
	}
	poll(t, "the connection has an end", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.downs == 0
	})
}

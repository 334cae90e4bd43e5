//go:build unix

package worker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecordScanner counts records however they are cut, and gives up at a
// header that TLS does not know.
func TestRecordScanner(t *testing.T) {
	record := func(kind byte, n int) []byte {
		return append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{7}, n)...)
	}
	stream := bytes.Join([][]byte{record(22, 10), record(23, 0), record(23, 300), record(21, 2)}, nil)
	for a := range stream {
		for _, b := range []int{a, (a + len(stream)) / 2} {
			var s recordScanner
			got := s.scan(stream[:a]) + s.scan(stream[a:b]) + s.scan(stream[b:])
			if got != 4 || s.want() != recordHeader {
				t.Fatalf("cut at %d and %d: %d records, then %d bytes wanted", a, b, got, s.want())
			}
		}
	}
	for name, bad := range map[string][]byte{
		"unknown type": record(25, 1),
		"too long":     {23, 3, 3, 0xff, 0xff},
		"HTTP":         []byte("GET / HTTP/1.1\r\n"),
	} {
		var s recordScanner
		if n := s.scan(bad) + s.scan(stream); n != 1 || !s.broken {
			t.Errorf("%s: %d records, broken %v", name, n, s.broken)
		}
	}
}

// TestPace: a burst passes, then one at a time; who would wait too long does
// not wait.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{every: time.Millisecond}
		start := time.Now()
		const n = 100
		for range n {
			if err := p.wait(t.Context(), stays); err != nil {
				t.Fatal(err)
			}
		}
		// wait lets burst + 1 pass at once.
		if took, want := time.Since(start), (n-burst-1)*time.Millisecond; took != want {
			t.Errorf("%d turns took %v, want %v", n, took, want)
		}
		for range n {
			go func() { _ = p.wait(t.Context(), stays) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), n/2*time.Millisecond)
		defer cancel()
		start = time.Now()
		if err := p.wait(ctx, stays); !errors.Is(err, errTooMany) || time.Since(start) != 0 {
			t.Errorf("a turn that would come too late: %v after %v", err, time.Since(start))
		}
		time.Sleep(time.Second) // the others
	})
}

func stays() bool { return false }

// TestGoneClientsTakeNoTurn: the turns of those that have left, or that stop
// waiting, are others'.
func TestGoneClientsTakeNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{every: time.Millisecond}
		for range burst + 1 {
			if err := p.wait(t.Context(), stays); err != nil {
				t.Fatal(err)
			}
		}
		stop, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var mu sync.Mutex
		var served []time.Duration // guarded by mu
		turn := func(ctx context.Context, left func() bool) {
			if p.wait(ctx, left) != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			served = append(served, time.Since(start))
		}
		for i := range 300 {
			ctx, left := t.Context(), stays
			switch i % 3 {
			case 0:
				left = func() bool { return true }
			case 1:
				ctx = stop
			}
			go turn(ctx, left)
			synctest.Wait() // in this order
		}
		cancel()
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(served) != 100 {
			t.Fatalf("%d served, want 100", len(served))
		}
		for i, at := range served {
			if want := time.Duration(i+1) * time.Millisecond; at != want {
				t.Errorf("turn %d came after %v, want %v", i, at, want)
			}
		}
	})
}

// TestGone: a client that has closed is told from one that waits.
func TestGone(t *testing.T) {
	client, nc := connected(t)
	if Gone(nc) {
		t.Error("a silent client is gone")
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if Gone(nc) {
		t.Error("a client that has spoken is gone")
	}
	_ = client.Close()
	untilGone(t, nc)
}

// TestGoneClientsShakeNoHands: a client that has left after its ClientHello has no
// turn to wait for.
func TestGoneClientsShakeNoHands(t *testing.T) {
	client, nc := connected(t)
	said := make(chan struct{}, 1)
	cfg, _ := trusting{}.Config("")
	go func() { _ = tls.Client(&speaker{client, said}, cfg).Handshake() }() // ends with client
	<-said
	_ = client.Close()
	untilGone(t, nc)
	hs := &Handshakes{gate: newGate(1), pace: pace{every: time.Hour, next: time.Now().Add(time.Hour)}}
	ctx, cancel := context.WithCancel(t.Context()) // with a deadline it would wait for no turn
	time.AfterFunc(patience, cancel)
	if _, err := hs.Serve(ctx, nc, &tls.Config{}, nil); !errors.Is(err, ErrGone) {
		t.Errorf("Serve says %v", err)
	}
}

// speaker tells when it has said something.
type speaker struct {
	net.Conn
	said chan struct{}
}

func (s *speaker) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	select {
	case s.said <- struct{}{}:
	default:
	}
	return n, err
}

// connected returns both ends of a connection.
func connected(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

// untilGone waits until nc says that its peer has closed.
func untilGone(t *testing.T, nc net.Conn) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("it says so when all was read")
	}
	for end := time.Now().Add(30 * time.Second); !Gone(nc); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a client that has closed is not gone")
		}
	}
}

// TestSilentHandshakesHoldNoToken: with one token, 20 clients that stop in the
// middle of a handshake delay nobody.
func TestSilentHandshakesHoldNoToken(t *testing.T) {
	r := newRig(t, 1, true)
	for i := range 20 {
		nc, err := net.Dial("tcp", r.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		cut := &cutConn{Conn: nc, left: []int{0, 3, 100, 1 << 20}[i%4]}
		cfg, _ := trusting{}.Config("")
		go func() { _ = tls.Client(cut, cfg).Handshake() }() // ends with nc
	}
	r.dial().settle()
}

// cutConn says only so many bytes, and hears nothing.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(p []byte) (int, error) {
	n := min(c.left, len(p))
	c.left -= n
	if n > 0 {
		if _, err := c.Conn.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

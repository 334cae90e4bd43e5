//go:build unix

package worker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
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
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// wait lets burst + 1 pass at once.
		if took, want := time.Since(start), (n-burst-1)*time.Millisecond; took != want {
			t.Errorf("%d turns took %v, want %v", n, took, want)
		}
		for range n {
			go func() { _ = p.wait(t.Context()) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), n/2*time.Millisecond)
		defer cancel()
		start = time.Now()
		if err := p.wait(ctx); !errors.Is(err, errTooMany) || time.Since(start) != 0 {
			t.Errorf("a turn that would come too late: %v after %v", err, time.Since(start))
		}
		time.Sleep(time.Second) // the others
	})
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

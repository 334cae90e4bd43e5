//go:build unix

package dataplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/transport"
	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// queue fills pendings as a test says.
type queue struct {
	t     *testing.T
	ps    pendings
	stats listenerStats
	all   []*pending
	ended []bool
}

func (q *queue) add(now time.Time, n int, s step) {
	q.t.Helper()
	for range n {
		i := len(q.all)
		q.ended = append(q.ended, false)
		p, ok := q.ps.add(now, 0, func(error) { q.ended[i] = true }, &q.stats)
		if !ok {
			q.t.Fatalf("connection %d is refused", i)
		}
		if s == stepTurn || s == stepAnswer {
			p.Hello()
		}
		if s == stepAnswer {
			p.Turn()
		}
		q.all = append(q.all, p)
	}
}

// want checks which connections have ended: those in the ranges of from, to.
func (q *queue) want(ranges ...int) {
	q.t.Helper()
	want := make([]bool, len(q.ended))
	for i := 0; i < len(ranges); i += 2 {
		for k := ranges[i]; k < ranges[i+1]; k++ {
			want[k] = true
		}
	}
	left := 0
	for i := range want {
		if q.ended[i] != want[i] {
			q.t.Fatalf("connection %d has ended: %v, want %v", i, q.ended[i], want[i])
		}
		if !q.ended[i] {
			left++
		}
	}
	if q.ps.n != left {
		q.t.Fatalf("%d are pending, want %d", q.ps.n, left)
	}
}

// TestPendings: who leaves for a newcomer. Time stands still but for what is
// passed as one.
func TestPendings(t *testing.T) {
	run := func(name string, test func(t *testing.T, t0 time.Time)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, time.Now()) }) })
	}
	run("the oldest", func(t *testing.T, t0 time.Time) {
		q := queue{t: t}
		q.add(t0, maxPending, stepHello)
		q.want()
		q.add(t0, 3, stepHello)
		q.want(0, 3)
		if n := q.stats.crowded.Load(); n != 3 {
			t.Errorf("downstream_pre_cx_crowded is %d", n)
		}
		for _, p := range q.all {
			p.leave()
			p.leave()
		}
		if q.ps.n != 0 {
			t.Errorf("%d are left", q.ps.n)
		}
	})
	run("of the greater kind", func(t *testing.T, t0 time.Time) {
		const answers = maxPending * 3 / 4
		q := queue{t: t}
		q.add(t0, maxPending-answers, stepHello)
		q.add(t0, answers, stepAnswer)
		q.add(t0, 1, stepHello)
		q.want(maxPending-answers, maxPending-answers+1)
	})
	run("nobody whose turn comes", func(t *testing.T, t0 time.Time) {
		q := queue{t: t}
		q.add(t0, maxPending, stepTurn)
		if _, ok := q.ps.add(t0.Add(roomTime), 0, func(error) {}, &q.stats); ok {
			t.Error("there is room although all wait for their turn")
		}
		q.all[7].leave()
		if _, ok := q.ps.add(t0, 0, func(error) {}, &q.stats); !ok {
			t.Error("there is no room although one has left")
		}
	})
	run("nobody who has just come", func(t *testing.T, t0 time.Time) {
		q := queue{t: t}
		q.add(t0, maxPending, stepHello)
		for late, want := range map[time.Duration]bool{crowdedTime - 1: false, crowdedTime: true} {
			if _, ok := q.ps.add(t0.Add(late), crowdedTime, func(error) {}, &q.stats); ok != want {
				t.Errorf("after %v: room %v, want %v", late, ok, want)
			}
		}
	})
	run("those who take long, in a half full house", func(t *testing.T, t0 time.Time) {
		q := queue{t: t}
		q.add(t0, maxPending/2-1, stepHello)
		late := t0.Add(pressedTime)
		q.add(late, 1, stepHello) // it was less than half full
		q.want()
		q.add(late, 1, stepHello)
		q.want(0, maxPending/2-1)
		if n := q.stats.pressed.Load(); n != maxPending/2-1 {
			t.Errorf("downstream_pre_cx_pressed is %d", n)
		}
	})
}

// TestSilentClientsMakeRoom fills a listener with clients that stop at one step
// of the handshake, and more of them: another client's handshake is not refused;
// those that say no ClientHello go, the first ones first.
func TestSilentClientsMakeRoom(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	for name, stop := range map[string]func(nc net.Conn){
		"says nothing":       func(net.Conn) {},
		"half a ClientHello": func(nc net.Conn) { _, _ = nc.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1}) },
		"does not answer":    func(nc net.Conn) { helloOnly(nc) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			ctx := serverTLS(t, transport.ServerOptions{Certificates: []*transport.Secret[transport.Certificate]{secret(t, ca.Leaf(t, "a", tlstest.DNS("a.org")))}, ALPN: []string{"h2"}})
			mustServe(t, s, secured(t, &listener.Chain{Key: 1, Match: listener.Match{TransportProtocol: listener.TransportTLS}, Manager: &call.Manager{Director: answer{"x"}}, TLS: ctx}))
			var first net.Conn
			for range maxPending + 50 {
				nc, err := net.Dial("tcp", s.Listeners()[0].Addresses[0])
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = nc.Close() }()
				stop(nc)
				if first == nil {
					first = nc
				}
			}
			c := tlsClient(t, s, "a.org", ca, nil)
			if got := said(t, c); got != "x TLS" {
				t.Errorf("a new client %s", got)
			}
			if name == "does not answer" {
				return // where the pace leaves them depends on the machine
			}
			_ = first.SetReadDeadline(time.Now().Add(pendingTime / 2))
			if _, err := io.Copy(io.Discard, first); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the first silent client is still there")
			}
			b := s.bindings["a"]
			if n := b.stats.crowded.Load() + b.stats.pressed.Load() + b.stats.overflow.Load(); n < 50 {
				t.Errorf("%d were counted", n)
			}
		})
	}
}

// TestShutdownOfFullHouse: clients in the accept queue, who wait until others
// have had their turns, do not hold Shutdown up beyond its time.
func TestShutdownOfFullHouse(t *testing.T) {
	s, err := New(Options{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	ca := tlstest.CA(t, "ca")
	ctx := serverTLS(t, transport.ServerOptions{Certificates: []*transport.Secret[transport.Certificate]{secret(t, ca.Leaf(t, "a", tlstest.DNS("a.org")))}})
	mustServe(t, s, secured(t, &listener.Chain{Key: 1, Match: listener.Match{TransportProtocol: listener.TransportTLS}, Manager: &call.Manager{Director: answer{"x"}}, TLS: ctx}))
	b := s.bindings["a"]
	for range maxPending {
		p, _ := b.pending.add(time.Now(), crowdedTime, func(error) {}, &b.stats)
		p.Hello()
	}
	for range 30 { // more than patience, if each waits for its time
		nc, err := net.Dial("tcp", s.Listeners()[0].Addresses[0])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
	}
	soon, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_ = s.Shutdown(soon)
	if late := time.Since(begin); late > patience {
		t.Errorf("Shutdown took %v", late)
	}
}

// helloOnly says a ClientHello and nothing more.
func helloOnly(nc net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_ = tls.Client(&stopAfterWrite{nc}, &tls.Config{ServerName: "a.org"}).HandshakeContext(ctx)
}

// stopAfterWrite writes and reads nothing.
type stopAfterWrite struct{ net.Conn }

func (stopAfterWrite) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
func (stopAfterWrite) Close() error             { return nil }

// TestTLSCrowd: clients come at once, as after a restart, as many as a listener
// has places for before a worker has them. Next to none is turned away: on a
// busy machine some are slower than they may be. How busy it is, the same crowd
// at a listener of crypto/tls tells.
func TestTLSCrowd(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	leaf := ca.Leaf(t, "a", tlstest.DNS("a.org"))
	s := newServer(t)
	ctx := serverTLS(t, transport.ServerOptions{Certificates: []*transport.Secret[transport.Certificate]{secret(t, leaf)}, ALPN: []string{"h2"}})
	mustServe(t, s, secured(t, &listener.Chain{Key: 1, Match: listener.Match{TransportProtocol: listener.TransportTLS}, Manager: &call.Manager{Director: answer{"x"}}, TLS: ctx}))
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	const clients = maxPending * 3 / 4
	crowd := func(addr string) (failed int64, took time.Duration) {
		var wg sync.WaitGroup
		var n atomic.Int64
		start := time.Now()
		for range clients {
			wg.Go(func() {
				nc, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "a.org", NextProtos: []string{"h2"}})
				if err != nil {
					n.Add(1)
					return
				}
				_ = nc.Close()
			})
		}
		wg.Wait()
		return n.Load(), time.Since(start)
	}
	plain := plainTLS(t, leaf)
	const tries = 3
	judged := 0 // the machine may have become quiet just before it is asked
	for range tries {
		failed, took := crowd(s.Listeners()[0].Addresses[0])
		if failed <= clients/20 {
			return
		}
		_, without := crowd(plain)
		if without < 3*time.Second {
			judged++
		}
		t.Logf("%d of %d clients were turned away in %v; all of them take %v at crypto/tls", failed, clients, took, without)
	}
	if judged == tries {
		t.Fatal("a crowd is turned away")
	}
	t.Skip("the machine is too busy for a crowd")
}

// plainTLS returns the address of a listener that does handshakes and nothing
// else.
func plainTLS(t *testing.T, leaf *tlstest.Pair) string {
	t.Helper()
	cert, err := tls.X509KeyPair(leaf.Chain, leaf.PEM)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, nc)
				_ = nc.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

//go:build unix

package dataplane

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/internal/leaktest"
	"github.com/sluice-proxy/sluice/test/echo"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// failing is a listening socket that fails with each of errs in turn.
type failing struct {
	deadliner
	errs  []error
	until time.Time // SetDeadline
}

func (f *failing) SetDeadline(t time.Time) error {
	f.until = t
	return nil
}

func (f *failing) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

// Accepting goes on after whatever error, waiting longer each time, until the
// socket is closed.
func TestAcceptBackoff(t *testing.T) {
	tests := map[string]struct {
		errs []error
		want time.Duration
	}{
		"closed":                    {nil, 0},
		"client left":               {[]error{syscall.ECONNABORTED, syscall.ECONNABORTED}, 0},
		"out of descriptors":        {[]error{syscall.EMFILE, syscall.ENFILE, syscall.EMFILE}, (5 + 10 + 20) * time.Millisecond},
		"anything":                  {[]error{syscall.EIO}, 5 * time.Millisecond},
		"deadline of a past holder": {[]error{os.ErrDeadlineExceeded, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{log: slog.New(slog.DiscardHandler), done: make(chan struct{})}
				k := &socket{s: s, ln: &failing{errs: append(tt.errs, net.ErrClosed)}}
				k.owner.Store(&binding{s: s})
				start := time.Now()
				k.accept()
				if got := time.Since(start); got != tt.want {
					t.Errorf("waited %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestAcceptGrace: an address that is given up still accepts for a while.
func TestAcceptGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failing{}
		k := &socket{s: &Server{sockets: map[string]*socket{}}, ln: ln, accepts: true}
		k.releaseLocked()
		if grace := time.Until(ln.until); grace < 10*time.Millisecond || grace > time.Second || !k.closing {
			t.Errorf("it accepts for %v, closing %v", grace, k.closing)
		}
	})
}

// TestQueueIsServed: clients that wait in the queue of a listener that is
// removed are served, however late.
//  1. The one worker is busy, and with it the goroutine that accepts.
//  2. Clients connect; the listener is removed; its grace passes.
//  3. The worker goes on: every client gets the SETTINGS of HTTP/2.
func TestQueueIsServed(t *testing.T) {
	s, err := New(Options{Concurrency: 1, DrainTime: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	}()
	busy := busyDirector{entered: make(chan struct{}), leave: make(chan struct{})}
	mustServe(t, s, withChains(t, "a", []string{"127.0.0.1:0"}, &listener.Chain{Key: 1, Manager: &call.Manager{Director: busy}}))
	addr := s.Listeners()[0].Addresses[0]
	go func() {
		_, _ = client(t, s).Say(t.Context(), &echo.SayRequest{})
	}()
	<-busy.entered
	var clients []net.Conn
	for range 20 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		clients = append(clients, nc)
	}
	s.Remove("a")
	time.Sleep(2 * acceptGrace) // the grace is the runtime's
	close(busy.leave)
	for i, nc := range clients {
		b := make([]byte, 9)
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(nc, b); err != nil || b[3] != 4 {
			t.Fatalf("client %d read %x, %v", i, b, err)
		}
	}
}

// late is a listener that a busy machine brings to its Accept long after the
// deadline that was set just before.
type late struct{ *net.TCPListener }

func (l late) Accept() (net.Conn, error) {
	time.Sleep(3 * queueWait)
	return l.TCPListener.Accept()
}

// TestQueueIsServedLate: clients that wait in the queue of a listener that is
// removed are served, also where the time to look at the queue is always over
// before anybody has looked.
func TestQueueIsServedLate(t *testing.T) {
	s := newServer(t)
	mustBind(t, s, newListener(t, "a", "127.0.0.1:0"))
	k := s.bindings["a"].sockets[0]
	ln, err := listen(k.fd, 0)
	if err != nil {
		t.Fatal(err)
	}
	k.ln, k.fd = late{ln.(*net.TCPListener)}, -1
	var clients []net.Conn
	for range 20 {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		clients = append(clients, nc)
	}
	mustServe(t, s, newListener(t, "a", "127.0.0.1:0"))
	s.Remove("a")
	for i, nc := range clients {
		b := make([]byte, 9)
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(nc, b); err != nil || b[3] != 4 {
			t.Fatalf("client %d read %x, %v", i, b, err)
		}
	}
	s.accepting.Wait()
}

// busyDirector holds its worker up.
type busyDirector struct{ entered, leave chan struct{} }

func (d busyDirector) Direct(*call.Call) (call.Decision, error) {
	close(d.entered)
	<-d.leave
	return call.Decision{Reply: &call.Reply{HTTP: 404}}, nil
}

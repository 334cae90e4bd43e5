package grpcproxy

import (
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// heldStream is a client's stream that ends when it is let go.
type heldStream struct {
	grpc.ServerStream
	started, release chan struct{}
}

func (s heldStream) Context() context.Context { return context.Background() }

func (s heldStream) RecvMsg(any) error {
	s.started <- struct{}{}
	<-s.release
	return io.EOF
}

// endedCall takes the end of a request.
type endedCall struct{ grpc.ClientStream }

func (endedCall) CloseSend() error { return nil }

// TestPumps: a call finds the goroutine of one that has ended, the last to
// have ended; so many stay idle as may, and for so long as they may; a call
// that comes after the end is carried, too.
func TestPumps(t *testing.T) {
	p := newPumps(2, 0)
	s := heldStream{started: make(chan struct{}), release: make(chan struct{})}
	u := &upward{ss: s, cs: endedCall{}}
	idle := func() []*pump {
		p.mu.Lock()
		defer p.mu.Unlock()
		return append([]*pump(nil), p.idle...)
	}
	waitIdle := func(n int) []*pump {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			if w := idle(); len(w) == n {
				return w
			} else if time.Now().After(deadline) {
				t.Fatalf("%d goroutines are idle, want %d", len(w), n)
			}
		}
	}
	for range 2 {
		p.run(u)
		<-s.started
	}
	for range 2 {
		s.release <- struct{}{}
	}
	last := waitIdle(2)[1]
	if p.rest(&pump{}) {
		t.Error("more goroutines are idle than may be")
	}
	p.run(u)
	<-s.started
	if left := idle(); len(left) != 1 || left[0] == last {
		t.Error("the call was not given to the goroutine that became idle last")
	}
	closed := make(chan struct{})
	go func() {
		p.close()
		close(closed)
	}()
	waitIdle(0)
	select {
	case <-closed:
		t.Error("close has not waited for a call")
	default:
	}
	p.run(u) // close is waiting, or about to: not for this one
	<-s.started
	s.release <- struct{}{}
	s.release <- struct{}{}
	<-closed
}

// TestPumpsLinger: idle goroutines end by themselves.
func TestPumpsLinger(t *testing.T) {
	p := newPumps(8, 20*time.Millisecond)
	s := heldStream{started: make(chan struct{}, 16), release: make(chan struct{})}
	close(s.release)
	for range 8 {
		p.run(&upward{ss: s, cs: endedCall{}})
	}
	ended := make(chan struct{})
	go func() {
		p.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("idle goroutines have not ended")
	}
	if p.mu.Lock(); len(p.idle) != 0 {
		t.Error("ended goroutines are idle")
	}
	p.mu.Unlock()
}

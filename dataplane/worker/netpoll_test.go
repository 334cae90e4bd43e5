//go:build unix

package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"golang.org/x/net/http2"
)

// A client that sends its last frames and closes at once: one edge for bytes
// and FIN, and no other ever. Every one of 2,000 must be seen closed.
func TestFINWithData(t *testing.T) { plainAndTLS(t, testFINWithData) }

func testFINWithData(t *testing.T, secure bool) {
	n := 2000
	if secure {
		n = 300
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur < uint64(2*n+100) {
		t.Skipf("needs %d descriptors, has %d (%v)", 2*n+100, lim.Cur, err)
	}
	r := newRig(t, 2, secure)
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = r.dial()
		clients[i].settle()
	}
	for i, c := range clients {
		_ = c.fr.WritePing(false, [8]byte{2})
		c.send()
		bye := c.halfClose
		if i%2 == 1 {
			bye = c.tcp.CloseWrite // no close_notify
		}
		if err := bye(); err != nil {
			t.Fatal(err)
		}
	}
	// No timeout of the proxy helps: they have said all that they must say. So
	// it is over when none has ended for a while.
	hanging := 0
	deadline := time.Now().Add(patience)
	for _, c := range clients {
		_ = c.SetReadDeadline(deadline)
		_, err := io.Copy(io.Discard, c.tcp)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			hanging++
		case hanging == 0:
			deadline = time.Now().Add(patience)
		}
	}
	if hanging > 0 {
		t.Errorf("%d of %d connections hang", hanging, n)
	}
}

// A client that does not read for a while: the writer blocks, waits in the
// poller, and goes on; no byte is lost or twice.
func TestBlockedWriter(t *testing.T) { plainAndTLS(t, testBlockedWriter) }

func testBlockedWriter(t *testing.T, secure bool) {
	r := newRig(t, 2, secure)
	slow, other := r.dial(), r.dial()
	const n = 12 << 20 // more than the kernel's buffers and our windows hold
	slow.get(1, "/"+strconv.Itoa(n))
	slow.send()
	for id := uint32(1); id < 100; id += 2 { // meanwhile others are served
		other.get(id, "/1000")
		other.send()
		if got := other.body(id); !bytes.Equal(got, pattern(1000)) {
			t.Fatalf("other client's stream %d: %d bytes, or wrong ones", id, len(got))
		}
	}
	if got := slow.body(1); !bytes.Equal(got, pattern(n)) {
		t.Errorf("slow client got %d bytes, or wrong ones; want %d", len(got), n)
	}
}

// A client that asks and does not read: the worker stops reading it, and reads
// on when it has read. The edge that told of its requests is long gone by then.
func TestReadingStopsAndResumes(t *testing.T) { plainAndTLS(t, testReadingStopsAndResumes) }

func testReadingStopsAndResumes(t *testing.T, secure bool) {
	r := newRig(t, 1, secure)
	r.chain.SetManager(&call.Manager{Director: big{}})
	c := r.dial()
	const n = 600 // 9 MiB of answers: more than the kernel holds
	id := uint32(1)
	ask := func() {
		for range n {
			c.get(id, "/")
			id += 2
		}
		c.send()
	}
	ask()
	w := r.g.workers[0]
	deadline := time.Now().Add(patience)
	for stopped := false; !stopped; {
		if time.Now().After(deadline) {
			t.Fatal("the worker reads on")
		}
		runtime.Gosched()
		w.mu.Lock()
		stopped = w.socks.next.stopped
		w.mu.Unlock()
	}
	ask()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for answers := 0; answers < 2*n; {
		f, err := c.fr.ReadFrame()
		if err != nil {
			t.Fatalf("after %d answers: %v", answers, err)
		}
		if f.Header().Type == http2.FrameHeaders {
			answers++
		}
	}
}

// A deadline while nothing happens on any socket.
func TestTimer(t *testing.T) {
	r := newRig(t, 1, false)
	r.chain.SetManager(&call.Manager{Director: fixed{silentHost(t), 20 * time.Millisecond}})
	c := r.dial()
	for id := uint32(1); id < 10; id += 2 {
		start := time.Now()
		c.get(id, "/")
		c.send()
		c.body(id)
		if d := time.Since(start); d < 20*time.Millisecond || d > patience/2 {
			t.Errorf("a deadline of 20 ms came after %v", d)
		}
	}
}

// Connections that end in every way while calls run on them, on descriptors
// that are used again at once: nobody gets another's bytes, nothing stays.
func TestChurn(t *testing.T) { plainAndTLS(t, testChurn) }

func testChurn(t *testing.T, secure bool) {
	r := newRig(t, 2, secure)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 60 {
				n := 1 + (i*60+k)*97%200_000
				c := r.dial()
				c.get(1, "/"+strconv.Itoa(n))
				c.send()
				switch k % 4 {
				case 0: // reset with the call open
					_ = c.tcp.SetLinger(0)
					_ = c.Close()
				case 1: // half-close with the call open
					_ = c.halfClose()
					if err := c.closed(); err != nil {
						t.Errorf("after half-close: %v", err)
					}
					_ = c.Close()
				default:
					if got := c.body(1); !bytes.Equal(got, pattern(n)) {
						t.Errorf("got %d bytes, or wrong ones; want %d", len(got), n)
					}
					_ = c.Close()
				}
			}
		})
	}
	wg.Wait()
}

// Shutdown while clients connect, call and leave.
func TestShutdownRace(t *testing.T) { plainAndTLS(t, testShutdownRace) }

func testShutdownRace(t *testing.T, secure bool) {
	for range 10 {
		t.Run("", func(t *testing.T) {
			r := newRig(t, 2, secure)
			var wg sync.WaitGroup
			for range 4 {
				c := r.dial()
				wg.Go(func() { c.callUntilClosed() })
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			r.shutdown(ctx)
			wg.Wait()
		})
	}
}

// A host that does not answer: the dial gives up, and shutting down does not
// wait for it.
func TestDialAborted(t *testing.T) {
	r := newRig(t, 1, false)
	r.chain.SetManager(&call.Manager{Director: fixed{host: silentHost(t)}})
	c := r.dial()
	c.get(1, "/1")
	c.send()
	c.settle()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	start := time.Now()
	r.shutdown(ctx)
	if d := time.Since(start); d > patience/2 {
		t.Errorf("Shutdown took %v with a dial in progress", d)
	}
	if err := c.closed(); err != nil {
		t.Error(err)
	}
}

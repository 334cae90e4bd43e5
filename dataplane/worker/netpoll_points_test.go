//go:build linux

package worker

import (
	"bytes"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// spy is the netpoll driver of a worker, and what it was made to do. All of it
// is guarded by the worker's lock.
type spy struct {
	*netpoll
	writes  map[*Sock]int // calls of Write
	batches int           // calls of SetTimer: one for each batch
	batch   map[*Sock]int // bytes given to Write in this batch
	burst   int           // the most of one sock in one batch
	queued  int64         // the most that was held for slow receivers at a Write
	live    int           // the most bytes of chunks in use at a Write
}

// newSpied returns a rig of one worker whose driver is spied on.
func newSpied(t *testing.T) (*rig, *spy) {
	t.Helper()
	d := &spy{writes: make(map[*Sock]int), batch: make(map[*Sock]int)}
	r := newRigOn(t, 1, false, func(w *Worker) Driver {
		d.netpoll = NewNetpoll(w).(*netpoll)
		return d
	})
	return r, d
}

func (d *spy) Write(k *Sock, bufs [][]byte) (n int, again bool, err error) {
	d.writes[k]++
	d.queued = max(d.queued, d.w.core.Queued())
	d.live = max(d.live, d.w.pool.LiveBytes())
	n, again, err = d.netpoll.Write(k, bufs)
	d.batch[k] += n
	d.burst = max(d.burst, d.batch[k])
	return n, again, err
}

func (d *spy) SetTimer(at clock.Nanos) {
	d.batches++
	clear(d.batch)
	d.netpoll.SetTimer(at)
}

// forget starts the figures anew.
func (d *spy) forget() {
	clear(d.writes)
	d.burst, d.queued, d.live = 0, 0, 0
}

// pauses is how often the lock was given away in the middle of a batch.
func (d *spy) pauses() (n int) {
	for _, bucket := range d.w.holds.Buckets {
		n += int(bucket)
	}
	return n - d.batches
}

// locked runs f under the worker's lock.
func (d *spy) locked(f func()) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	f()
}

// pileUp runs f under the worker's lock and keeps that until n connections have
// woken up and wait for it, long enough to get it in the order of their coming;
// last is run then.
func (d *spy) pileUp(t *testing.T, n int, f, last func()) {
	t.Helper()
	d.locked(func() {
		f()
		poll(t, "the connections wake up", func() bool { return inCallback() >= n })
		time.Sleep(3 * time.Millisecond) // sync.Mutex is fair to those that waited for 1 ms
		last()
	})
}

// inCallback counts the goroutines that the poller has woken up.
func inCallback() int {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	return bytes.Count(buf, []byte("worker.(*netConn).readable("))
}

// unread returns how many bytes wait in c's socket.
func unread(t *testing.T, c *netConn) int {
	t.Helper()
	n, err := unix.IoctlGetInt(c.fd, unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// upstreamSock returns the one upstream connection. Call it under the lock.
func (d *spy) upstreamSock(t *testing.T) *Sock {
	t.Helper()
	if len(d.w.order) != 1 || len(d.w.order[0].conns) != 1 {
		t.Fatal("there is not one upstream connection")
	}
	return &d.w.order[0].conns[0].sock
}

// TestYieldMerges: requests of many connections that the poller tells of at
// once share the writes to their upstream connection.
func TestYieldMerges(t *testing.T) {
	r, d := newSpied(t)
	const n = 16
	var clients []*client
	for range n {
		c := r.dial()
		c.get(1, "/10")
		c.send()
		c.body(1)
		clients = append(clients, c)
	}
	var up *Sock
	d.pileUp(t, n, func() {
		for _, c := range clients {
			c.get(3, "/10")
			c.send()
		}
	}, func() {
		up = d.upstreamSock(t)
		d.w.score = maxScore
		d.forget()
	})
	for _, c := range clients {
		c.body(3)
	}
	d.locked(func() {
		if got := d.writes[up]; got > n/2 {
			t.Errorf("%d requests went up in %d writes", n, got)
		}
		if d.w.score < maxScore/2 {
			t.Errorf("merging paid, yet the score is %d of %d", d.w.score, maxScore)
		}
	})
}

// TestYieldProbes: a worker that has not yielded for long finds out that it
// pays again.
func TestYieldProbes(t *testing.T) {
	r, d := newSpied(t)
	clients := []*client{r.dial(), r.dial(), r.dial(), r.dial()}
	for _, c := range clients {
		c.settle()
	}
	score := 0
	// The scheduler may bring the one that yields back before all others.
	for id := uint32(1); id < 41 && score == 0; id += 2 {
		d.pileUp(t, len(clients), func() {
			for _, c := range clients {
				c.get(id, "/10")
				c.send()
			}
		}, func() { d.w.score, d.w.events = 0, probeYield-1 })
		for _, c := range clients {
			c.body(id)
		}
		d.locked(func() { score = d.w.score })
	}
	if score == 0 {
		t.Error("nothing was learned")
	}
}

// TestLoneStreamDoesNotYield: the wake-up of another processor, which a yield
// is, costs a lone stream dearly. It is forgotten soon that yielding once paid.
func TestLoneStreamDoesNotYield(t *testing.T) {
	r, d := newSpied(t)
	c := r.dial()
	ask := func(id uint32) {
		c.get(id, "/10")
		c.send()
		c.body(id)
	}
	ask(1)
	var pauses int
	var events uint64
	d.locked(func() {
		d.w.score = maxScore
		pauses, events = d.pauses(), d.w.events
	})
	for id := uint32(3); id < 200; id += 2 {
		ask(id)
	}
	d.locked(func() {
		got, allowed := d.pauses()-pauses, maxScore+int(d.w.events-events)/probeYield+1
		if got > allowed {
			t.Errorf("%d yields in %d batches, want at most %d", got, d.w.events-events, allowed)
		}
		if d.w.score != 0 {
			t.Errorf("the score is %d", d.w.score)
		}
	})
}

// TestEarlyWrite: a batch that brings more for a connection than may be unsent
// writes before its end. The socket takes it, so nobody is held up.
func TestEarlyWrite(t *testing.T) {
	r, d := newSpied(t)
	c := r.dial()
	const streams, size = 4, 60_000
	for i := range uint32(streams) {
		c.get(2*i+1, "/held/60000")
	}
	c.send()
	for range streams {
		<-r.asked
	}
	d.locked(func() {
		up := d.upstreamSock(t).impl.(*netConn)
		if err := up.nc.(*net.TCPConn).SetReadBuffer(1 << 20); err != nil {
			t.Fatal(err)
		}
		close(r.release)
		enough := h2HiWater + 40_000
		poll(t, "the answers come", func() bool { return unread(t, up) >= enough })
		d.forget()
	})
	got := map[uint32]int{}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for ended := 0; ended < streams; {
		f, err := c.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := f.(*http2.DataFrame); ok {
			got[f.StreamID] += len(f.Data())
			if f.StreamEnded() {
				ended++
			}
		}
	}
	for id, n := range got {
		if n != size {
			t.Errorf("stream %d got %d bytes", id, n)
		}
	}
	d.locked(func() {
		if d.burst <= h2HiWater {
			t.Errorf("one batch wrote %d bytes: nothing was tested", d.burst)
		}
		if d.queued > 0 {
			t.Errorf("%d bytes were held back from a socket that takes them", d.queued)
		}
	})
}

// h2HiWater is how much may be unsent.
var h2HiWater = h2.DefaultConfig(h2.Server).HiWater

// TestSmallOutputs: a thousand connections with a few bytes to write each take
// little memory.
func TestSmallOutputs(t *testing.T) {
	const n = 1000
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur < 2*n+100 {
		t.Skipf("needs %d descriptors, has %d (%v)", 2*n+100, lim.Cur, err)
	}
	r, d := newSpied(t)
	var clients []*client
	for range n {
		c := r.dial()
		c.settle()
		clients = append(clients, c)
	}
	d.locked(d.forget)
	r.g.Drain(func(*Chain) bool { return true }, 0) // GOAWAY for all, in one batch
	for _, c := range clients {
		for {
			_ = c.SetReadDeadline(time.Now().Add(patience))
			f, err := c.fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := f.(*http2.GoAwayFrame); ok {
				break
			}
		}
	}
	d.locked(func() {
		each := d.live / n
		if each < 1<<10 {
			t.Errorf("%d bytes for each connection: nothing was tested", each)
		}
		if each > 5<<10 {
			t.Errorf("%d bytes for each connection, want 4 KiB and a little", each)
		}
	})
}

// TestReadBudget: a connection that brings in much gives the lock away now and
// then.
func TestReadBudget(t *testing.T) {
	r, d := newSpied(t)
	c := r.dial()
	c.settle()
	const bytes = 200_000
	var pauses int
	d.locked(func() {
		d.budget = 1 << 10 // after each full buffer
		k := d.w.socks.next.impl.(*netConn)
		if err := k.nc.(*net.TCPConn).SetReadBuffer(1 << 20); err != nil {
			t.Fatal(err)
		}
		for c.buf.Len() < bytes {
			_ = c.fr.WriteRawFrame(0xee, 0, 0, make([]byte, 10_000))
		}
		c.send()
		poll(t, "the frames come", func() bool { return unread(t, k) >= bytes })
		pauses = d.pauses()
	})
	c.settle()
	d.locked(func() {
		if got := d.pauses() - pauses; got < 2 {
			t.Errorf("the lock was given away %d times for %d bytes", got, bytes)
		}
	})
}

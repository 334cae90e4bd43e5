package worker

import (
	"sync"
	"syscall"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// readBudget is how many bytes one connection may bring in before others of
// its worker get the lock: long enough to batch, short enough that a bulk
// transfer does not show in its neighbours' latency.
const readBudget = 256 << 10

// maxIovecs is how many buffers one writev takes; more are written by the
// next call.
const maxIovecs = 64

// maxScore bounds how long the adaptive yield remembers that it paid.
const maxScore = 8

// probeYield: every so many downstream batches the driver yields although it
// has not paid lately, to find out whether it would now.
const probeYield = 64

// epoch is the origin of clock.Nanos, a little before the first reading so
// that every reading is positive.
var epoch = time.Now().Add(-time.Millisecond)

// netpoll is the Driver on the runtime's network poller. One goroutine per
// connection is parked in RawConn.Read; what it does when it wakes up is the
// batch. A second one exists only while a write is blocked.
//
// The runtime registers sockets edge-triggered. So a callback may return to
// the poller only when it has seen EAGAIN or a short read, and a FIN that came
// with the last bytes is noticed by hangups alone.
type netpoll struct {
	// Set at creation.

	w    *Worker
	hup  *hangups // nil: there is no watcher, reads go on to EAGAIN
	wake chan struct{}
	stop chan struct{}
	wg   sync.WaitGroup // every goroutine of the driver
	gate gate           // of the handshakes with upstream hosts

	budget int // readBudget

	// Guarded by the worker's lock.

	cipherIn  []byte // what was read of a connection with TLS; nil: there was none
	cipherOut []byte // what is about to be written to one; nil: there was none
	iov       iovecs
	timer     *time.Timer
	timerAt   clock.Nanos // what timer is set to; 0: it is not running
}

// NewNetpoll returns the driver of w on the runtime's network poller. It is
// Options.NewDriver of every Group but a test's.
func NewNetpoll(w *Worker) Driver {
	d := &netpoll{w: w, wake: make(chan struct{}, 1), stop: make(chan struct{}), timer: time.NewTimer(time.Hour), gate: newGate(1), budget: readBudget}
	d.timer.Stop()
	d.hup = newHangups(d)
	d.wg.Go(d.run)
	return d
}

// run is the worker's own goroutine: batches that no socket asks for.
func (d *netpoll) run() {
	for {
		fired := false
		select {
		case <-d.wake:
		case <-d.timer.C:
			fired = true
		case <-d.stop:
			return
		}
		d.w.begin()
		if fired {
			d.timerAt = 0
		}
		d.w.end()
	}
}

// Now implements Driver.
func (d *netpoll) Now() clock.Nanos { return clock.Nanos(time.Since(epoch)) }

// Wake implements Driver.
func (d *netpoll) Wake() {
	select {
	case d.wake <- struct{}{}:
	default: // run has one coming
	}
}

// SetTimer implements Driver. The timer only ever moves to earlier: most
// deadlines are cancelled, and one needless batch costs less than a Reset for
// each of them.
func (d *netpoll) SetTimer(at clock.Nanos) {
	if at == 0 || d.timerAt != 0 && at >= d.timerAt {
		return
	}
	d.timerAt = at
	d.timer.Reset(max(at.Sub(d.w.now), 0))
}

// Close implements Driver.
func (d *netpoll) Close() {
	close(d.stop)
	if d.hup != nil {
		d.hup.close()
	}
	d.wg.Wait()
	d.timer.Stop()
}

// read feeds the worker what the socket of k holds, until it is empty, ends or
// must not be read now. A short read counts as empty unless toEnd is set. After
// it k may be dead. Callers hold the lock, which is given away now and then if
// there is much to read.
func (d *netpoll) read(k *Sock, toEnd bool) {
	c := k.impl.(*netConn)
	if c.tls != nil {
		d.readTLS(k, c, toEnd)
		return
	}
	for budget := d.budget; !k.dead && !k.stopped && !c.ended; {
		b := k.readBuf()
		n, errno := rawRead(c.fd, b)
		switch {
		case errno == syscall.EAGAIN:
			return
		case errno != 0:
			c.ended = true
			k.eof(errno)
			return
		case n == 0:
			c.ended = true
			k.eof(nil)
			return
		}
		k.fed(n)
		if n < len(b) && !toEnd && !c.toEnd {
			return
		}
		if budget -= n; budget <= 0 {
			d.w.flush()
			d.w.pause()
			budget = d.budget
		}
	}
}

// yield lets the goroutines that the poller made runnable together with this
// one add to the same output before it is written. It wakes an idle processor,
// which costs a lone stream dearly, so it is done only while it merges batches:
// the score counts whether another batch ran meanwhile (docs/core.md, "The netpoll driver").
func (d *netpoll) yield() {
	w := d.w
	w.events++
	if len(w.dirty) == 0 || w.score == 0 && w.events%probeYield != 0 {
		return
	}
	before := w.events
	w.pause()
	if w.events != before {
		w.score = min(w.score+1, maxScore)
	} else {
		w.score = max(w.score-1, 0)
	}
}

// Write implements Driver.
func (d *netpoll) Write(k *Sock, bufs [][]byte) (n int, again bool, err error) {
	c := k.impl.(*netConn)
	if len(bufs) > maxIovecs {
		bufs = bufs[:maxIovecs]
	}
	sum := 0
	for _, b := range bufs {
		sum += len(b)
	}
	if sum == 0 {
		return 0, false, nil
	}
	if c.tls != nil {
		return d.writeTLS(c, bufs)
	}
	n, errno := rawWritev(c.fd, &d.iov, bufs)
	switch errno {
	case 0:
		return n, n < sum, nil
	case syscall.EAGAIN:
		return 0, true, nil
	}
	return 0, false, errno
}

// Arm implements Driver.
func (d *netpoll) Arm(k *Sock) {
	c := k.impl.(*netConn)
	if c.writing || k.dead {
		return
	}
	c.writing = true
	d.wg.Go(c.write)
}

// Resume implements Driver.
func (d *netpoll) Resume(k *Sock) {
	d.wg.Go(k.impl.(*netConn).reread)
}

// CloseWrite implements Driver.
func (d *netpoll) CloseWrite(k *Sock) {
	c := k.impl.(*netConn)
	if c.tls != nil {
		d.closeWriteTLS(k, c)
		return
	}
	_ = syscall.Shutdown(c.fd, syscall.SHUT_WR) // ENOTCONN: the peer was faster
}

// Queued implements Driver.
func (d *netpoll) Queued(k *Sock) int {
	c := k.impl.(*netConn)
	n := rawQueued(c.fd)
	if c.tls != nil {
		n += len(c.tls.out)
	}
	return n
}

// Shutdown implements Driver. The socket's own goroutine wakes up from the
// shutdown and closes the descriptor; until then nobody else can get its
// number.
func (d *netpoll) Shutdown(k *Sock) {
	c := k.impl.(*netConn)
	if c.cancel != nil {
		c.cancel() // a dial in progress has no descriptor of ours yet
	}
	if c.nc != nil {
		if d.hup != nil {
			d.hup.remove(c.fd)
		}
		if c.tls != nil {
			d.shutdownTLS(c)
		}
		shutdown(c)
	}
	// The last thing: whoever sees it without the lock closes the descriptor,
	// whose number may be another connection's at once.
	c.gone.Store(true)
}

// Dial implements Driver.
func (d *netpoll) Dial(k *Sock, t *call.Target, timeout time.Duration) {
	c := newNetConn(d)
	c.k, k.impl = k, c
	ctx, name := c.dialing(timeout), k.hostname()
	d.wg.Go(func() { c.dial(ctx, t, name) })
}

package worker

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// lingerTime is how long a connection that is over waits for the peer's FIN,
// so that the last frames are not lost to a reset.
const lingerTime = time.Second

// lingerStall is how long a client whose system still owes acknowledgements
// of its last answers may take none of them: as long as a slow reader.
const lingerStall = 30 * time.Second

// lingerMost bounds all of that, and lingerRead how much the client may send
// meanwhile, which is read and dropped.
const (
	lingerMost = 5 * time.Minute
	lingerRead = 16 << 20
)

// sockState is the worker's part of a Sock; the driver does not touch it.
type sockState struct {
	conn        *h2.Conn
	owner       sockOwner
	connected   bool      // bytes can be written
	ended       bool      // the peer's FIN or a read error came
	lingering   bool      // conn is over and written out: waits for the FIN
	patient     bool      // and for what was written to reach the peer
	closingSoon bool      // closing is set for a conn that is over
	doomed      bool      // to be killed at the next flush
	tail        *h2.Chunk // a partial frame; owned
	front       int       // bytes of tail at the front of rbuf, set by readBuf
	cause       error     // why it was doomed, nil: it was over

	tick    clock.Timer // for conn.NextTick
	closing clock.Timer // end of lingering, or the drain deadline
	cutAt   clock.Nanos // the drain deadline; 0: none
	queued  int         // bytes on their way to the peer, when last looked at
	movedAt clock.Nanos // when that has changed
	endAt   clock.Nanos // the most patient lingering ends
	endMost uint64      // moved, likewise

	rx, tx call.Counter // byte counters in scope
	scope  call.Scope
	moved  uint64 // bytes read and written, and perRead for each read: what it makes the worker do

	next, prev *Sock // w.socks
}

// perRead is about how many bytes' work a wake-up is.
const perRead = 4 << 10

// Kinds of a sock's timers.
const (
	timerTick = iota
	timerClosing
)

// sockOwner is the connection object that a sock is part of: *downConn or
// *upConn.
type sockOwner interface {
	h2.Handler
	// settle comes after input was fed and before output is written: room for
	// what may not be done inside the connection's events.
	settle()
	// closed comes once, when the sock is dead and its streams have ended.
	closed(cause error)
	// name says which connection this is, for logs.
	name() string
	// drainDeadline comes when the time to drain is over.
	drainDeadline()
}

// initSock makes k ready and links it into the worker's list.
func (w *Worker) initSock(k *Sock, owner sockOwner) {
	k.w, k.owner = w, owner
	k.tick.Owner, k.tick.Kind = k, timerTick
	k.closing.Owner, k.closing.Kind = k, timerClosing
	k.next = &w.socks
	k.prev = w.socks.prev
	k.prev.next, w.socks.prev = k, k
	w.nsocks++
}

// readBuf returns where the next bytes of k must be read to. It is the
// worker's one read buffer: valid until fed, eof or the end of the batch, and
// for this sock only. It has room for 64 KiB at least.
func (k *Sock) readBuf() []byte {
	k.front = 0
	if k.tail != nil {
		k.front = copy(k.w.rbuf, k.tail.Bytes())
	}
	return k.w.rbuf[k.front:]
}

// fed tells that n > 0 bytes were read into readBuf.
func (k *Sock) fed(n int) {
	w := k.w
	w.last = k
	w.core.Counters.Add(k.scope, k.rx, uint64(n))
	k.moved += uint64(n) + perRead
	if k.conn.Dead() {
		k.dropTail()
		return // nobody is interested any more; the FIN is
	}
	b := w.rbuf[:k.front+n]
	used := k.feed(b)
	k.keepTail(b[used:])
	if k.conn.StopReading() {
		k.stopped = true
		k.markDirty()
	}
	k.afterInput()
}

// feed gives bytes to the connection. A panic costs the connection.
func (k *Sock) feed(b []byte) int {
	defer k.contain("input")
	n, err := k.conn.Feed(k.w.now, b)
	if err != nil {
		k.cause = err
		return len(b)
	}
	return n
}

// contain turns a panic of the core into the end of one connection.
func (k *Sock) contain(what string) {
	if k.w.g.opt.Debug {
		return
	}
	if r := recover(); r != nil {
		k.panicked(what, r)
	}
}

func (k *Sock) panicked(what string, reason any) {
	k.w.g.opt.Logger.Error("panic on a connection", "connection", k.owner.name(), "event", what, "reason", fmt.Sprint(reason), "stack", string(debug.Stack()))
	k.doom(fmt.Errorf("worker: panic: %v", reason))
}

func (k *Sock) dropTail() {
	if k.tail != nil {
		k.w.pool.Put(k.tail)
		k.tail = nil
	}
}

// keepTail keeps what was not consumed: a partial frame.
func (k *Sock) keepTail(rest []byte) {
	k.dropTail()
	if len(rest) > 0 && !k.conn.Dead() {
		k.tail = k.w.pool.Get(len(rest))
		k.tail.Append(rest)
	}
}

// afterInput looks at what the input changed besides the streams.
func (k *Sock) afterInput() {
	defer k.contain("after input")
	if k.conn.Dead() {
		k.dropTail()
		k.markDirty()
	}
	k.owner.settle()
	k.moveTick()
}

// eof tells that the peer sent a FIN (err is nil) or that reading failed.
func (k *Sock) eof(err error) {
	k.ended = true
	k.cause = err
	k.dropTail()
	func() {
		defer k.contain("end of input")
		k.conn.FeedEOF(k.w.now)
	}()
	if err != nil {
		k.doom(err)
	}
	k.afterInput()
}

// writable tells that the socket takes bytes again. It writes what it can and
// reports whether the sock is still blocked.
func (k *Sock) writable() bool {
	k.armed = false
	k.conn.Behind(k.w.now, false)
	k.w.flushSock(k)
	return !k.dead && k.armed
}

// progress tells that the socket took some of what the driver holds.
func (k *Sock) progress() {
	k.conn.Behind(k.w.now, true)
	k.moveTick()
}

// dialed is the answer to Driver.Dial.
func (k *Sock) dialed(err error) {
	u := k.owner.(*upConn)
	if err != nil {
		u.dialFailed(err)
		return
	}
	k.connected = true
	k.markDirty()
	u.dialSucceeded()
}

// markDirty makes the end of the batch look at k.
func (k *Sock) markDirty() {
	if !k.dirty && !k.dead {
		k.dirty = true
		k.w.dirty = append(k.w.dirty, k)
	}
}

// doom makes the end of the batch kill k. It may be called from anywhere.
func (k *Sock) doom(cause error) {
	k.doomed = true
	if k.cause == nil {
		k.cause = cause
	}
	k.markDirty()
}

// kill ends k at once. Never from inside an event of its connection: doom it.
func (k *Sock) kill() {
	if k.dead {
		return
	}
	w := k.w
	k.dead = true
	k.prev.next, k.next.prev = k.next, k.prev
	w.nsocks--
	w.core.Wheel.Stop(&k.tick)
	w.core.Wheel.Stop(&k.closing)
	k.dropTail()
	for !k.closeConn() {
		// A stream less: the others are to have their end, too.
	}
	func() {
		defer k.contain("close")
		k.owner.closed(k.cause)
	}()
	w.driver.Shutdown(k)
}

// closeConn ends what is left of the connection's streams. False: one panicked.
func (k *Sock) closeConn() (done bool) {
	defer k.contain("close")
	k.conn.Close()
	return true
}

// moveTick makes the timer follow the connection's. While it is dialled nothing
// is awaited of the peer, and the dial has a time of its own.
func (k *Sock) moveTick() {
	if k.connected && k.conn.TickChanged() {
		if at := k.conn.NextTick(); at != 0 && !k.dead {
			k.w.core.Wheel.Set(&k.tick, at)
		}
	}
}

// underWay reports whether k has to linger on: its last answers are in the
// socket, or were until now, and the peer takes them.
func (k *Sock) underWay(now clock.Nanos) bool {
	if !k.patient || now >= k.endAt || k.moved >= k.endMost || k.cutAt != 0 && now >= k.cutAt {
		return false
	}
	n := k.w.driver.Queued(k)
	if n != k.queued {
		k.queued, k.movedAt = n, now
		return true
	}
	return n > 0 && now < k.movedAt.Add(lingerStall)
}

// Expire implements clock.Expirer.
func (k *Sock) Expire(t *clock.Timer, now clock.Nanos) {
	if t.Kind == timerClosing {
		if k.lingering && k.underWay(now) {
			at := now.Add(lingerTime)
			if k.cutAt != 0 {
				at = min(at, k.cutAt)
			}
			k.w.core.Wheel.Set(&k.closing, at)
			return
		}
		if k.lingering || k.conn.Dead() {
			k.doom(nil)
			return
		}
		k.owner.drainDeadline()
		k.w.core.Wheel.Set(&k.closing, now.Add(lingerTime))
		return
	}
	defer k.contain("timer")
	if next := k.conn.Tick(now); next != 0 {
		k.w.core.Wheel.Set(&k.tick, next)
	}
	k.afterInput()
}

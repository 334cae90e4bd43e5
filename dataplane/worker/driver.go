package worker

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// Driver moves bytes between the sockets of one worker and the worker's
// connections. There is one Driver for each worker. Two implementations exist:
// the runtime's network poller (netpoll.go) and the simulation of the tests.
//
// # Rules
//
// The lock. All methods but Wake are called with the worker's lock held, must
// not block, and must not call back into the worker or any of its socks. The
// driver enters the worker with begin and leaves with end; between them, and
// only there, it may call the methods of Sock below, and any number of them
// for any number of socks of this worker (a batch). A driver never takes
// Worker.mu by other means.
//
//	w.begin()                 // lock; the clock is read once: w.now
//	b := k.readBuf()
//	n, err := read(fd, b)     // non-blocking
//	k.fed(n)  or  k.eof(err)
//	w.pause()                 // optional: the adaptive yield of docs/core.md, "The netpoll driver"
//	w.end()                   // inbox, due timers, flush of dirty socks, timer, unlock
//
// A long batch calls w.flush() between its parts; w.pause() gives the lock
// away for a moment in the middle of a batch, after which every sock may be dead.
//
// Death. A sock is born by Worker.attach (downstream) or by the worker itself
// before Driver.Dial (upstream). It dies once: the worker sets dead and then
// calls Driver.Shutdown, whatever the cause was. From then on the driver makes
// no call with it, reads and writes no byte, and closes its descriptor as soon
// as it can: on the goroutine that owns it, outside the lock. As fd numbers
// are reused, the driver checks k.dead under the lock before it touches an fd,
// every time. The worker forgets a dead sock at once; the driver's reference
// is then the last one.
//
// Reading. The driver reads as long as !k.dead, also after CloseWrite, until
// k.eof: the worker decides by itself what it does with bytes that no longer
// matter. If k.stopped is set the driver leaves the rest in the kernel (the
// peer does not read what we must answer): it must neither read nor spin, and
// reads on when the worker calls Driver.Resume.
//
// Writing. Worker.flush calls Write for each sock that has output, once with
// up to 64 buffers per call. A short or refused write is followed by Arm, and
// no Write until the driver has called k.writable, or the worker has more
// urgent reasons (then again is simply true again).
type Driver interface {
	// Now is the current instant: monotonic, positive. Called with and without
	// the lock, from any goroutine.
	Now() clock.Nanos

	// Write sends what the socket takes without blocking. n bytes of bufs were
	// taken; again is true if the socket takes no more now (n < the sum, or
	// the driver holds ciphertext of its own that is not sent). An err means
	// that the sock is lost: the worker kills it. The bytes belong to the
	// worker again when Write returns. bufs may be empty only if the previous
	// Write returned again with everything taken.
	Write(k *Sock, bufs [][]byte) (n int, again bool, err error)

	// Arm asks for one call of k.writable, in a batch, when the socket takes
	// bytes again. Arming an armed sock is allowed and does nothing.
	Arm(k *Sock)

	// Resume continues reading after k.stopped was cleared.
	Resume(k *Sock)

	// CloseWrite sends a FIN after everything written (close_notify and FIN
	// with TLS). Reading goes on.
	CloseWrite(k *Sock)

	// Queued returns how many bytes that were written the peer's system has not
	// acknowledged; 0 if that is not known.
	Queued(k *Sock) int

	// Shutdown ends k, which is dead now: shutdown(2) of both directions at
	// once, close later. It aborts a dial in progress.
	Shutdown(k *Sock)

	// Dial connects k to t within timeout. The driver answers in a batch of
	// its own with k.dialed(nil) when bytes can be written, or
	// k.dialed(err). It does not answer for a dead sock; it closes it.
	Dial(k *Sock, t *call.Target, timeout time.Duration)

	// SetTimer makes the driver run a batch (begin, end) at or soon after
	// at. There is one timer; a later call replaces the earlier. Running a
	// batch early or without need is harmless. 0: no timer needed.
	SetTimer(at clock.Nanos)

	// Wake makes the driver run a batch (begin, end) soon. Called from any
	// goroutine, without the lock, at most once per batch: many posts to the
	// inbox are one Wake. It must not block.
	Wake()

	// Close releases the driver's own resources after every sock of its worker
	// died, and waits for its goroutines. Called without the lock.
	Close()
}

// Sock is one connection: what the worker knows of it and what the driver
// keeps for it. All fields are guarded by the worker's lock unless a comment
// says otherwise.
//
// The driver's way in, each between begin and end and only if !k.dead:
//
//	k.readBuf() []byte    where the next bytes must be read to
//	k.fed(n int)          n bytes were read there (n > 0)
//	k.eof(err error)      the peer's FIN (nil) or a read error; the last call about reading
//	k.writable() bool     the socket takes bytes again; false: all is written, disarm;
//	                      true: still blocked, stay armed (Arm was not called again)
//	k.progress()          the socket took some of the ciphertext that the driver holds
//	k.dialed(err error)   the answer to Dial
//
// Each of them may kill k: check k.dead after it.
type Sock struct {
	w    *Worker
	down bool // a downstream connection (server role)

	// impl belongs to the driver; the worker never looks at it.
	impl any

	dead    bool // final; see Driver
	stopped bool // do not read now; see Driver
	dirty   bool // in w.dirty
	armed   bool // Arm was called and writable has not returned false since

	sockState
}

package worker

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// The simulation: real workers, pools, exchanges and HTTP/2, on a driver whose
// sockets are byte queues in memory and whose clock is a number. Clients and
// servers are independent models (sim_peer_test.go). One seed decides
// everything: sizes of every read and write, faults, and the order of all.

var (
	simWorlds = flag.Int("simworlds", 200, "how many worlds the simulation runs")
	simSeed   = flag.Uint64("simseed", 0, "run only the world of this seed")
	simTrace  = flag.Bool("simtrace", false, "print every event of the simulation")
)

// errSimReset is what a read or write on a reset connection returns.
var errSimReset = errors.New("sim: connection reset by peer")

// pipe is one direction of a simulated connection.
type pipe struct {
	buf []byte
	cap int
	fin bool // the writer is done
}

func (p *pipe) room() int { return max(0, p.cap-len(p.buf)) }

// link is a simulated connection between the worker and a peer.
type link struct {
	w        *world
	id       int
	k        *Sock // the worker's end
	peer     *peer // the other end; nil while it is dialled
	in, out  pipe  // to the worker, from the worker
	host     *simHost
	dialling bool
	untaken  bool // no server has accepted it, or will
	armed    bool
	reset    bool // RST: both directions are gone
	shut     bool // the worker called Shutdown
	eofGiven bool
}

// world is one simulation.
type world struct {
	t     *testing.T
	seed  uint64
	rnd   *rand.Rand
	now   clock.Nanos
	steps int

	g       *Group
	wk      *Worker
	timerAt clock.Nanos
	wake    atomic.Bool // set by posts, from any goroutine
	inBatch bool

	links   []*link
	hosts   []*simHost
	limits  *call.Limits // of the cluster; nil: none
	set     *simSet
	chain   *Chain
	clients []*peer
	rpcs    []*rpc
	paused  []*rpc
	calm    bool // no more faults: the world must come to rest
	opt     worldOptions
	faults  map[string]int
	hash    interface {
		io.Writer
		Sum64() uint64
	}
	doneCount   int
	filters     int // made
	filtersDone int
	dialsFail   bool        // of a script: from now on
	leave       int         // dials that no server takes
	stopping    int         // servers whose GOAWAY comes with their SETTINGS
	keepPaused  bool        // nobody resumes paused calls
	scripted    bool        // a test tells the peers what to do and judges
	route       *call.Route // of all calls of a script
	failure     string
}

// worldOptions are drawn from the seed.
type worldOptions struct {
	clients, hosts, rpcs int
	cuts                 bool // FIN and RST at any byte
	cancels              bool
	resets               bool // servers reset streams
	goaways              bool
	settings             bool // SETTINGS change while streams run
	smallWindows         bool
	dialFaults           bool
	pauses               bool
	filters              bool
	retries              bool
	deadlines            bool
	retire               bool
	drain                bool
	maxStreams           uint32 // of servers; 0: unlimited
	connections          uint32
	maxRequests          uint32
	age                  time.Duration // of connections on either side; 0: any
	perTry               time.Duration // of retry policies; 0: none
	odd                  oddOptions
}

// simDriver implements Driver over a world.
type simDriver struct{ w *world }

func (d *simDriver) Now() clock.Nanos { return d.w.now }

func (d *simDriver) Write(k *Sock, bufs [][]byte) (n int, again bool, err error) {
	l, w := k.impl.(*link), d.w
	if k.dead {
		w.fatalf("Write on a dead sock")
	}
	if l.reset {
		return 0, false, errSimReset
	}
	if l.out.fin {
		w.fatalf("Write after CloseWrite")
	}
	sum := 0
	for _, b := range bufs {
		sum += len(b)
	}
	if sum == 0 {
		w.fatalf("Write without bytes")
	}
	room := l.out.room()
	if room > 0 && w.rnd.IntN(8) == 0 {
		room = 1 + w.rnd.IntN(room)
	}
	for _, b := range bufs {
		m := min(len(b), room)
		if l.peer == nil || !l.peer.gone {
			l.out.buf = append(l.out.buf, b[:m]...)
		}
		n += m
		room -= m
	}
	w.note("write", l.id, n)
	return n, n < sum, nil
}

func (d *simDriver) Arm(k *Sock)    { k.impl.(*link).armed = true }
func (d *simDriver) Resume(k *Sock) {}

func (d *simDriver) CloseWrite(k *Sock) { k.impl.(*link).out.fin = true }

func (d *simDriver) Queued(k *Sock) int { return len(k.impl.(*link).out.buf) }

func (d *simDriver) Shutdown(k *Sock) {
	l := k.impl.(*link)
	if l.shut {
		d.w.fatalf("second Shutdown of one sock")
	}
	if !k.dead {
		d.w.fatalf("Shutdown of a living sock")
	}
	l.shut, l.out.fin, l.dialling = true, true, false
	l.in.buf = nil
}

func (d *simDriver) Dial(k *Sock, t *call.Target, timeout time.Duration) {
	w := d.w
	l := w.newLink(k)
	k.impl = l
	l.host = w.set.byAddress(t.Address)
	l.dialling = true
}

func (d *simDriver) SetTimer(at clock.Nanos) { d.w.timerAt = at }
func (d *simDriver) Wake()                   { d.w.wake.Store(true) }
func (d *simDriver) Close()                  {}

func (w *world) newLink(k *Sock) *link {
	l := &link{w: w, id: len(w.links), k: k}
	l.in.cap = 600 + w.rnd.IntN(1<<uint(8+w.rnd.IntN(10)))
	l.out.cap = 600 + w.rnd.IntN(1<<uint(8+w.rnd.IntN(10)))
	w.links = append(w.links, l)
	return l
}

// batch runs f as one of the driver's batches.
func (w *world) batch(f func()) {
	if w.inBatch {
		w.fatalf("a batch inside a batch")
	}
	w.inBatch = true
	w.wk.begin()
	f()
	w.wk.end()
	w.inBatch = false
}

// note adds an event to the trace and its hash.
func (w *world) note(what string, a, b int) {
	fmt.Fprintf(w.hash, "%s %d %d %d;", what, w.now, a, b)
	if *simTrace {
		w.t.Logf("%12v %s %d %d", time.Duration(w.now), what, a, b)
	}
}

func (w *world) fault(what string) {
	w.faults[what]++
	w.note("fault "+what, 0, 0)
}

// fatalf ends the world: an invariant does not hold.
func (w *world) fatalf(format string, args ...any) {
	f := fmt.Sprintf(format, args...)
	if w.failure == "" {
		w.failure = f // a panic in a Director would be contained
	}
	panic(worldFailure(f))
}

type worldFailure string

// newWorld draws a world from its seed. change, if not nil, may change what was
// drawn.
func newWorld(t *testing.T, seed uint64, change func(o *worldOptions)) *world {
	w := &world{t: t, seed: seed, now: 1e6, hash: fnv.New64a(), faults: map[string]int{}}
	w.rnd = rand.New(rand.NewPCG(seed, 0x51))
	yes := func(n int) bool { return w.rnd.IntN(n) == 0 }
	w.opt = worldOptions{
		clients: 1 + w.rnd.IntN(6), hosts: 1 + w.rnd.IntN(3), rpcs: 10 + w.rnd.IntN(110),
		cuts: yes(3), cancels: yes(2), resets: yes(2), goaways: yes(3), settings: yes(3), smallWindows: yes(3),
		dialFaults: yes(4), pauses: yes(3), retries: yes(3), deadlines: yes(2), retire: yes(4), drain: yes(4),
		connections: 1 + uint32(w.rnd.IntN(4)),
	}
	if yes(3) {
		w.opt.maxStreams = 1 + uint32(w.rnd.IntN(5))
	}
	if yes(4) {
		w.opt.maxRequests = 1 + uint32(w.rnd.IntN(10))
	}
	if yes(5) {
		w.opt.age = time.Duration(1+w.rnd.IntN(1000)) * time.Millisecond
	}
	if yes(2) {
		w.opt.perTry = time.Duration(1+w.rnd.IntN(100)) * time.Millisecond
	}
	w.opt.filters = yes(3)
	w.drawOdd()
	if change != nil {
		change(&w.opt)
	}
	w.buildConfig()
	w.g = NewGroup(Options{
		N: 1, Seed: seed + 1, Debug: true,
		NewDriver:    func(*Worker) Driver { return &simDriver{w} },
		Record:       w.record,
		MemoryBudget: w.opt.odd.budget,
	})
	w.wk = w.g.workers[0]
	for range w.opt.clients {
		w.connect()
	}
	w.planRPCs()
	return w
}

// connect makes a client connection.
func (w *world) connect() *peer {
	l := w.newLink(nil)
	p := newPeer(w, l, true)
	p.drained = w.wake.Load() // what waits in the inbox may be a drain
	w.batch(func() {
		l.k = w.wk.attach(w.chain, &call.Conn{ID: uint64(l.id), Listener: "sim"}, l)
	})
	if l.k == nil {
		w.fatalf("attach refused")
	}
	w.clients = append(w.clients, p)
	return p
}

// run lets the world happen, then come to rest, then end.
func (w *world) run() (failure string) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(worldFailure)
			if !ok {
				panic(r)
			}
			failure = string(f)
		}
	}()
	for w.steps = 0; w.steps < 200_000 && !w.allStarted(); w.steps++ {
		w.step()
		w.checkStep()
		if w.failure != "" {
			return w.failure
		}
	}
	w.calm = true
	w.settle()
	w.checkRest()
	w.shutdown()
	return w.failure
}

// step does one random thing.
func (w *world) step() {
	switch n := w.rnd.IntN(100); {
	case n < 30:
		w.deliver(1 + w.rnd.IntN(3))
	case n < 50:
		w.peerReads()
	case n < 75:
		w.peerActs()
	case n < 80:
		w.socketsDrain()
	case n < 84:
		w.dials()
	case n < 88:
		w.wakes()
	case n < 92:
		w.startRPC()
	case n < 97:
		w.clockStep()
	default:
		w.disturb()
	}
}

// deliver gives the worker bytes, FINs and errors of up to n links, in one batch.
func (w *world) deliver(n int) {
	var ls []*link
	for range n {
		if l := w.pick(func(l *link) bool { return l.readable() }); l != nil {
			ls = append(ls, l)
		}
	}
	if len(ls) == 0 {
		return
	}
	w.batch(func() {
		for _, l := range ls {
			if l.readable() {
				l.feed(w.readSize())
			}
		}
	})
}

func (w *world) readSize() int {
	switch w.rnd.IntN(4) {
	case 0:
		return 1 + w.rnd.IntN(20)
	case 1:
		return 1 + w.rnd.IntN(2000)
	}
	return 1 << 20
}

// readable reports that the worker's end has something to read.
func (l *link) readable() bool {
	if l.k == nil || l.k.dead || l.k.stopped || l.dialling || l.eofGiven {
		return false
	}
	return l.reset || len(l.in.buf) > 0 || l.in.fin
}

// feed reads once, as a driver does.
func (l *link) feed(size int) {
	w := l.w
	if l.reset {
		l.eofGiven = true
		w.note("reset", l.id, 0)
		l.k.eof(errSimReset)
		return
	}
	if len(l.in.buf) == 0 {
		l.eofGiven = true
		w.note("eof", l.id, 0)
		l.k.eof(nil)
		return
	}
	b := l.k.readBuf()
	if len(b) < 64<<10 {
		w.fatalf("readBuf of %d bytes", len(b))
	}
	n := copy(b, l.in.buf[:min(len(l.in.buf), size)])
	l.in.buf = l.in.buf[n:]
	w.note("feed", l.id, n)
	l.k.fed(n)
}

// pick chooses a random link that ok accepts.
func (w *world) pick(ok func(*link) bool) *link {
	n := len(w.links)
	if n == 0 {
		return nil
	}
	at := w.rnd.IntN(n)
	for i := range n {
		if l := w.links[(at+i)%n]; ok(l) {
			return l
		}
	}
	return nil
}

// peerReads lets a peer take bytes from its socket.
func (w *world) peerReads() {
	if l := w.pick(func(l *link) bool { return l.peerReadable() }); l != nil {
		l.peerRead(w.readSize())
	}
}

func (l *link) peerReadable() bool {
	return l.peer != nil && !l.peer.gone && !l.peer.sawEnd && (len(l.out.buf) > 0 || l.out.fin || l.reset)
}

func (l *link) peerRead(size int) {
	if l.reset || len(l.out.buf) == 0 {
		l.peer.ended()
		return
	}
	n := min(size, len(l.out.buf))
	b := l.out.buf[:n]
	l.out.buf = l.out.buf[n:]
	l.peer.feed(b)
}

// socketsDrain tells the worker that a blocked socket takes bytes again.
func (w *world) socketsDrain() {
	if l := w.pick(func(l *link) bool { return l.blockedNoMore() }); l != nil {
		l.unblock()
	}
}

func (l *link) blockedNoMore() bool {
	return l.armed && l.k != nil && !l.k.dead && (l.out.room() > 0 || l.reset)
}

func (l *link) unblock() {
	l.w.batch(func() {
		if !l.k.dead {
			l.armed = l.k.writable()
		}
	})
}

// dials answers one dial, or ends a connection that no server has taken.
func (w *world) dials() {
	if l := w.pick(func(l *link) bool { return l.untaken && !l.reset }); l != nil && w.rnd.IntN(2) == 0 {
		l.abandon()
		return
	}
	l := w.pick(func(l *link) bool { return l.dialling })
	switch {
	case l == nil:
	case !w.calm && w.opt.dialFaults && w.rnd.IntN(3) == 0:
		l.leaveUntaken()
	default:
		l.answerDial(!w.calm && w.opt.dialFaults && w.rnd.IntN(2) == 0)
	}
}

// leaveUntaken connects l in the kernel of a host whose process will close its
// listener without having accepted it: l takes bytes, and they are lost.
func (l *link) leaveUntaken() {
	l.w.fault("untaken")
	l.dialling, l.untaken = false, true
	l.w.batch(func() { l.k.dialed(nil) })
}

// abandon is the RST of that kernel.
func (l *link) abandon() {
	l.reset = true
	l.out.buf = nil
}

func (l *link) answerDial(fail bool) {
	w := l.w
	l.dialling = false
	if !fail {
		w.note("connected", l.id, 0)
		p := newPeer(w, l, false)
		if w.stopping > 0 {
			w.stopping--
			p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			p.push()
		}
		w.batch(func() { l.k.dialed(nil) })
		return
	}
	w.fault("dial")
	l.host.lost++
	err := errors.New("sim: connection refused")
	if w.rnd.IntN(2) == 0 {
		err = context.DeadlineExceeded
	}
	w.batch(func() {
		if !l.k.dead {
			l.k.dialed(err)
		}
	})
}

// wakes runs the batch that a post asked for, or resumes a paused call.
func (w *world) wakes() {
	if len(w.paused) > 0 && !w.keepPaused && (w.calm || w.rnd.IntN(2) == 0) {
		i := w.rnd.IntN(len(w.paused))
		r := w.paused[i]
		w.paused = append(w.paused[:i:i], w.paused[i+1:]...)
		w.note("resume", int(r.id), 0)
		if w.opt.odd.denies && w.rnd.IntN(8) == 0 {
			r.refused++
			r.handle.Resume(replyFilter)
		}
		r.handle.Resume(nil)
		if w.rnd.IntN(4) == 0 {
			r.handle.Resume(nil) // idempotent
		}
	}
	for i := 0; i < 4 && !w.calm && w.opt.pauses; i++ {
		if r := w.rpcs[w.rnd.IntN(len(w.rpcs))]; r.done {
			r.handle.Resume(replyStale)
		}
	}
	if w.wake.Swap(false) {
		w.batch(func() {})
	}
}

// clockStep lets time pass.
func (w *world) clockStep() {
	d := time.Duration(w.rnd.IntN(1 << uint(10+w.rnd.IntN(16))))
	// In a crowd each connection gets few turns, and must not miss its time.
	w.now = w.now.Add(d / time.Duration(1+w.opt.clients/8))
	w.fireTimer()
}

func (w *world) fireTimer() {
	if w.timerAt != 0 && w.now >= w.timerAt {
		w.timerAt = 0
		w.note("timer", 0, 0)
		w.batch(func() {})
	}
}

// peerActs lets a peer write something.
func (w *world) peerActs() {
	if l := w.pick(func(l *link) bool { return l.peer != nil && !l.peer.gone }); l != nil {
		l.peer.act(false)
	}
}

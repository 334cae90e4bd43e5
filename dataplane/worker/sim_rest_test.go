package worker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// settle runs the world without faults until nothing moves and every call has
// ended. Time passes only when nothing else can happen, and not for long: all
// deadlines and back-offs of the plan are below a second, and requests that end
// short, which others may wait for, are answered for ShortGrace at most.
func (w *world) settle() {
	until := w.now.Add(5*time.Second + 5*h2.DefaultLimits(h2.Server).ShortGrace)
	for range 50_000 {
		if w.moveAll() {
			w.checkStep()
			continue
		}
		if w.allDone() {
			return
		}
		if w.timerAt == 0 || w.timerAt > until {
			break
		}
		w.now = max(w.now, w.timerAt)
		w.fireTimer()
	}
	for _, r := range w.rpcs {
		if r.started && !r.done {
			w.fatalf("stuck: %v\n%s", r, w.dump())
		}
	}
}

// dump describes every connection.
func (w *world) dump() string {
	var b strings.Builder
	for _, l := range w.links {
		if l.shut {
			continue
		}
		fmt.Fprintf(&b, "link %d in %d/%d out %d/%d dialling %v armed %v: ", l.id, len(l.in.buf), l.in.cap, len(l.out.buf), l.out.cap, l.dialling, l.armed)
		if k := l.k; k != nil {
			fmt.Fprintf(&b, "streams %d output %d held %d free %d dead %v stopped %v dirty %v goaway %v; ", k.conn.Streams(), k.conn.Output().Len(), k.conn.HeldBytes(), k.conn.FreeWindow(), k.conn.Dead(), k.stopped, k.dirty, k.conn.GoingAway())
		}
		if p := l.peer; p != nil {
			fmt.Fprintf(&b, "peer: gone %v sawEnd %v unsent %d sendWin %d recvWin %d owed %d", p.gone, p.sawEnd, p.wr.Len(), p.sendWin, p.recvWin, p.owed)
			for _, id := range p.order {
				if s := p.streams[id]; s.r != nil && !s.r.done || !s.reset && !(s.sendEnd && s.recvEnd) {
					fmt.Fprintf(&b, " %v %d %+v", s, s.r.id, s.attempt)
				}
			}
		}
		b.WriteByte('\n')
	}
	for _, p := range w.wk.order {
		fmt.Fprintf(&b, "pool %s: %d conns, %d dials, %d pending\n", p.target.Address, len(p.conns), p.dials, p.pending)
	}
	return b.String()
}

// moveAll gives everything a turn and reports whether anything happened.
func (w *world) moveAll() (moved bool) {
	for i := 0; i < len(w.links); i++ {
		l := w.links[i]
		if l.untaken && !l.reset {
			l.abandon()
			moved = true
		}
		if l.dialling {
			if w.leave > 0 {
				w.leave--
				l.leaveUntaken()
			} else {
				l.answerDial(w.dialsFail)
			}
			moved = true
		}
		if l.blockedNoMore() {
			l.unblock()
			moved = true
		}
		for l.peerReadable() {
			l.peerRead(w.readSize())
			moved = true
		}
		if l.peer != nil && l.peer.act(true) {
			moved = true
		}
		for l.readable() {
			w.batch(func() { l.feed(w.readSize()) })
			moved = true
		}
	}
	for w.wake.Load() || len(w.paused) > 0 && !w.keepPaused {
		w.wakes()
		moved = true
	}
	return moved
}

// shutdown ends the group and looks that nothing is left.
func (w *world) shutdown() {
	done := make(chan error, 1)
	var started sync.WaitGroup
	started.Add(1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { started.Done(); done <- w.g.Shutdown(ctx) }()
	started.Wait()
	for { // until the post has come
		w.wk.inbox.mu.Lock()
		n := len(w.wk.inbox.q)
		w.wk.inbox.mu.Unlock()
		if n > 0 {
			break
		}
	}
	w.wake.Store(true)
	for range 10_000 {
		if !w.moveAll() {
			if w.wk.gone {
				break
			}
			if w.timerAt == 0 {
				w.fatalf("shutdown hangs without a timer: %d socks", w.wk.nsocks)
			}
			w.now = max(w.now, w.timerAt)
			w.fireTimer()
		}
	}
	if !w.wk.gone {
		w.fatalf("shutdown does not end: %d socks", w.wk.nsocks)
	}
	if err := <-done; err != nil {
		w.fatalf("Shutdown: %v", err)
	}
	w.checkEmpty()
}

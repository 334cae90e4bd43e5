package grpcproxy

import (
	"sync"
	"time"
)

// pumps keeps goroutines that carry requests for the next call: their stacks
// have grown already, which is what a new goroutine would spend most of its
// time on.
type pumps struct {
	limit  int           // of idle goroutines
	linger time.Duration // how long one waits for a call, at least, and at most twice that; 0: until close

	running sync.WaitGroup

	mu       sync.Mutex
	idle     []*pump // the last to become idle is the first to work
	unused   int     // the first so many have been idle since the last sweep
	sweeping bool    // a sweep is due
	closed   bool
}

// pump is one goroutine of a pumps: idle's, or the one that carries a call.
type pump struct {
	next  chan *upward // of one; nil: it ends
	frame Frame
}

// handlerLinger is for handlers, which nobody closes: a program that has
// stopped its server has no goroutines left a moment later.
const handlerLinger = 50 * time.Millisecond

func newPumps(limit int, linger time.Duration) *pumps {
	return &pumps{limit: limit, linger: linger}
}

// run carries u's request on another goroutine.
func (p *pumps) run(u *upward) {
	p.mu.Lock()
	if n := len(p.idle) - 1; n >= 0 {
		w := p.idle[n]
		p.idle[n] = nil
		p.idle = p.idle[:n]
		p.unused = min(p.unused, n)
		p.mu.Unlock()
		w.next <- u
		return
	}
	if p.closed { // nobody waits any more for what begins now
		p.mu.Unlock()
		go u.run(new(Frame))
		return
	}
	p.running.Add(1)
	p.mu.Unlock()
	go p.loop(&pump{next: make(chan *upward, 1)}, u)
}

func (p *pumps) loop(w *pump, u *upward) {
	defer p.running.Done()
	for u != nil {
		u.run(&w.frame)
		u = nil // an idle goroutine keeps no call alive
		if !p.rest(w) {
			return
		}
		u = <-w.next
	}
}

// rest makes w idle, unless there are enough.
func (p *pumps) rest(w *pump) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.limit {
		return false
	}
	p.idle = append(p.idle, w)
	if p.linger > 0 && !p.sweeping {
		p.sweeping, p.unused = true, 0
		time.AfterFunc(p.linger, p.sweep)
	}
	return true
}

// sweep ends those that have been idle since the last one.
func (p *pumps) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.idle[:p.unused] {
		w.next <- nil
	}
	n := copy(p.idle, p.idle[p.unused:])
	clear(p.idle[n:])
	p.idle = p.idle[:n]
	p.unused = n
	p.sweeping = n > 0
	if p.sweeping {
		time.AfterFunc(p.linger, p.sweep)
	}
}

// close ends the idle goroutines and waits for the others.
func (p *pumps) close() {
	p.mu.Lock()
	p.closed = true
	for _, w := range p.idle {
		w.next <- nil
	}
	p.idle, p.unused = nil, 0
	p.mu.Unlock()
	p.running.Wait()
}

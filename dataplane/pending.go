//go:build unix

package dataplane

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPending bounds the connections of a listener that are accepted but
	// not yet a worker's: each costs a goroutine and what its handshake holds.
	maxPending = 1024
	// pendingTime is how long such a connection may take, all in all.
	pendingTime = 10 * time.Second
	// pressedTime is how long it may make us wait at one step while half of
	// maxPending are there: whoever means it is faster.
	pressedTime = 2 * time.Second
	// crowdedTime is how long a connection has waited that has to make room for
	// a newcomer: who comes together with a thousand others is not to blame.
	crowdedTime = 500 * time.Millisecond
	// roomTime is how long newcomers wait for room, in the accept queue, before
	// those who came last have to make it, too.
	roomTime = 2 * time.Second
	// roomPoll is how often the one in front looks.
	roomPoll = 5 * time.Millisecond
)

// step is what a connection that no worker has yet waits for.
type step int

const (
	stepHello  step = iota // its first bytes, or the whole ClientHello
	stepTurn               // our turn to compute: not the client's fault
	stepAnswer             // what the client must answer
	steps
)

// pendings are the connections of a listener that no worker has yet. Strangers
// can have as many as they like, so that a full house refuses no newcomer:
// somebody leaves that made us wait. Of the two kinds of waiting, for a
// ClientHello and for an answer, the greater loses its oldest: who fills one
// kind pushes out himself. Those that wait for their turn stay, since nothing is
// wrong with them; while they fill the house newcomers wait in the accept queue.
type pendings struct {
	mu   sync.Mutex // guards all below
	n    int
	wait [steps]list.List // of *pending, the one that waits longest first
}

// pending is one of them.
type pending struct {
	of    *pendings
	drop  context.CancelCauseFunc
	stats *listenerStats

	// Guarded by of.mu.

	step  step
	since time.Time
	el    *list.Element // nil: it is gone
}

// errDropped is the cause why a connection ends that made us wait.
var errDropped = errors.New("dropped for newer connections: the client made us wait")

// add makes place for a connection; drop ends it. False: there is none, as
// nobody has made us wait for as long as crowded says.
func (ps *pendings) add(now time.Time, crowded time.Duration, drop context.CancelCauseFunc, stats *listenerStats) (*pending, bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.n >= maxPending/2 {
		ps.pressLocked(now)
	}
	if ps.n >= maxPending && !ps.crowdLocked(now, crowded) {
		return nil, false
	}
	p := &pending{of: ps, drop: drop, stats: stats, since: now}
	p.el = ps.wait[p.step].PushBack(p)
	ps.n++
	return p, true
}

// full reports that a newcomer has to wait, or somebody has to make room.
func (ps *pendings) full() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.n >= maxPending
}

// pressLocked drops all that have made us wait for longer than pressedTime.
func (ps *pendings) pressLocked(now time.Time) {
	for _, s := range []step{stepHello, stepAnswer} {
		for el := ps.wait[s].Front(); el != nil; el = ps.wait[s].Front() {
			p := el.Value.(*pending)
			if now.Sub(p.since) < pressedTime {
				break
			}
			p.dropLocked(&p.stats.pressed)
		}
	}
}

// crowdLocked drops one for a newcomer, if it can: one that has waited for
// least.
func (ps *pendings) crowdLocked(now time.Time, least time.Duration) bool {
	most := &ps.wait[stepHello]
	if l := &ps.wait[stepAnswer]; l.Len() > most.Len() {
		most = l
	}
	el := most.Front()
	if el == nil {
		return false
	}
	p := el.Value.(*pending)
	if now.Sub(p.since) < least {
		return false
	}
	p.dropLocked(&p.stats.crowded)
	return true
}

func (p *pending) dropLocked(n *atomic.Uint64) {
	n.Add(1)
	p.leaveLocked()
	p.drop(errDropped)
}

func (p *pending) leaveLocked() {
	if p.el == nil {
		return
	}
	p.of.wait[p.step].Remove(p.el)
	p.el = nil
	p.of.n--
}

// leave ends the wait: a worker has the connection, or it is closed.
func (p *pending) leave() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.leaveLocked()
}

// Hello implements worker.Steps.
func (p *pending) Hello() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.moveLocked(stepTurn)
}

// Turn implements worker.Steps.
func (p *pending) Turn() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.moveLocked(stepAnswer)
}

func (p *pending) moveLocked(s step) {
	if p.el == nil {
		return
	}
	p.of.wait[p.step].Remove(p.el)
	p.step, p.since = s, time.Now()
	p.el = p.of.wait[s].PushBack(p)
}

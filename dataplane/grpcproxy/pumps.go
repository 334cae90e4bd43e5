package grpcproxy

import (
	"sync"
	"time"
)

// pumps keeps goroutines that carry requests for the next call: their stacks
// have grown already, which is what a new goroutine would spend most of its
// time on.
type pumps struct {
	work   chan *upward  // unbuffered: a send finds an idle goroutine or none
	room   chan struct{} // one element for each idle goroutine there may be
	linger time.Duration // how long one waits for a call; 0: until close
	stop   chan struct{}
	idle   sync.WaitGroup // goroutines that wait, or will
}

// handlerLinger is for handlers, which nobody closes: a program that has
// stopped its server has no goroutines left a moment later.
const handlerLinger = 100 * time.Millisecond

func newPumps(idle int, linger time.Duration) *pumps {
	return &pumps{work: make(chan *upward), room: make(chan struct{}, idle), linger: linger, stop: make(chan struct{})}
}

// run carries u's request on another goroutine.
func (p *pumps) run(u *upward) {
	select {
	case p.work <- u:
	default:
		p.idle.Go(func() { p.loop(u) })
	}
}

func (p *pumps) loop(u *upward) {
	var over <-chan time.Time
	var timer *time.Timer
	for {
		u.run()
		u = nil // an idle goroutine keeps no call alive
		select {
		case p.room <- struct{}{}:
		default:
			return
		}
		if p.linger > 0 {
			if timer == nil {
				timer = time.NewTimer(p.linger)
				defer timer.Stop()
				over = timer.C
			} else {
				timer.Reset(p.linger)
			}
		}
		select {
		case u = <-p.work:
			<-p.room
		case <-over:
			<-p.room
			return
		case <-p.stop:
			<-p.room
			return
		}
	}
}

// close ends the idle goroutines and waits for the others.
func (p *pumps) close() {
	close(p.stop)
	p.idle.Wait()
}

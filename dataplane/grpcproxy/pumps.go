package grpcproxy

import "sync"

// pumps keeps goroutines that carry requests for the next call: their stacks
// have grown already, which is what a new goroutine would spend most of its
// time on. A nil *pumps starts a goroutine for each.
type pumps struct {
	work chan *upward  // unbuffered: a send finds an idle goroutine or none
	room chan struct{} // one element for each idle goroutine there may be
	stop chan struct{}
	idle sync.WaitGroup // goroutines that wait, or will
}

func newPumps(idle int) *pumps {
	return &pumps{work: make(chan *upward), room: make(chan struct{}, idle), stop: make(chan struct{})}
}

// run carries u's request on another goroutine.
func (p *pumps) run(u *upward) {
	if p == nil {
		go u.run()
		return
	}
	select {
	case p.work <- u:
	default:
		p.idle.Go(func() { p.loop(u) })
	}
}

func (p *pumps) loop(u *upward) {
	for {
		u.run()
		u = nil // an idle goroutine keeps no call alive
		select {
		case p.room <- struct{}{}:
		default:
			return
		}
		select {
		case u = <-p.work:
			<-p.room
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

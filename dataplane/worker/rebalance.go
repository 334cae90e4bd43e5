package worker

import "time"

// Connections stay with the worker that got them, and a few busy ones may all
// have met on one. With Options.Rebalance the group looks, now and then, how
// long each worker's lock was held, and lets the hottest worker send one of
// its clients away with a graceful GOAWAY: the client comes back to the worker
// that has the least to do. Nothing is moved but by clients, and no call is
// lost.

const (
	// hotShare is how busy, of the time that went by, a worker has to be.
	hotShare = 0.5
	// hotRatio is how much busier than the idlest it has to be.
	hotRatio = 1.5
)

// balancer is the goroutine of a group that rebalances.
type balancer struct {
	g     *Group
	every time.Duration
	last  []time.Duration // by worker: how long its lock was held, in all
	stop  chan struct{}
	done  chan struct{}
}

func newBalancer(g *Group, every time.Duration) *balancer {
	b := &balancer{g: g, every: every, stop: make(chan struct{}), done: make(chan struct{})}
	b.busy()
	go b.run()
	return b
}

func (b *balancer) run() {
	defer close(b.done)
	t := time.NewTicker(b.every)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-t.C:
			if hot, share, ok := hottest(b.busy(), b.every); ok {
				b.g.workers[hot].post(msg{kind: msgShed, share: share})
			}
		}
	}
}

// close ends the goroutine.
func (b *balancer) close() {
	close(b.stop)
	<-b.done
}

// busy returns how long each worker's lock was held since the last time.
func (b *balancer) busy() (out []time.Duration) {
	now := make([]time.Duration, len(b.g.workers))
	for i, w := range b.g.workers {
		w.mu.Lock()
		now[i] = w.holds.Sum
		w.mu.Unlock()
		if i < len(b.last) {
			out = append(out, now[i]-b.last[i])
		}
	}
	b.last = now
	return out
}

// hottest says which worker has too much to do, and what share of that the
// idlest should have instead.
func hottest(busy []time.Duration, passed time.Duration) (hot int, share float64, ok bool) {
	idle := 0
	for i := range busy {
		if busy[i] > busy[hot] {
			hot = i
		}
		if busy[i] < busy[idle] {
			idle = i
		}
	}
	if len(busy) < 2 || float64(busy[hot]) < hotShare*float64(passed) || float64(busy[hot]) < hotRatio*float64(busy[idle]) {
		return 0, 0, false
	}
	return hot, float64(busy[hot]-busy[idle]) / 2 / float64(busy[hot]), true
}

// shed makes the connection drain that does most of what the worker does, but
// not more than share of it: a connection that is all the load would only take
// it along.
func (w *Worker) shed(share float64) {
	total := uint64(0)
	w.eachDown(func(d *downConn) { total += d.sock.moved - d.shown })
	var most *downConn
	part := uint64(0)
	w.eachDown(func(d *downConn) {
		n := d.sock.moved - d.shown
		d.shown = d.sock.moved
		if !d.draining && !d.sock.conn.GoingAway() && n > part && float64(n) <= share*float64(total) {
			most, part = d, n
		}
	})
	if most != nil {
		w.g.rebalanced.Add(1)
		most.drain(0)
	}
}

// Rebalanced is how many connections were sent away from busy workers.
func (g *Group) Rebalanced() uint64 { return g.rebalanced.Load() }

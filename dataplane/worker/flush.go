package worker

// maxBuffers is how many pieces of output one write gets.
const maxBuffers = 64

// flush writes the output of all dirty socks, those that become dirty
// meanwhile included. The streams that ended get their last call first: that
// may make more output, for others as well.
func (w *Worker) flush() {
	for len(w.dirty) > 0 {
		for i := 0; i < len(w.dirty); i++ { // grows
			if k := w.dirty[i]; !k.dead {
				k.deliver()
			}
		}
		batch := w.dirty
		w.dirty = w.spare[:0]
		for i, k := range batch {
			batch[i] = nil
			k.dirty = false
			if !k.dead {
				w.flushSock(k)
			}
		}
		w.spare = batch[:0]
	}
}

func (k *Sock) deliver() {
	defer k.contain("end of streams")
	k.conn.Deliver(k.w.now)
	k.owner.settle()
}

// flushSock writes what k's socket takes and sees to what follows: arming,
// closing, reading on.
func (w *Worker) flushSock(k *Sock) {
	if k.doomed {
		k.kill()
		return
	}
	k.write()
	if k.doomed {
		k.kill()
		return
	}
	k.moveTick()
	if k.stopped && !k.conn.StopReading() {
		k.stopped = false
		w.driver.Resume(k)
	}
	if k.conn.Dead() {
		k.over()
	}
}

// write gives the socket the output until it is empty or refused.
func (k *Sock) write() {
	if !k.connected {
		return
	}
	defer k.contain("output")
	out := k.conn.Output()
	for out.Len() > 0 && !k.armed && !k.doomed {
		n, ok := k.writeOnce()
		k.conn.Wrote(k.w.now, n)
		if !ok {
			return
		}
	}
}

// writeOnce makes one call of the driver's Write.
func (k *Sock) writeOnce() (n int, ok bool) {
	w := k.w
	w.iov = k.conn.Output().Buffers(w.iov[:0])
	n, again, err := w.driver.Write(k, w.iov)
	clear(w.iov)
	if n > 0 {
		w.core.Counters.Add(k.scope, k.tx, uint64(n))
		k.moved += uint64(n)
	}
	if err != nil {
		k.doom(err)
		return n, false
	}
	if again {
		if n == k.conn.Output().Len() { // the driver holds some of it
			k.conn.Behind(w.now, true)
		}
		k.armed = true
		w.driver.Arm(k)
	}
	return n, true
}

// writeNow is h2.Handler.Flush: a write in the middle of a batch, so that room
// is what the socket refuses and not what a batch produces (docs/core.md, "The netpoll driver").
func (k *Sock) writeNow() {
	if !k.connected || k.dead {
		return
	}
	for !k.armed && !k.doomed && k.conn.Output().Len() > 0 {
		n, ok := k.writeOnce()
		k.conn.Wrote(k.w.now, n)
		if !ok {
			return
		}
	}
}

// over ends a connection that HTTP/2 is done with: its output is written, then
// come FIN and, at the peer's FIN or after lingerTime, the end. A client's
// connection that has drained may have last answers in its output, or in the
// socket, which drops them if a frame comes after it was closed: they have the
// time that a slow reader has. Nobody waits for the rest of others.
func (k *Sock) over() {
	w := k.w
	if !k.connected || k.ended && (k.conn.Output().Len() == 0 || k.armed) {
		k.kill()
		return
	}
	if k.lingering || k.down && k.cause == nil && !k.closingSoon && k.conn.Unsent() {
		return
	}
	if k.conn.Output().Len() == 0 {
		k.lingering = true
		k.patient = k.down && k.cause == nil && !k.closingSoon && !k.conn.GaveUp()
		k.movedAt = w.now
		k.endAt, k.endMost = w.now.Add(lingerMost), k.moved+lingerRead
		w.driver.CloseWrite(k)
	}
	if !k.closingSoon {
		k.closingSoon = true
		w.core.Wheel.Set(&k.closing, w.now.Add(lingerTime))
	}
}

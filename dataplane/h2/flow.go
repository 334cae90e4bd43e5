package h2

import "github.com/sluice-proxy/sluice/dataplane/clock"

// Receiving, docs/core.md, "Flow control". For every connection and every open stream:
//
//	stream: recvWin + held + unacked = W            W = 65,535 until our SETTINGS are ACKed, then W0; grows, see tune.go
//	conn:   recvWin + withheld + unacked = Wc       withheld = max(0, Held - H), Held = Σ held
//	update: when unacked ≥ W/2 or unacked ≥ recvWin; not for a stream that ended
//
// Held bytes up to H are lent: they count as read as far as the connection is
// concerned. Example with W0 = 64 KiB, Wc = H = 4 MiB: 60 stalled streams hold
// 3.75 MiB ≤ H, so recvWin + unacked = 4 MiB and their neighbours run at full
// speed. 100 hold 6.25 MiB, 2.25 MiB count, 1.75 MiB remain. 128 leave nothing.
//
// The second condition of update is needed: with held bytes above W/2 the first
// one is never met.

// withheld is what held bytes take from the connection's window.
func (c *Conn) withheld() int64 { return max(0, c.heldBytes-c.tune.hold) }

// hold notes that n bytes were given to the handler; the connection's recvWin
// was charged before.
func (c *Conn) hold(s *Stream, n int64) {
	if s.held == 0 {
		s.progress = c.now
	}
	s.held += n
	before := c.withheld()
	c.heldBytes += n
	after := c.withheld()
	c.unacked += n - (after - before)
	if after > 0 && c.fullSince == 0 && c.FreeWindow() < c.fullBelow() {
		c.fullSince = max(1, c.now)
		c.wantAfter(c.now, c.lim.StalledFor)
	}
	c.updateConn()
}

// fullBelow is the free window below which held bytes block the connection: a
// client's takes no more streams then (CanOpen), a server's no more frames.
func (c *Conn) fullBelow() int64 {
	if c.role == Client {
		return c.tune.window / 4
	}
	return MaxFrame
}

// release notes that n held bytes left or were dropped.
func (c *Conn) release(n int64) {
	before := c.withheld()
	c.heldBytes -= n
	if before > 0 {
		c.unacked += before - c.withheld()
		if c.FreeWindow() >= c.fullBelow() {
			c.fullSince = 0
		}
		c.updateConn()
	}
}

// updateConn announces what the peer may send again, if it is worth a frame.
func (c *Conn) updateConn() {
	if u := c.unacked; u > 0 && (u >= c.tune.window/2 || u >= c.recvWin) && !c.dead {
		u += c.growConn()
		c.unacked = 0
		c.recvWin += u
		c.writeWindowUpdate(0, u)
	}
}

func (c *Conn) updateStream(s *Stream) {
	if u := s.unacked; u > 0 && (u >= s.window/2 || u >= s.recvWin) && s.state&(stOpen|stRecvEnd) == stOpen {
		u += c.growStream(s)
		s.unacked = 0
		s.recvWin += u
		c.writeWindowUpdate(s.ID, u)
	}
}

// Credit says that n bytes given to OnData have left: they were appended to
// another Conn's output, or dropped. Windows are updated as they need. It takes
// no more than the stream holds.
func (c *Conn) Credit(s *Stream, n int) {
	k := min(int64(n), s.held)
	if k <= 0 || s.conn != c {
		return
	}
	s.held -= k
	s.progress = c.now
	c.release(k)
	if s.state&stOpen == 0 {
		if s.held == 0 {
			s.state &^= stOwes
		}
		return
	}
	s.unacked += k
	c.updateStream(s)
}

// creditDropped gives back to the connection n bytes that no stream got.
func (c *Conn) creditDropped(n int64) {
	c.unacked += n
	c.updateConn()
}

// FreeWindow returns the part of the connection's receive window that held
// bytes do not block.
func (c *Conn) FreeWindow() int64 { return c.recvWin + c.unacked }

// PeerWindow returns what the peer's SETTINGS say that streams may be sent
// before it adds to their windows.
func (c *Conn) PeerWindow() int64 { return c.peerWindow }

// HeldBytes returns the bytes given to OnData and not yet credited, of all
// streams: for tests and simulations.
func (c *Conn) HeldBytes() int64 { return c.heldBytes }

// Victim returns the stream with the largest held bytes × time without
// progress (at least Limits.VictimIdle), or nil: what to end when memory is
// over budget.
func (c *Conn) Victim(now clock.Nanos) *Stream {
	var worst *Stream
	var most float64
	for s := c.tab.first; s != nil; s = s.next {
		idle := now.Sub(s.progress)
		if s.held == 0 || idle < c.lim.VictimIdle {
			continue
		}
		if x := float64(s.held) * float64(idle); x > most {
			worst, most = s, x
		}
	}
	return worst
}

// recvWindowUpdate: RFC 9113 §6.9.
func (c *Conn) recvWindowUpdate(id uint32, p []byte) {
	if len(p) != 4 {
		c.frameSizeError("WINDOW_UPDATE")
		return
	}
	if !c.chargeUseless() {
		return
	}
	n := int64(be32(p) & maxWindow)
	if id == 0 {
		switch {
		case n == 0:
			c.protocolError("WINDOW_UPDATE of 0")
		case c.sendWin+n > maxWindow:
			c.fail(ErrCodeFlowControl, &c.ctr.FlowViolation, "connection window over 2^31-1")
		default:
			c.sendWin += n
			c.wakeDue = c.ring != nil
		}
		return
	}
	s := c.tab.get(id)
	if s == nil {
		if c.isIdle(id) {
			c.protocolError("WINDOW_UPDATE on an idle stream")
		}
		return
	}
	switch {
	case n == 0:
		c.streamError(s, ErrCodeProtocol, ErrStreamProtocol)
	case s.sendWin+n > maxWindow:
		c.ctr.FlowViolation++
		c.streamError(s, ErrCodeFlowControl, ErrStreamProtocol)
	default:
		s.sendWin += n
		s.state |= stGranted
		c.unblock(s)
	}
}

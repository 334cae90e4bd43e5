package h2

import (
	"errors"
	"fmt"
)

// Check verifies the invariants of docs/core.md, "Flow control" and of the stream tables
// between events. It is for tests, fuzzers and simulations; it costs time in
// proportion to the connection's streams.
func (c *Conn) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	held, extra, n := int64(0), int64(0), 0
	for s := c.tab.first; s != nil; s = s.next {
		n++
		held += s.held
		extra += s.window - c.recvInit
		c.checkStream(s, bad)
	}
	if n != c.tab.n {
		bad("%d streams in the list, %d counted", n, c.tab.n)
	}
	if held > c.heldBytes || c.heldBytes < 0 {
		bad("streams hold %d bytes, the connection counts %d", held, c.heldBytes)
	}
	if !c.dead && c.prefaced {
		if sum, wc := c.recvWin+c.withheld()+c.unacked, c.tune.window; sum != wc {
			bad("connection: recvWin %d + withheld %d + unacked %d = %d, not %d", c.recvWin, c.withheld(), c.unacked, sum, wc)
		}
		if c.unacked > 0 && (c.unacked >= c.tune.window/2 || c.unacked >= c.recvWin) {
			bad("connection: window update is due: unacked %d, recvWin %d", c.unacked, c.recvWin)
		}
	}
	c.checkTuning(extra, bad)
	if c.dead && (n != 0 || c.endFirst != nil && c.depth == 0 && !c.closeDue) {
		bad("dead with %d streams", n)
	}
	c.checkRing(bad)
	c.checkOut(bad)
	return errors.Join(errs...)
}

// checkTuning: what stream windows have grown, all of them, is lent, and
// nothing grows beyond its bound.
func (c *Conn) checkTuning(extra int64, bad func(string, ...any)) {
	t, cfg := &c.tune, c.cfg
	if extra != t.extra || extra < 0 || extra > cfg.MaxStreamWindow {
		bad("stream windows have grown by %d, the connection counts %d", extra, t.extra)
	}
	if t.hold < cfg.HoldLimit+extra || t.hold > cfg.HoldLimit+cfg.MaxStreamWindow {
		bad("%d bytes are lent at most, with windows grown by %d", t.hold, extra)
	}
	wc := max(initialWindow, cfg.ConnWindow)
	if t.window < wc || t.window > max(wc, cfg.MaxConnWindow) {
		bad("the connection window is %d", t.window)
	}
	if grown := t.hold - cfg.HoldLimit + t.window - wc; !c.dead && t.granted != grown {
		bad("%d bytes of growth were granted, %d used", t.granted, grown)
	}
}

func (c *Conn) checkStream(s *Stream, bad func(string, ...any)) {
	if s.conn != c || s.state&stOpen == 0 {
		bad("stream %d: in the list but not open", s.ID)
	}
	if s.next != nil && s.next.ID <= s.ID {
		bad("stream %d: not in the order of ids", s.ID)
	}
	if c.tab.get(s.ID) != s {
		bad("stream %d: not in the table", s.ID)
	}
	if s.state&(stRecvEnd|stSendEnd) == stRecvEnd|stSendEnd {
		bad("stream %d: both sides ended and still open", s.ID)
	}
	if sum := s.recvWin + s.held + s.unacked; sum != s.window {
		bad("stream %d: recvWin %d + held %d + unacked %d = %d, not %d", s.ID, s.recvWin, s.held, s.unacked, sum, s.window)
	}
	if s.held < 0 || s.unacked < 0 {
		bad("stream %d: held %d, unacked %d", s.ID, s.held, s.unacked)
	}
	if s.state&stRecvEnd == 0 && s.unacked > 0 && (s.unacked >= s.window/2 || s.unacked >= s.recvWin) {
		bad("stream %d: window update is due: unacked %d, recvWin %d", s.ID, s.unacked, s.recvWin)
	}
	if s.inQ && s.state&stBlocked != 0 {
		bad("stream %d: waits for its own window and for the connection's", s.ID)
	}
	if s.state&stBlocked != 0 && s.sendWin > 0 {
		bad("stream %d: waits for its window, which is %d", s.ID, s.sendWin)
	}
}

// checkRing: whoever is in the ring is open and marked, and nobody waits while
// there are window and room.
func (c *Conn) checkRing(bad func(string, ...any)) {
	if c.ring == nil {
		return
	}
	for s := c.ring; ; s = s.qnext {
		if s.conn != c || s.state&(stOpen|stSendEnd) != stOpen || !s.inQ {
			bad("stream %d: in the ring of senders in state %b", s.ID, s.state)
		}
		if s.qnext == nil || s.qnext.qprev != s {
			bad("stream %d: ring is broken", s.ID)
			return
		}
		if s.qnext == c.ring {
			break
		}
	}
	if !c.dead && c.depth == 0 && c.sendWin > 0 && c.out.n <= c.cfg.HiWater/2 {
		bad("streams wait with a window of %d and %d bytes of output", c.sendWin, c.out.n)
	}
}

func (c *Conn) checkOut(bad func(string, ...any)) {
	n := -c.out.off
	for k := c.out.head; k != nil; k = k.Next {
		n += k.Len()
	}
	if n != c.out.n || c.out.total-c.out.wrote != int64(c.out.n) {
		bad("output: %d bytes in chunks, %d counted, %d by position", n, c.out.n, c.out.total-c.out.wrote)
	}
	if c.out.n == 0 && c.out.head != nil {
		bad("output: empty and holds a chunk")
	}
	if u := c.ctl.unsent(); u < 0 {
		bad("output: %d control bytes unsent", u)
	}
}

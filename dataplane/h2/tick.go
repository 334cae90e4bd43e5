package h2

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// wantTick moves NextTick to an earlier instant. Later ones are found when
// Tick runs: a timer that fires early is cheaper than one that is moved.
func (c *Conn) wantTick(at clock.Nanos) {
	if c.next == 0 || at < c.next {
		c.next = at
		c.tickChanged = true
	}
}

// wantAfter is wantTick for a duration of the configuration, where 0 is never.
func (c *Conn) wantAfter(from clock.Nanos, d time.Duration) {
	if d > 0 {
		c.wantTick(from.Add(d))
	}
}

// NextTick returns when Tick is due, 0 for never. Ticking early is harmless.
func (c *Conn) NextTick() clock.Nanos {
	c.tickChanged = false
	return c.next
}

// TickChanged reports whether NextTick became earlier since the last call of
// NextTick or Tick: a worker's reason to move its timer.
func (c *Conn) TickChanged() bool { return c.tickChanged }

// armTimers gives the time to what send calls, which know none, have started.
func (c *Conn) armTimers() {
	c.armLate = false
	if c.goAwayOut == goAwaySoon && c.drainAt == 0 {
		c.drainAt = max(1, c.now)
		c.wantAfter(c.now, c.cfg.DrainPing)
	}
	if c.pingOut && c.pingAt == 0 {
		c.pingAt = max(1, c.now)
		c.wantAfter(c.now, c.cfg.KeepaliveTimeout)
	}
}

// Tick runs what is due and returns NextTick.
func (c *Conn) Tick(now clock.Nanos) (next clock.Nanos) {
	c.tickChanged = false
	if c.dead {
		c.next = 0
		return 0
	}
	c.enter(now)
	var t ticker
	for again := true; again && !c.dead; {
		t = ticker{now: now}
		again = c.timeouts(&t)
	}
	c.next = t.next
	c.leave()
	if c.dead {
		c.next = 0
	}
	c.tickChanged = false
	return c.next
}

// ticker collects the earliest instant that is not due.
type ticker struct {
	now, next clock.Nanos
}

// due reports whether d after from has come. A zero d never comes.
func (t *ticker) due(from clock.Nanos, d time.Duration) bool {
	return d > 0 && t.dueAt(from.Add(d))
}

func (t *ticker) dueAt(at clock.Nanos) bool {
	if t.now >= at {
		return true
	}
	if t.next == 0 || at < t.next {
		t.next = at
	}
	return false
}

// timeouts does one thing that is due; it reports whether there was one.
func (c *Conn) timeouts(t *ticker) bool {
	switch {
	case !c.gotSettings && t.due(c.born, c.cfg.PrefaceTimeout):
		c.timeout(ErrCodeProtocol, &c.ctr.HeaderTimeout, "no preface and SETTINGS in time")
	case c.settingsAt != 0 && t.due(c.settingsAt, c.cfg.SettingsTimeout):
		c.timeout(ErrCodeSettingsTimeout, &c.ctr.HeaderTimeout, "no SETTINGS ACK in time")
	case c.hdrSince != 0 && t.due(c.hdrSince, c.cfg.HeaderTimeout):
		c.timeout(ErrCodeEnhanceYourCalm, &c.ctr.HeaderTimeout, "header block not complete in time")
	case c.slowReader(t):
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.SlowReader, "output not read")
		c.out.discard()
	case c.fullSince != 0 && t.due(c.fullSince, c.lim.StalledFor):
		c.fullSince = max(1, t.now)
		if s := c.Victim(t.now); s != nil {
			c.ctr.HeldOverflow++
			c.h.OnConn(ConnEvent{Kind: EventStalled, Stream: s})
		}
	case c.goAwayOut == goAwaySoon && c.drainAt != 0 && t.due(c.drainAt, max(1, c.cfg.DrainPing)):
		c.goAwayFinal(ErrCodeNo)
	case c.drainDue != 0 && t.dueAt(c.drainDue):
		c.drainDue = 0
		if c.goAwayOut == goAwayNone {
			c.h.OnConn(ConnEvent{Kind: EventAge})
		}
		c.shutdownNow()
	case c.idleSince != 0 && c.tab.n == 0 && c.goAwayOut == goAwayNone && c.gotSettings && t.due(c.idleSince, c.cfg.IdleTimeout):
		c.h.OnConn(ConnEvent{Kind: EventIdle})
		c.shutdownNow()
	default:
		return c.keepalive(t)
	}
	return true
}

func (c *Conn) shutdownNow() {
	c.Shutdown(ShutdownGraceful, ErrCodeNo)
	if c.armLate {
		c.armTimers()
	}
}

// timeout is fail for a peer that owes us bytes. Before SETTINGS went out a
// GOAWAY would not be understood.
func (c *Conn) timeout(code ErrCode, counter *uint64, reason string) {
	if c.prefaced {
		c.fail(code, counter, reason)
		return
	}
	*counter++
	c.die(&ConnError{Code: code, Reason: reason})
}

func (c *Conn) slowReader(t *ticker) bool {
	if c.out.n == 0 {
		return false
	}
	if c.outSince == 0 {
		c.outSince = max(1, t.now)
	}
	return t.due(c.outSince, c.cfg.SlowReader)
}

// keepalive sends a PING to a silent peer and gives it up if nothing comes;
// any byte is a sign of life.
func (c *Conn) keepalive(t *ticker) bool {
	if c.cfg.KeepaliveInterval <= 0 || !c.gotSettings || c.tab.n == 0 && !c.cfg.KeepaliveIdle {
		return false
	}
	if c.pingOut && c.pingAt != 0 && c.lastRead <= c.pingAt {
		if !t.due(c.pingAt, max(1, c.cfg.KeepaliveTimeout)) {
			return false
		}
		c.fail(ErrCodeNo, &c.ctr.KeepaliveTimeout, "keepalive timeout")
		return true
	}
	if !t.due(max(c.lastRead, c.busySince), c.cfg.KeepaliveInterval) {
		return false
	}
	c.pingOut = true
	c.pingAt = max(1, t.now)
	c.writePing(&pingAlive, 0)
	c.probe(true)
	return true
}

// notePartial starts and stops the clock of a header block whose bytes come
// one by one. A frame whose type is not known yet may be one.
func (c *Conn) notePartial(tail []byte) {
	if c.hdrID != 0 {
		return // runs since HEADERS
	}
	if len(tail) == 0 || len(tail) > 3 && frameType(tail[3]) != frameHeaders || !c.prefaced {
		c.hdrSince = 0
		return
	}
	if c.hdrSince == 0 {
		c.hdrSince = max(1, c.now)
		c.wantAfter(c.now, c.cfg.HeaderTimeout)
	}
}

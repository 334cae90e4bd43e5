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
}

// Tick runs what is due and returns NextTick.
func (c *Conn) Tick(now clock.Nanos) (next clock.Nanos) {
	c.tickChanged = false
	if c.dead {
		return c.lastWords(now)
	}
	c.enter(now)
	var t ticker
	for again := true; again && !c.dead; {
		t = ticker{now: now}
		again = c.timeouts(&t)
	}
	c.next = t.next
	c.leave()
	c.tickChanged = false
	if c.dead {
		return c.lastWords(now)
	}
	return c.next
}

// lastWords is Tick for a connection that is over: what is left of its output
// waits for the peer no longer than before.
func (c *Conn) lastWords(now clock.Nanos) clock.Nanos {
	t := ticker{now: now}
	if c.slowReader(&t) {
		c.ctr.SlowReader++
		c.giveUpOutput()
	}
	c.next = t.next
	return c.next
}

func (c *Conn) giveUpOutput() {
	c.out.discard()
	c.behind, c.gaveUp = false, true
}

// GaveUp reports that the peer did not read, and output was dropped for that.
func (c *Conn) GaveUp() bool { return c.gaveUp }

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
		c.giveUpOutput()
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
	case c.endShort(t):
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
	if c.out.n == 0 && !c.behind {
		return false
	}
	if c.outSince == 0 {
		c.outSince = max(1, t.now)
	}
	return t.due(c.outSince, c.cfg.SlowReader)
}

// Keepalive is Envoy's connection_keepalive (ConnectionImpl::sendKeepalive,
// onKeepaliveResponse): the first PING an interval after the peer's SETTINGS,
// each next one an interval after the ACK, whether there are streams or not.

// keepalive sends a PING that is due and gives a silent peer up; any byte is a
// sign of life.
func (c *Conn) keepalive(t *ticker) bool {
	switch {
	case c.pingOut:
		if !t.due(max(c.pingAt, c.lastRead), max(1, c.cfg.KeepaliveTimeout)) {
			return false
		}
		c.fail(ErrCodeNo, &c.ctr.KeepaliveTimeout, "keepalive timeout")
	case c.pingDue != 0 && t.dueAt(c.pingDue):
		c.ping(t.now)
	default:
		return false
	}
	return true
}

// scheduleKeepalive sets when the next PING is due.
func (c *Conn) scheduleKeepalive() {
	d := c.cfg.KeepaliveInterval
	if d <= 0 {
		return
	}
	c.pingDue = c.now.Add(d)
	if most := uint64(d) / 100 * uint64(c.cfg.KeepaliveJitter); most > 0 && c.cfg.Rand != nil {
		c.pingDue = c.pingDue.Add(time.Duration(c.cfg.Rand.Uint64() % most))
	}
	c.wantTick(c.pingDue)
}

func (c *Conn) ping(now clock.Nanos) {
	c.pingOut = true
	c.pingAt, c.pingDue = max(1, now), 0
	c.writePing(&pingAlive, 0)
	c.probe(true)
	c.wantAfter(c.pingAt, max(1, c.cfg.KeepaliveTimeout))
}

// PingIfIdle sends a PING if the peer has been silent for KeepaliveIdle: call
// it before OpenStream. The stream opens all the same, and ends with the
// connection if nothing comes within KeepaliveTimeout.
func (c *Conn) PingIfIdle(now clock.Nanos) {
	if d := c.cfg.KeepaliveIdle; d > 0 && c.gotSettings && !c.dead && !c.pingOut && now.Sub(c.lastRead) > d {
		c.ping(now)
	}
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

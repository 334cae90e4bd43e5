package h2

import (
	"encoding/binary"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// goAwayPhase is how far our own GOAWAY is.
type goAwayPhase uint8

const (
	goAwayNone  goAwayPhase = iota
	goAwaySoon              // 2^31-1 was sent: the peer learns that it should stop
	goAwayFinal             // the real last id was sent
)

// The phases of Shutdown.
const (
	ShutdownGraceful = 1 // server: GOAWAY(2^31-1), a PING, then the real last id by itself
	ShutdownNow      = 2 // GOAWAY with the last processed id at once
)

var (
	pingDrain = [8]byte{'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'}
	pingAlive = [8]byte{'s', 'l', 'u', 'i', 'c', 'e', 'k', 'a'}
)

// Shutdown begins to end the connection: no new streams, dead when the last
// one is gone. A client's GOAWAY has last id 0 in either phase.
func (c *Conn) Shutdown(phase int, code ErrCode) {
	if c.dead {
		return
	}
	if c.role == Server && !c.prefaced {
		if phase != ShutdownGraceful {
			c.endAll(code, ErrClosed)
			c.die(nil)
			return
		}
		// The client may be about to speak, and send requests without waiting
		// for us: it is to hear that it should go elsewhere, and be served until
		// then. SETTINGS must be our first frame.
		c.greet()
	}
	if phase == ShutdownGraceful && c.role == Server {
		if c.goAwayOut != goAwayNone {
			return
		}
		c.goAwayOut = goAwaySoon
		c.writeGoAway(maxStreamID, code, "")
		c.writePing(&pingDrain, 0)
		c.drainAt = 0
		c.armLate = true
		c.notify()
		return
	}
	if c.goAwayOut == goAwayFinal && code == ErrCodeNo {
		return
	}
	c.goAwayFinal(code)
	if c.tab.n == 0 {
		c.notify()
	}
}

func (c *Conn) goAwayFinal(code ErrCode) {
	c.goAwayOut = goAwayFinal
	c.goAwayLast = min(c.goAwayLast, c.lastProcessed())
	c.writeGoAway(c.goAwayLast, code, "")
}

// lastProcessed is the id for our GOAWAY: the highest of the peer's streams
// that may have been acted upon. Servers open none with us.
func (c *Conn) lastProcessed() uint32 {
	if c.role == Client {
		return 0
	}
	return c.lastID
}

// DrainAt makes the connection begin ShutdownGraceful at an instant (maximum
// age with the caller's jitter); 0 cancels.
func (c *Conn) DrainAt(at clock.Nanos) {
	c.drainDue = at
	if at != 0 {
		c.wantTick(at)
	}
}

// recvGoAway: RFC 9113 §6.8.
func (c *Conn) recvGoAway(id uint32, p []byte) {
	if id != 0 {
		c.protocolError("GOAWAY on a stream")
		return
	}
	if len(p) < 8 {
		c.frameSizeError("GOAWAY")
		return
	}
	if c.goAwayIn && !c.chargeUseless() {
		return
	}
	last := binary.BigEndian.Uint32(p) & maxStreamID
	code := ErrCode(binary.BigEndian.Uint32(p[4:]))
	if last > c.goAwayInLast {
		c.protocolError("GOAWAY raised the last stream id")
		return
	}
	c.goAwayIn = true
	c.goAwayInLast = last
	if code != ErrCodeNo || c.goAwayCode == ErrCodeNo {
		c.goAwayCode = code
	}
	c.h.OnConn(ConnEvent{Kind: EventGoAway})
	if c.role == Server || c.dead {
		return
	}
	// The list is in the order of ids: those above last are at its end. They
	// end in that order too, in which the pool opens them again.
	s := c.tab.last
	for s != nil && s.prev != nil && s.prev.ID > last {
		s = s.prev
	}
	for s != nil && s.ID > last {
		next := s.next
		c.closeStream(s, StreamError{Kind: EndReset, Side: SideConn, Code: code, Err: ErrGoAway}, closedByPeer)
		s = next
	}
}

package h2

import "github.com/sluice-proxy/sluice/dataplane/clock"

// Receive windows grow for long fat paths (docs/core.md, "Flow control"). A sender that is
// limited by a window of W gets an update each W/2 bytes, two in a round trip:
//
//	grow:   an update of s is due, tuneTrips·RTT after the last one at most, held = 0 at both
//	        → W(s) doubles, up to MaxStreamWindow and while Σ(W(s) - W0) ≤ MaxStreamWindow
//	H:      H0 + the highest Σ(W(s) - W0) so far
//	conn:   the same with Wc, up to MaxConnWindow
//	not:    while Held > H/2, or when Pool.Grow refuses
//
// Windows never shrink. Because H grows with the sum of the stream windows,
// grown streams that stall, all of them, take nothing from the connection
// window: their neighbours are as well off as without tuning. Example: 50 ms
// and 1 GB/s need 50 MB; W = 64 KiB brings 1.3 MB/s, after 8 doublings 16 MiB
// bring 335 MB/s. When that stream stalls it holds 16 MiB of H = 20 MiB.
//
// A window ends between 4 and 8 times what the path needs, which leaves room
// for an RTT that was measured on an idle path. RTTs are sampled from frames
// that are sent anyway, because peers count PINGs: SETTINGS and its ACK, PINGs
// of keepalive and drain. The smallest one counts: it makes windows grow less.
const tuneTrips = 2

// tuner is a Conn's state of tuning.
type tuner struct {
	rtt       clock.Nanos // smallest sample; 0: none
	probePos  int64       // when the output was written up to here the probe left; 0: no probe
	probeAt   clock.Nanos // when it left; 0: not yet
	probePing bool        // it is a PING, else SETTINGS
	window    int64       // Wc
	hold      int64       // H
	extra     int64       // Σ(W(s) - W0)
	granted   int64       // what Pool.Grow allowed
	updatedAt clock.Nanos // of the last WINDOW_UPDATE of the connection; 0: none
}

// probe notes that the last frame of the output, SETTINGS or PING, will be
// answered as soon as it is read. One at a time: a second is no probe.
func (c *Conn) probe(ping bool) {
	if t := &c.tune; t.probePos == 0 {
		t.probePos, t.probeAt, t.probePing = c.out.total, 0, ping
	}
}

// probeLeft notes when the probe was written.
func (c *Conn) probeLeft(now clock.Nanos) {
	if t := &c.tune; t.probeAt == 0 && c.out.wrote >= t.probePos {
		t.probeAt = max(1, now)
	}
}

// probeAnswered takes a sample if the probe was of this kind.
func (c *Conn) probeAnswered(ping bool) {
	t := &c.tune
	if t.probePos == 0 || t.probePing != ping {
		return
	}
	if t.probeAt != 0 {
		if d := max(1, c.now-t.probeAt); t.rtt == 0 || d < t.rtt {
			t.rtt = d
		}
	}
	t.probePos, t.probeAt = 0, 0
}

// ReceiveWindow returns Wc and H as they are now: for tests and simulations.
func (c *Conn) ReceiveWindow() (window, hold int64) { return c.tune.window, c.tune.hold }

// soon reports whether at is at most tuneTrips round trips ago.
func (c *Conn) soon(at clock.Nanos) bool {
	return at != 0 && c.tune.rtt != 0 && c.now-at <= tuneTrips*c.tune.rtt
}

// growStream is asked when an update of s is due. It returns what is to be
// announced beyond unacked.
func (c *Conn) growStream(s *Stream) int64 {
	last := s.updatedAt
	s.updatedAt = 0
	if s.held != 0 {
		return 0
	}
	s.updatedAt = max(1, c.now)
	t, most := &c.tune, c.cfg.MaxStreamWindow
	if !c.soon(last) || c.settingsAt != 0 || s.window >= most {
		return 0
	}
	n := min(s.window, most-s.window)
	if t.extra+n > most || c.heldBytes > t.hold/2 {
		return 0
	}
	if d := c.cfg.HoldLimit + t.extra + n - t.hold; d > 0 {
		if !c.grant(d, true) {
			return 0
		}
		t.hold += d
	}
	t.extra += n
	s.window += n
	return n
}

// growConn is growStream for the connection.
func (c *Conn) growConn() int64 {
	t := &c.tune
	last := t.updatedAt
	t.updatedAt = 0
	if c.heldBytes > t.hold/2 {
		return 0
	}
	t.updatedAt = max(1, c.now)
	if !c.soon(last) || t.window >= c.cfg.MaxConnWindow {
		return 0
	}
	n := min(t.window, c.cfg.MaxConnWindow-t.window)
	if !c.grant(n, false) {
		return 0
	}
	t.window += n
	return n
}

func (c *Conn) grant(n int64, lent bool) bool {
	if c.pool.Grow != nil && !c.pool.Grow(n, lent) {
		return false
	}
	c.tune.granted += n
	return true
}

// endTuning gives back what a dead connection was granted.
func (c *Conn) endTuning() {
	if n := c.tune.granted; n != 0 && c.pool.Grow != nil {
		lent := c.tune.hold - c.cfg.HoldLimit
		c.pool.Grow(-lent, true)
		c.pool.Grow(lent-n, false)
	}
	c.tune.granted = 0
}

package h2

import (
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Conn is one end of an HTTP/2 connection. Everything in it is owned by the
// worker.
type Conn struct {
	// Set at creation.
	role Role
	cfg  *Config
	lim  *Limits
	ctr  *Counters
	pool *Pool
	h    Handler
	dec  *hpack.Decoder
	enc  *hpack.Encoder
	born clock.Nanos

	now   clock.Nanos // of the last event
	depth int8        // events under way; 0: a send call comes from outside

	prefaced     bool // the peer's preface came (client role: nothing to come)
	greeted      bool // our own is in the output (server role)
	gotSettings  bool // the peer's first SETTINGS came
	dead         bool
	closeDue     bool // EventClosed is to be delivered
	flushing     bool // in Handler.Flush
	behind       bool // see Behind
	gaveUp       bool // see GaveUp
	waking       bool // in runRing
	wakeDue      bool // run the ring after this frame
	tickChanged  bool
	pingOut      bool // a keepalive PING is unanswered
	armLate      bool // drainAt waits for the next event's time
	goAwayIn     bool
	goAwayOut    goAwayPhase
	peerConnect  bool // SETTINGS_ENABLE_CONNECT_PROTOCOL
	err          error
	goAwayCode   ErrCode // of the peer's GOAWAY
	goAwayInLast uint32
	goAwayLast   uint32 // last id of our latest GOAWAY
	lastBlock    int    // encoded bytes of the header block sent last

	out  Out
	ctl  controlMeter
	tab  table
	past closedRing

	lastID   uint32 // server: highest id the peer used; client: our highest
	nextID   uint32 // client: id of the next stream; maxStreamID+2: none left
	lingers  int    // attempts of streams that are gone, see Linger
	endFirst *Stream
	endLast  *Stream

	// Sending: what the peer allows.
	sendWin        int64
	peerWindow     int64 // its SETTINGS_INITIAL_WINDOW_SIZE
	peerMaxStreams uint32
	peerMaxHeaders int64   // its SETTINGS_MAX_HEADER_LIST_SIZE; client role only
	ring           *Stream // first of the blocked senders, a circle
	turn           *Stream // whose OnWritable runs
	turnLeft       int

	// Receiving: docs/core.md, "Flow control". recvWin + withheld + unacked = Wc.
	recvWin    int64
	unacked    int64
	heldBytes  int64
	recvInit   int64 // W0 from the ACK of our SETTINGS on, 65,535 before
	lateData   int64 // DATA that may still come for streams we reset
	fullSince  clock.Nanos
	settingsAt clock.Nanos // of SETTINGS without ACK; 0: none
	tune       tuner

	// The header block under way.
	hdrID      uint32
	hdrFlags   uint8
	hdrSelfDep bool
	hdrFrames  int
	hdrEmpty   int
	hdrSince   clock.Nanos // first byte of an unfinished block; 0: none
	frag       []byte

	// Times of Tick.
	next      clock.Nanos
	lastRead  clock.Nanos
	outSince  clock.Nanos // output, or what is behind it, waits without progress since; 0: not
	pingAt    clock.Nanos // the last keepalive PING was sent
	pingDue   clock.Nanos // the next one is; 0: none
	idleSince clock.Nanos
	drainAt   clock.Nanos // first GOAWAY sent
	drainDue  clock.Nanos // DrainAt

	// Abuse.
	refused, resets, pings, settings, useless bucket
	frames, empties                           int64
	emptyRow                                  int32
	short                                     int32 // open streams with shortAt
}

// NewConn returns an endpoint. A client's Output has the preface and SETTINGS
// at once, a server's when the client's preface has come.
func NewConn(role Role, cfg *Config, h Handler, now clock.Nanos) *Conn {
	c := &Conn{
		role: role, cfg: cfg, lim: cfg.Limits, ctr: cfg.Counters, pool: cfg.Pool, h: h,
		dec: hpack.NewDecoder(hpack.DefaultTableSize), enc: hpack.NewEncoder(),
		born: now, now: now, lastRead: now,
		sendWin: initialWindow, peerWindow: initialWindow, peerMaxStreams: defaultPeerStreams, peerMaxHeaders: noHeaderLimit,
		recvWin: initialWindow, recvInit: initialWindow,
		tune:       tuner{window: max(initialWindow, cfg.ConnWindow), hold: cfg.HoldLimit},
		goAwayLast: maxStreamID, goAwayInLast: maxStreamID,
	}
	if c.pool == nil {
		c.pool = NewPool(0, false)
	}
	if c.ctr == nil {
		c.ctr = &Counters{}
	}
	if c.lim == nil {
		c.lim = DefaultLimits(role)
	}
	c.dec.Check = validField
	c.out.pool = c.pool
	c.refused = bucket{level: c.lim.RefusedBurst, at: now}
	c.resets = bucket{level: c.lim.ResetBurst, at: now}
	c.pings = bucket{level: c.lim.PingBurst, at: now}
	c.settings = bucket{level: c.lim.SettingsBurst, at: now}
	c.useless = bucket{level: c.lim.UselessBurst, at: now}
	if role == Client {
		c.nextID = 1
		c.prefaced = true
		c.writeSettings()
	}
	c.wantAfter(now, cfg.PrefaceTimeout)
	return c
}

// Connected says that output can leave from now on: what is awaited of the
// peer is awaited from here, not from NewConn, which is where a dial begins.
func (c *Conn) Connected(now clock.Nanos) {
	c.now, c.born, c.lastRead = now, now, now
	c.wantAfter(now, c.cfg.PrefaceTimeout)
	if c.settingsAt != 0 {
		c.settingsAt = max(1, now)
		c.wantAfter(now, c.cfg.SettingsTimeout)
	}
}

// Output returns what is to be written.
func (c *Conn) Output() *Out { return &c.out }

// enter begins an event; leave ends it.
func (c *Conn) enter(now clock.Nanos) {
	c.now = now
	c.depth++
	if c.armLate {
		c.armTimers()
	}
}

func (c *Conn) leave() {
	if c.wakeDue {
		c.wakeDue = false
		c.runRing()
	}
	if c.endFirst != nil || c.closeDue || c.tab.n == 0 {
		c.deliver()
	}
	c.depth--
}

// Deliver calls OnEnd for streams that ended in send calls since the last
// event of this Conn, and EventClosed if it is due.
func (c *Conn) Deliver(now clock.Nanos) {
	c.enter(now)
	if c.ring != nil && c.sendWin > 0 && c.out.n < c.cfg.HiWater {
		c.runRing()
	}
	c.leave()
}

// deliver empties the queue of ended streams and then looks whether the
// connection is over.
func (c *Conn) deliver() {
	for {
		for c.endFirst != nil {
			s := c.endFirst
			c.endFirst, s.next = s.next, nil
			if c.endFirst == nil {
				c.endLast = nil
			}
			e := s.end
			s.end.Err = nil
			c.h.OnEnd(s, e)
		}
		if c.tab.n == 0 {
			c.emptied()
		}
		if c.closeDue {
			c.closeDue = false
			c.h.OnConn(ConnEvent{Kind: EventClosed, Err: c.err})
		}
		if c.endFirst == nil && !c.closeDue {
			return
		}
	}
}

// emptied looks at a connection without streams: drained, or idle from now on.
func (c *Conn) emptied() {
	if c.dead {
		return
	}
	if c.goAwayOut == goAwayFinal || c.role == Client && (c.goAwayIn || c.nextID > maxStreamID) {
		c.die(nil)
		return
	}
	if c.idleSince == 0 {
		c.idleSince = c.now
		if c.goAwayOut == goAwayNone {
			c.wantAfter(c.now, c.cfg.IdleTimeout)
		}
	}
}

// die marks the connection dead. Its streams must have been ended.
func (c *Conn) die(err error) {
	c.dead, c.closeDue = true, true
	c.err = err
	c.endTuning()
	c.frag = nil
	c.hdrID = 0
	c.notify()
}

// notify tells the worker about something outside of this connection's events.
func (c *Conn) notify() {
	if c.depth == 0 {
		c.h.Pending()
	}
}

// fail ends the connection with our verdict: GOAWAY, every stream ended.
func (c *Conn) fail(code ErrCode, counter *uint64, reason string) {
	if c.dead {
		return
	}
	*counter++
	c.writeGoAway(min(c.goAwayLast, c.lastProcessed()), code, reason)
	err := &ConnError{Code: code, Reason: reason}
	c.dead = true
	c.endAll(code, err)
	c.die(err)
}

// protocolError is fail for what needs no counter of its own.
func (c *Conn) protocolError(reason string) {
	c.fail(ErrCodeProtocol, &c.ctr.ProtocolErrors, reason)
}

// endAll ends every stream because the connection is gone.
func (c *Conn) endAll(code ErrCode, err error) {
	for c.tab.first != nil {
		s := c.tab.first
		c.closeStream(s, StreamError{Kind: EndReset, Side: SideConn, Code: code, MaybeSeen: c.maybeSeen(s), Err: err}, closedUnknown)
	}
}

// maybeSeen reports whether a byte of the stream's request left.
func (c *Conn) maybeSeen(s *Stream) bool { return s.sentAt >= 0 && c.out.wrote > s.sentAt }

// FeedEOF says that no more bytes will come: the peer's FIN or a read error.
// Every stream ends, Output is emptied, and the Conn is dead.
func (c *Conn) FeedEOF(now clock.Nanos) {
	c.enter(now)
	if !c.dead {
		c.abandon()
	}
	c.leave()
}

// Close abandons the connection: every stream gets its OnEnd before it
// returns, Output is emptied. Idempotent.
func (c *Conn) Close() {
	c.depth = 1
	c.abandon()
	c.leave()
}

func (c *Conn) abandon() {
	if !c.dead {
		err := ErrClosed
		if c.goAwayIn && c.goAwayCode != ErrCodeNo {
			err = &ConnError{Code: c.goAwayCode, Peer: true, Reason: "GOAWAY"}
		}
		c.dead = true
		c.endAll(c.goAwayCode, err)
		c.die(err)
	}
	c.out.discard()
}

// closeStream takes s out of the table and queues its OnEnd.
func (c *Conn) closeStream(s *Stream, e StreamError, h how) {
	c.tab.remove(s)
	if s.shortAt != 0 {
		c.short--
	}
	c.tune.extra -= s.window - c.recvInit
	if c.ring != nil {
		c.unqueue(s)
	}
	if h != closedUnknown {
		c.past.add(s.ID, h, c.now)
	}
	s.state &^= stOpen | stBlocked
	if s.held != 0 {
		if e.Kind == EndClean {
			s.state |= stOwes
		} else {
			c.release(s.held)
			s.held = 0
		}
	}
	s.end = e
	if c.endLast == nil {
		c.endFirst = s
	} else {
		c.endLast.next = s
	}
	c.endLast = s
	c.notify()
}

// finish closes a stream both of whose sides ended.
func (c *Conn) finish(s *Stream) {
	if s.state&(stOpen|stRecvEnd|stSendEnd) == stOpen|stRecvEnd|stSendEnd {
		c.closeStream(s, StreamError{}, closedEnded)
	}
}

// streamError resets a stream because of what the peer sent. It counts as a
// reset of the peer's: each has cost us a request (CVE-2025-8671).
func (c *Conn) streamError(s *Stream, code ErrCode, err error) {
	if c.chargeReset(s) {
		c.reset(s, StreamError{Kind: EndReset, Side: SideLocal, Code: code, MaybeSeen: true, Err: err})
	}
}

// streamErrorID resets a stream that is not in the table.
func (c *Conn) streamErrorID(id uint32, code ErrCode) {
	if c.chargeReset(nil) {
		c.writeRST(id, code)
	}
}

// chargeReset takes a token for a stream reset because of the peer; false: the
// connection failed. A stream whose response had ended is free, and a request of
// ours: a server that refuses all of them makes us do nothing that they had not
// asked for, and the calls beside them are others'.
func (c *Conn) chargeReset(s *Stream) bool {
	if s != nil && (c.role == Client || s.state&stSendEnd != 0) {
		return true
	}
	if c.resets.take(c.now, c.lim.ResetBurst, c.lim.ResetRate) {
		return true
	}
	c.fail(ErrCodeEnhanceYourCalm, &c.ctr.RapidReset, "too many streams reset")
	return false
}

// Served says that a call of the peer's was answered where it costs something:
// it may reset another, now or later.
func (c *Conn) Served() {
	if c.resets.level < servedBursts*c.lim.ResetBurst {
		c.resets.level++
	}
}

// Streams returns the number of open streams.
func (c *Conn) Streams() int { return c.tab.n }

// PeerMaxStreams returns the peer's SETTINGS_MAX_CONCURRENT_STREAMS, 100 until
// its SETTINGS came.
func (c *Conn) PeerMaxStreams() uint32 { return c.peerMaxStreams }

// Established reports whether the peer's first SETTINGS came.
func (c *Conn) Established() bool { return c.gotSettings }

// GoingAway reports whether a GOAWAY was sent or received, or ids are used up.
func (c *Conn) GoingAway() bool {
	return c.goAwayIn || c.goAwayOut != goAwayNone || c.nextID > maxStreamID
}

// Dead reports that the connection is over: Feed takes no more; what is left of
// Output is to be written, then the socket closed.
func (c *Conn) Dead() bool { return c.dead }

// Linger says that n more (or fewer) attempts of streams the peer has reset
// are still running elsewhere; with its streams they may be twice
// MaxConcurrentStreams.
func (c *Conn) Linger(n int) { c.lingers += n }

// Each calls f for every open stream in id order. f must not end streams other
// than its own.
func (c *Conn) Each(f func(s *Stream)) {
	for s := c.tab.first; s != nil; {
		next := s.next
		f(s)
		s = next
	}
}

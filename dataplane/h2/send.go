package h2

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// turnBytes is how much a stream may send before the next one's turn.
const turnBytes = 16 << 10

// OpenStream (client role) opens s with the next id. False: CanOpen is false.
// Nothing is sent before WriteHeaders, which must follow before any other
// stream is opened.
func (c *Conn) OpenStream(s *Stream) bool {
	if !c.CanOpen() {
		return false
	}
	s.start(c, c.nextID)
	c.lastID = c.nextID
	c.nextID += 2
	c.tab.put(s)
	c.opened()
	return true
}

// opened ends the idleness of a connection that got a stream.
func (c *Conn) opened() {
	if c.tab.n == 1 {
		c.idleSince = 0
	}
}

// CanOpen reports whether OpenStream would succeed: client role, alive, no
// GOAWAY either way, below PeerMaxStreams and MaxConcurrentStreams, ids left,
// FreeWindow at least a quarter of the connection window, and output not piling up.
func (c *Conn) CanOpen() bool {
	return c.role == Client && !c.dead && !c.goAwayIn && c.goAwayOut == goAwayNone &&
		c.nextID <= maxStreamID &&
		uint32(c.tab.n) < min(c.peerMaxStreams, c.cfg.MaxConcurrentStreams) &&
		(c.heldBytes <= c.tune.hold || c.FreeWindow() >= c.tune.window/4) &&
		c.out.n < 2*c.cfg.HiWater
}

// WriteHeaders sends a header block. end also sends END_STREAM. On a stream
// that is gone, or whose sending ended, it does nothing. A request over the
// server's header limit ends with ErrPeerHeaderListSize. DATA queued by the
// caller must go first: order is the order of calls.
func (c *Conn) WriteHeaders(s *Stream, f []hpack.Field, end bool) {
	if s.state&(stOpen|stSendEnd) != stOpen || s.conn != c {
		return
	}
	if s.sentAt < 0 {
		if c.role == Client {
			if c.overPeerLimit(f) {
				c.reset(s, StreamError{Kind: EndReset, Side: SideLocal, Code: ErrCodeEnhanceYourCalm, Err: ErrPeerHeaderListSize})
				return
			}
			c.lookForHEAD(s, f)
		}
		s.sentAt = c.out.total
	}
	if c.role == Server && s.state&stAnswered == 0 && !informational(f) {
		s.state |= stAnswered
	}
	c.writeBlock(s.ID, f, end)
	if end {
		c.endSend(s)
	}
}

// informational reports a 1xx response.
func informational(f []hpack.Field) bool {
	return len(f) > 0 && f[0].ID == hdr.Status && strings.HasPrefix(f[0].Value, "1")
}

// overPeerLimit reports whether a request's header list is larger than the
// server takes (RFC 9113 §10.5.1). Such a request is not sent: servers may end
// the whole connection over it, and with it our other clients' calls. Netty, and
// so grpc-java with its 8 KiB, does so from 5/4 of its limit on. A client's limit
// is not looked at, as in Envoy, nghttp2 and nginx: a response that is too large
// harms nobody else, and is the client's to refuse.
func (c *Conn) overPeerLimit(f []hpack.Field) bool {
	if c.peerMaxHeaders == noHeaderLimit {
		return false
	}
	left := c.peerMaxHeaders
	for i := range f {
		left -= int64(f[i].Size())
	}
	return left < 0
}

// lookForHEAD notes requests whose responses have a content-length without
// content (RFC 9110 §8.6).
func (c *Conn) lookForHEAD(s *Stream, f []hpack.Field) {
	for i := range f {
		if f[i].ID == hdr.Method {
			if f[i].Value == "HEAD" {
				s.state |= stHEAD
			}
			return
		}
		if len(f[i].Name) == 0 || f[i].Name[0] != ':' {
			return
		}
	}
}

// writeBlock encodes a header block into the output: HEADERS, and CONTINUATION
// if it is long. It is encoded in place; only if it does not fit, which the size
// of the last block makes rare, append moves it to other memory.
func (c *Conn) writeBlock(id uint32, f []hpack.Field, end bool) {
	var flags uint8
	if end {
		flags = flagEndStream
	}
	b := c.room(min(frameHeaderLen+256+2*c.lastBlock, chunkMid))
	p := c.enc.AppendList(c.enc.Begin(b[frameHeaderLen:frameHeaderLen]), f)
	c.lastBlock = len(p)
	if len(p) > len(b)-frameHeaderLen {
		c.writeLongBlock(id, p, flags)
		return
	}
	if len(p) > MaxFrame { // p is where the frames will be
		c.writeLongBlock(id, bytes.Clone(p), flags)
		return
	}
	putFrameHeader(b, len(p), frameHeaders, flags|flagEndHeaders, id)
	c.out.commit(frameHeaderLen + len(p))
}

// writeLongBlock copies an encoded block into as many frames as it needs.
func (c *Conn) writeLongBlock(id uint32, p []byte, flags uint8) {
	t := frameHeaders
	for {
		n := min(len(p), MaxFrame)
		if n == len(p) {
			flags |= flagEndHeaders
		}
		putFrameHeader(c.room(frameHeaderLen), n, t, flags, id)
		c.out.commit(frameHeaderLen)
		c.out.append(p[:n])
		p = p[n:]
		if len(p) == 0 {
			break
		}
		t, flags = frameContinuation, 0
	}
}

// room is Out.room with Pending for output that was empty.
func (c *Conn) room(min int) []byte {
	if c.out.n == 0 {
		c.h.Pending()
	}
	return c.out.room(min)
}

// endSend follows our END_STREAM.
func (c *Conn) endSend(s *Stream) {
	s.state = s.state&^stBlocked | stSendEnd
	if c.ring != nil {
		c.unqueue(s)
	}
	c.finish(s)
}

// WriteData sends as much of p as the stream's and the connection's windows,
// and the room below HiWater, allow, and returns how much that was. end is sent
// only with the last byte. After a short write OnWritable follows. A stream
// that is gone takes everything.
func (c *Conn) WriteData(s *Stream, p []byte, end bool) (n int) {
	if s.state&(stOpen|stSendEnd) != stOpen || s.conn != c {
		return len(p)
	}
	if len(p) == 0 {
		if end { // needs no window (RFC 9113 §6.9.1)
			c.writeData(s, nil, flagEndStream)
			c.endSend(s)
		}
		return 0
	}
	for n < len(p) {
		k := min(len(p)-n, c.sendable(s))
		if k == 0 {
			return n
		}
		var flags uint8
		if end && n+k == len(p) {
			flags = flagEndStream
		}
		c.writeData(s, p[n:n+k], flags)
		n += k
	}
	if end {
		c.endSend(s)
	}
	return n
}

// sendable returns how much s may put into one DATA frame now. If that is
// nothing, s was put where it will be woken.
func (c *Conn) sendable(s *Stream) int {
	if s.sendWin <= 0 {
		s.state |= stBlocked
		return 0
	}
	k := int(min(s.sendWin, c.sendWin, MaxFrame))
	if c.turn == s {
		k = min(k, c.turnLeft)
	} else if c.ring != nil {
		k = 0 // others wait: no overtaking
	}
	if k <= 0 || c.out.n >= c.cfg.HiWater && !c.flushed() {
		c.queue(s)
		return 0
	}
	return k
}

// flushed lets the driver write and reports whether that made room.
func (c *Conn) flushed() bool {
	if c.flushing {
		return false
	}
	c.flushing = true
	c.h.Flush()
	c.flushing = false
	return c.out.n < c.cfg.HiWater
}

func (c *Conn) writeData(s *Stream, p []byte, flags uint8) {
	n := len(p)
	// Header and payload go to one chunk if they fit; else the payload starts
	// in this one and goes on in the next.
	b := c.room(frameHeaderLen)
	putFrameHeader(b, n, frameData, flags, s.ID)
	if len(b) >= frameHeaderLen+n {
		copy(b[frameHeaderLen:], p)
		c.out.commit(frameHeaderLen + n)
	} else {
		c.out.commit(frameHeaderLen)
		c.out.append(p)
	}
	s.sendWin -= int64(n)
	c.sendWin -= int64(n)
	if c.turn == s {
		c.turnLeft -= n
	}
	// What a reader of this may answer with.
	c.useless.add(2+int32(n>>11), c.lim.UselessBurst)
	c.pings.add(1, c.lim.PingBurst)
}

// Reset sends RST_STREAM and closes the stream; its OnEnd has SideLocal. On a
// stream that is gone it does nothing.
func (c *Conn) Reset(s *Stream, code ErrCode) {
	if s.state&stOpen == 0 || s.conn != c {
		return
	}
	c.reset(s, StreamError{Kind: EndReset, Side: SideLocal, Code: code, MaybeSeen: c.maybeSeen(s)})
}

func (c *Conn) reset(s *Stream, e StreamError) {
	if c.role == Server || s.sentAt >= 0 { // else the id is still idle for the peer
		c.writeRST(s.ID, e.Code)
	}
	if s.state&stRecvEnd == 0 {
		c.expectLate(s.recvWin)
	} else {
		c.expectLate(0)
	}
	c.closeStream(s, e, closedByUs)
}

// Wrote says that the driver's write took n bytes of Output, possibly none. It
// wakes streams that waited for room, unless it is called from Handler.Flush.
func (c *Conn) Wrote(now clock.Nanos, n int) {
	if n > 0 {
		c.takes(now)
	}
	c.out.advance(n)
	c.ctl.wrote(&c.out)
	if c.tune.probePos != 0 {
		c.probeLeft(now)
	}
	switch {
	case c.out.n == 0 && !c.behind:
		c.outSince = 0
	case n > 0 || c.outSince == 0:
		c.outSince = now
		c.wantAfter(now, c.cfg.SlowReader)
	}
	if c.flushing {
		return
	}
	c.enter(now)
	if c.ring != nil && c.out.n <= c.cfg.HiWater/2 {
		c.runRing()
	}
	c.leave()
}

// takes notes that the peer has taken something. While it is not read that is
// its sign of life, and what it owes us is not late: its silence is ours.
func (c *Conn) takes(now clock.Nanos) {
	if !c.StopReading() {
		return
	}
	now = max(1, now)
	c.lastRead = now
	if c.hdrSince != 0 {
		c.hdrSince = now
	}
	if c.settingsAt != 0 {
		c.settingsAt = now
	}
}

// Behind says whether the driver holds bytes that Wrote was told of and that
// the peer has not taken: what TLS has encrypted. They are waited for like
// Output, and each call but the first says that some have left.
func (c *Conn) Behind(now clock.Nanos, yes bool) {
	if !yes && !c.behind {
		return
	}
	if c.behind {
		c.takes(now)
	}
	c.behind = yes
	c.outSince = 0
	if yes || c.out.n > 0 {
		c.outSince = max(1, now)
		c.wantAfter(now, c.cfg.SlowReader)
	}
}

// Unsent reports whether output, or what is behind it, waits for the peer.
func (c *Conn) Unsent() bool { return c.out.n > 0 || c.behind }

// queue puts s at the end of the ring of streams blocked by the connection.
func (c *Conn) queue(s *Stream) {
	if s.inQ {
		return
	}
	s.inQ = true
	if c.ring == nil {
		c.ring = s
		s.qnext, s.qprev = s, s
		return
	}
	last := c.ring.qprev
	last.qnext, s.qprev = s, last
	s.qnext, c.ring.qprev = c.ring, s
}

func (c *Conn) unqueue(s *Stream) {
	if !s.inQ {
		return
	}
	s.inQ = false
	if s.qnext == s {
		c.ring = nil
	} else {
		s.qprev.qnext, s.qnext.qprev = s.qnext, s.qprev
		if c.ring == s {
			c.ring = s.qnext
		}
	}
	s.qnext, s.qprev = nil, nil
}

// unblock moves a stream whose own window opened to the ring.
func (c *Conn) unblock(s *Stream) {
	if s.state&stBlocked != 0 && s.sendWin > 0 {
		s.state &^= stBlocked
		c.queue(s)
		c.wakeDue = true
	}
}

// runRing gives the blocked streams their turns, first come first served,
// while there are window and room.
func (c *Conn) runRing() {
	if c.waking || c.flushing {
		return
	}
	c.waking = true
	for c.ring != nil && !c.dead && c.sendWin > 0 && (c.out.n < c.cfg.HiWater || c.flushed()) {
		s := c.ring
		if s == nil {
			break
		}
		c.unqueue(s)
		c.turn, c.turnLeft = s, turnBytes
		c.h.OnWritable(s)
		c.turn = nil
	}
	c.waking = false
}

// writeRST, writePing, writeWindowUpdate, writeGoAway and writeSettings append
// control frames, which are never refused but counted.

func (c *Conn) control(n int, t frameType, flags uint8, id uint32) []byte {
	b := c.room(frameHeaderLen + n)
	putFrameHeader(b, n, t, flags, id)
	c.out.commit(frameHeaderLen + n)
	c.ctl.total += int64(frameHeaderLen + n)
	return b[frameHeaderLen : frameHeaderLen+n]
}

func (c *Conn) writeRST(id uint32, code ErrCode) {
	binary.BigEndian.PutUint32(c.control(4, frameRSTStream, 0, id), uint32(code))
}

func (c *Conn) writePing(data *[8]byte, flags uint8) {
	copy(c.control(8, framePing, flags, 0), data[:])
}

func (c *Conn) writeWindowUpdate(id uint32, n int64) {
	binary.BigEndian.PutUint32(c.control(4, frameWindowUpdate, 0, id), uint32(n))
}

func (c *Conn) writeGoAway(last uint32, code ErrCode, debug string) {
	b := c.control(8+len(debug), frameGoAway, 0, 0)
	binary.BigEndian.PutUint32(b, last)
	binary.BigEndian.PutUint32(b[4:], uint32(code))
	copy(b[8:], debug)
}

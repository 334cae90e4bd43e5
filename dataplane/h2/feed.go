package h2

import (
	"encoding/binary"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// Feed takes bytes from the peer and calls the Handler for every whole frame.
// It returns how many bytes it consumed; the driver keeps the rest (less
// than a frame) and feeds it again with more. An error is a *ConnError: GOAWAY
// is in Output, every stream had its OnEnd, Dead is true. A dead Conn consumes
// everything.
func (c *Conn) Feed(now clock.Nanos, b []byte) (n int, err error) {
	if c.dead {
		return len(b), c.err
	}
	c.enter(now)
	c.lastRead = now
	if !c.prefaced {
		n = c.feedPreface(b)
	}
	if c.prefaced {
		n += c.feedFrames(b[n:])
	}
	c.leave()
	if c.dead {
		return len(b), c.err
	}
	if n > 0 && c.hdrID == 0 {
		c.hdrSince = 0
	}
	c.notePartial(b[n:])
	return n, nil
}

// feedPreface compares what has come with the preface, so that a wrong one is
// known at its first wrong byte.
func (c *Conn) feedPreface(b []byte) int {
	n := min(len(b), len(Preface))
	if string(b[:n]) != Preface[:n] {
		c.badPreface(b)
		return 0
	}
	if n < len(Preface) {
		return 0
	}
	c.prefaced = true
	c.greet()
	return n
}

// greet sends a server's preface, its SETTINGS, once.
func (c *Conn) greet() {
	if !c.greeted {
		c.greeted = true
		c.writeSettings()
	}
}

// badPreface ends a connection that does not speak HTTP/2. A client of HTTP/1
// gets an answer it can read.
func (c *Conn) badPreface(b []byte) {
	c.ctr.BadPreface++
	if looksLikeHTTP1(b) {
		const answer = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
		c.room(len(answer))
		c.out.append([]byte(answer))
	} else {
		c.writeGoAway(0, ErrCodeProtocol, "bad preface")
	}
	c.die(&ConnError{Code: ErrCodeProtocol, Reason: "bad preface"})
}

// looksLikeHTTP1 reports whether b begins like an HTTP/1 request line, as far as
// it has come: only the methods clients use, so that other garbage gets no text.
func looksLikeHTTP1(b []byte) bool {
	for _, m := range [...]string{"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "} {
		if n := min(len(b), len(m)); n > 0 && string(b[:n]) == m[:n] {
			return true
		}
	}
	return false
}

func (c *Conn) feedFrames(b []byte) (n int) {
	for len(b)-n >= frameHeaderLen {
		h := b[n : n+frameHeaderLen]
		size := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if size > MaxFrame {
			c.frameSizeError("frame")
			return n
		}
		end := n + frameHeaderLen + size
		if end > len(b) {
			return n
		}
		c.frame(frameType(h[3]), h[4], be32(h[5:])&maxStreamID, b[n+frameHeaderLen:end])
		n = end
		if c.wakeDue {
			c.wakeDue = false
			c.runRing()
		}
		if c.endFirst != nil {
			c.deliver()
		}
		if c.dead {
			return n
		}
	}
	return n
}

// frame dispatches one frame.
func (c *Conn) frame(t frameType, flags uint8, id uint32, p []byte) {
	c.frames++
	if c.hdrID != 0 && t != frameContinuation {
		c.protocolError("a frame inside a header block")
		return
	}
	if !c.gotSettings && (t != frameSettings || flags&flagAck != 0) {
		c.protocolError("the first frame is not SETTINGS")
		return
	}
	switch t {
	case frameData:
		c.recvData(id, flags, p)
	case frameHeaders:
		c.recvHeaders(id, flags, p)
	case framePriority:
		c.recvPriority(id, p)
	case frameRSTStream:
		c.recvRSTStream(id, p)
	case frameSettings:
		c.recvSettings(id, flags, p)
	case framePushPromise:
		c.protocolError("PUSH_PROMISE")
	case framePing:
		c.recvPing(id, flags, p)
	case frameGoAway:
		c.recvGoAway(id, p)
	case frameWindowUpdate:
		c.recvWindowUpdate(id, p)
	case frameContinuation:
		c.recvContinuation(id, flags, p)
	default: // RFC 9113 §4.1: ignored
		c.chargeUseless()
	}
}

func (c *Conn) frameSizeError(what string) {
	c.fail(ErrCodeFrameSize, &c.ctr.ProtocolErrors, what+" of a wrong size")
}

// isIdle reports whether an id that is not in the table was never used.
func (c *Conn) isIdle(id uint32) bool { return id > c.lastID || id&1 == 0 }

// unpad strips the padding of DATA and HEADERS (RFC 9113 §6.1). false: the
// connection failed.
func (c *Conn) unpad(flags uint8, p []byte) ([]byte, bool) {
	if flags&flagPadded == 0 {
		return p, true
	}
	if len(p) == 0 {
		c.frameSizeError("padded frame")
		return nil, false
	}
	pad := int(p[0])
	if pad >= len(p) {
		c.protocolError("padding longer than the frame")
		return nil, false
	}
	return p[1 : len(p)-pad], true
}

// recvData: RFC 9113 §6.1.
func (c *Conn) recvData(id uint32, flags uint8, p []byte) {
	size := int64(len(p))
	if id == 0 {
		c.protocolError("DATA on stream 0")
		return
	}
	if size > c.recvWin {
		c.fail(ErrCodeFlowControl, &c.ctr.FlowViolation, "DATA beyond the connection window")
		return
	}
	p, ok := c.unpad(flags, p)
	if !ok {
		return
	}
	s := c.tab.get(id)
	if s == nil {
		c.recvClosedData(id, size)
		return
	}
	c.recvWin -= size
	switch {
	case s.state&stRecvEnd != 0:
		c.refuseData(s, size, ErrCodeStreamClosed)
		return
	case c.role == Client && s.state&stHead == 0:
		c.refuseData(s, size, ErrCodeProtocol)
		return
	case size > s.recvWin+c.windowSlack():
		c.ctr.FlowViolation++
		c.refuseData(s, size, ErrCodeFlowControl)
		return
	}
	n := int64(len(p))
	end := flags&flagEndStream != 0
	if s.length >= 0 {
		s.length -= n
		if s.length < 0 || end && s.length != 0 {
			c.creditDropped(size)
			c.wrongLength(s, end)
			return
		}
	}
	s.recvWin -= size
	if pad := size - n; pad > 0 {
		s.unacked += pad
		c.creditDropped(pad)
	}
	if n == 0 && !end {
		c.updateStream(s)
		c.chargeEmpty()
		return
	}
	c.emptyRow = 0
	if end {
		s.state |= stRecvEnd
	}
	if n > 0 {
		c.hold(s, n)
	}
	c.h.OnData(s, p, end)
	if end {
		c.finish(s)
	} else {
		c.updateStream(s) // recvWin fell, perhaps below unacked
	}
}

// windowSlack is how far a stream may go below its window: until the ACK of
// our SETTINGS, a peer that has applied them and whose ACK waits in another of
// its queues may already use the larger window.
func (c *Conn) windowSlack() int64 {
	if c.settingsAt == 0 {
		return 0
	}
	return max(0, c.cfg.StreamWindow-initialWindow)
}

// refuseData ends a stream on which this DATA must not come.
func (c *Conn) refuseData(s *Stream, size int64, code ErrCode) {
	c.creditDropped(size)
	c.streamError(s, code, ErrStreamProtocol)
}

// recvClosedData is DATA for a stream that is not in the table.
func (c *Conn) recvClosedData(id uint32, size int64) {
	if c.isIdle(id) {
		c.protocolError("DATA on an idle stream")
		return
	}
	h, late := c.past.find(id, c.now)
	// What was under way when we reset the stream is no more than what an open
	// one may get, and lateData bounds it.
	expected := size > 0 && size <= c.lateData && (h == closedByUs || h == closedUnknown)
	if !expected && !c.chargeUseless() {
		return
	}
	switch {
	case h == closedEnded:
		c.fail(ErrCodeStreamClosed, &c.ctr.ProtocolErrors, "DATA on a closed stream")
		return
	case c.role == Server && h == closedUnknown && c.past.complete() && id <= c.goAwayLast:
		c.protocolError("DATA on a stream that was skipped")
		return
	}
	c.recvWin -= size
	c.lateData -= size
	if c.lateData < -c.lim.ClosedData {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.ClosedData, "too much DATA for closed streams")
		return
	}
	c.creditDropped(size)
	if h == closedByPeer || h == closedByUs && !late {
		c.streamErrorID(id, ErrCodeStreamClosed)
	}
}

// expectData notes how much DATA may be under way for a stream that is none,
// never more than the connection's window.
func (c *Conn) expectData(window int64) {
	c.lateData = min(c.lateData+max(0, window), c.tune.window)
}

// expectLate is expectData for a stream that we reset; frames without DATA may be
// under way, too.
func (c *Conn) expectLate(window int64) {
	c.expectData(window)
	c.useless.add(c.lim.LateFrames, c.lim.UselessBurst)
}

// chargeEmpty counts a DATA frame that says nothing.
func (c *Conn) chargeEmpty() {
	c.empties++
	c.emptyRow++
	if c.emptyRow > c.lim.EmptyInRow || c.empties > int64(c.lim.EmptyInRow)+c.frames/10 {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.EmptyFrames, "too many empty DATA frames")
	}
}

// chargeUseless takes a token for a frame that does nothing for a call; false:
// the connection failed.
func (c *Conn) chargeUseless() bool {
	if c.useless.take(c.now, c.lim.UselessBurst, c.lim.UselessRate) {
		return true
	}
	c.fail(ErrCodeEnhanceYourCalm, &c.ctr.UselessFrames, "too many useless frames")
	return false
}

// recvPriority: RFC 9113 §6.3, deprecated; only its form is checked.
func (c *Conn) recvPriority(id uint32, p []byte) {
	if id == 0 {
		c.protocolError("PRIORITY on stream 0")
		return
	}
	if !c.chargeUseless() {
		return
	}
	s := c.tab.get(id)
	if len(p) != 5 {
		switch {
		case s != nil:
			c.streamError(s, ErrCodeFrameSize, ErrStreamProtocol)
		case c.isIdle(id): // which cannot be reset
			c.frameSizeError("PRIORITY")
		default:
			c.streamErrorID(id, ErrCodeFrameSize)
		}
		return
	}
	if be32(p)&maxStreamID == id { // RFC 7540 §5.3.1
		if s != nil {
			c.streamError(s, ErrCodeProtocol, ErrStreamProtocol)
		} else {
			c.streamErrorID(id, ErrCodeProtocol)
		}
	}
}

// recvRSTStream: RFC 9113 §6.4.
func (c *Conn) recvRSTStream(id uint32, p []byte) {
	if id == 0 {
		c.protocolError("RST_STREAM on stream 0")
		return
	}
	if len(p) != 4 {
		c.frameSizeError("RST_STREAM")
		return
	}
	s := c.tab.get(id)
	if s == nil {
		if c.isIdle(id) {
			c.protocolError("RST_STREAM on an idle stream")
			return
		}
		c.chargeUseless()
		return
	}
	code := ErrCode(be32(p))
	waited := s.GivesUp != 0 && c.now >= s.GivesUp || c.now >= s.born.Add(c.lim.ResetAge)
	if !waited && !c.chargeReset(s) {
		return
	}
	c.closeStream(s, StreamError{Kind: EndReset, Side: SidePeer, Code: code, MaybeSeen: code != ErrCodeRefusedStream}, closedByPeer)
}

// recvPing: RFC 9113 §6.7.
func (c *Conn) recvPing(id uint32, flags uint8, p []byte) {
	if id != 0 {
		c.protocolError("PING on a stream")
		return
	}
	if len(p) != 8 {
		c.frameSizeError("PING")
		return
	}
	if flags&flagAck != 0 {
		switch {
		case c.goAwayOut == goAwaySoon && string(p) == string(pingDrain[:]):
			c.goAwayFinal(ErrCodeNo)
		case c.pingOut && string(p) == string(pingAlive[:]):
			c.pingOut = false
			c.probeAnswered(true)
			c.scheduleKeepalive()
		default:
			c.chargeUseless()
		}
		return
	}
	if !c.pings.take(c.now, c.lim.PingBurst, c.lim.PingRate) {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.ControlFlood, "too many PINGs")
		return
	}
	c.writePing((*[8]byte)(p), flagAck)
	c.checkControl()
}

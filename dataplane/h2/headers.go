package h2

import (
	"errors"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// recvHeaders: RFC 9113 §6.2.
func (c *Conn) recvHeaders(id uint32, flags uint8, p []byte) {
	if id == 0 || id&1 == 0 {
		c.protocolError("HEADERS on a stream id that is not the client's")
		return
	}
	p, ok := c.unpad(flags, p)
	if !ok {
		return
	}
	selfDep := false
	if flags&flagPriority != 0 {
		if len(p) < 5 {
			if flags&flagPadded != 0 {
				c.protocolError("padding longer than the frame")
			} else {
				c.frameSizeError("HEADERS with priority")
			}
			return
		}
		selfDep = be32(p)&maxStreamID == id
		p = p[5:]
	}
	if flags&flagEndHeaders != 0 {
		c.headerBlock(id, flags&flagEndStream != 0, selfDep, p)
		return
	}
	c.hdrID, c.hdrFlags, c.hdrSelfDep = id, flags, selfDep
	c.hdrFrames, c.hdrEmpty = 0, 0
	if c.hdrSince == 0 {
		c.hdrSince = max(1, c.now)
		c.wantAfter(c.now, c.cfg.HeaderTimeout)
	}
	c.addFragment(p)
}

// addFragment keeps a piece of an unfinished block. CONTINUATION is rare: the
// memory is plain, and gone with the block.
func (c *Conn) addFragment(p []byte) bool {
	if len(c.frag)+len(p) > c.lim.EncodedFactor*c.cfg.MaxHeaderBytes {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.HeaderOverflow, "header block too long")
		return false
	}
	c.frag = append(c.frag, p...)
	return true
}

// recvContinuation: RFC 9113 §6.10.
func (c *Conn) recvContinuation(id uint32, flags uint8, p []byte) {
	if c.hdrID == 0 || id != c.hdrID {
		c.protocolError("CONTINUATION without its HEADERS")
		return
	}
	end := flags&flagEndHeaders != 0
	c.hdrFrames++
	if len(p) == 0 && !end {
		c.hdrEmpty++
	}
	if c.hdrFrames > c.lim.Continuations || c.hdrEmpty > c.lim.EmptyContinuations {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.ContinuationFlood, "too many CONTINUATION frames")
		return
	}
	if !c.addFragment(p) || !end {
		return
	}
	block := c.frag
	c.hdrID, c.frag, c.hdrSince = 0, nil, 0
	c.headerBlock(id, c.hdrFlags&flagEndStream != 0, c.hdrSelfDep, block)
}

// headerBlock handles a whole header block. Whatever becomes of it, it is
// decoded, so that the compression state stays in step.
func (c *Conn) headerBlock(id uint32, end, selfDep bool, p []byte) {
	s := c.tab.get(id)
	if s == nil {
		switch {
		case id <= c.lastID:
			c.closedHeaders(id, p)
		case c.role == Client:
			c.protocolError("HEADERS on an idle stream")
		default:
			c.openedByPeer(id, end, selfDep, p)
		}
		return
	}
	c.emptyRow = 0
	if s.state&stRecvEnd != 0 {
		if c.decodeAside(p) {
			c.streamError(s, ErrCodeStreamClosed, ErrStreamProtocol)
		}
		return
	}
	if selfDep {
		if c.decodeAside(p) {
			c.streamError(s, ErrCodeProtocol, ErrStreamProtocol)
		}
		return
	}
	if c.role == Server || s.state&stHead != 0 {
		c.recvTrailers(s, end, p)
		return
	}
	c.recvResponse(s, end, p)
}

// openedByPeer opens a stream for a client's request.
func (c *Conn) openedByPeer(id uint32, end, selfDep bool, p []byte) {
	c.lastID = id
	if id > c.goAwayLast { // the client had not read our GOAWAY yet
		c.expectData(c.recvInit)
		c.decodeAside(p)
		return
	}
	limit := int(c.cfg.MaxConcurrentStreams)
	if c.settingsAt != 0 {
		limit += int(c.lim.StreamGrace)
	}
	// A stream that was reset is no more to its client, which may have another at
	// once: what lingers has as many places of its own.
	if c.tab.n >= limit || c.tab.n+c.lingers >= 2*limit {
		c.refuse(id, p)
		return
	}
	if selfDep {
		if c.decodeAside(p) {
			c.past.add(id, closedByUs, c.now)
			c.streamErrorID(id, ErrCodeProtocol)
		}
		return
	}
	s := c.h.NewStream(id)
	if s == nil {
		c.refuse(id, p)
		return
	}
	s.start(c, id)
	c.tab.put(s)
	c.opened()
	c.emptyRow = 0
	b := c.headBlock(s)
	var m message
	if !c.decode(s, p, b, end) || !c.check(s, m.request(c.cfg, b.Fields)) || !c.setLength(s, m.length, end) {
		return
	}
	if end {
		s.state |= stRecvEnd
	}
	c.h.OnHeaders(s, Request, b, end)
}

// headBlock returns the empty block for a stream's first headers.
func (c *Conn) headBlock(s *Stream) *hpack.Block {
	if s.Head == nil {
		return c.pool.scratch()
	}
	s.Head.Reset()
	return s.Head
}

// refuse answers a stream over the limit.
func (c *Conn) refuse(id uint32, p []byte) {
	if !c.decodeAside(p) {
		return
	}
	if !c.refused.take(c.now, c.lim.RefusedBurst, c.lim.RefusedRate) {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.StreamsRefused, "too many streams over the limit")
		return
	}
	c.ctr.StreamsRefused++
	c.past.add(id, closedByUs, c.now)
	c.expectLate(c.recvInit)
	c.writeRST(id, ErrCodeRefusedStream)
}

// closedHeaders is a header block for a stream that is no more.
func (c *Conn) closedHeaders(id uint32, p []byte) {
	if !c.decodeAside(p) || !c.chargeUseless() {
		return
	}
	switch h, late := c.past.find(id, c.now); {
	case h == closedEnded:
		c.fail(ErrCodeStreamClosed, &c.ctr.ProtocolErrors, "HEADERS on a closed stream")
	case h == closedByPeer || h == closedByUs && !late:
		c.streamErrorID(id, ErrCodeStreamClosed)
	case c.role == Server && h == closedUnknown && c.past.complete() && id <= c.goAwayLast:
		c.protocolError("stream id lower than an earlier one")
	}
}

// recvTrailers is the last block of a stream.
func (c *Conn) recvTrailers(s *Stream, end bool, p []byte) {
	b := c.pool.scratch()
	if !c.decode(s, p, b, end) || !c.check(s, end && validTrailers(b.Fields)) || !c.setLength(s, -1, true) {
		return
	}
	s.state |= stRecvEnd
	c.h.OnHeaders(s, Trailers, b, true)
	c.finish(s)
}

// recvResponse is a server's final or informational response.
func (c *Conn) recvResponse(s *Stream, end bool, p []byte) {
	b := c.headBlock(s)
	var m message
	if !c.decode(s, p, b, end) || !c.check(s, m.response(b.Fields)) {
		return
	}
	if m.status < 200 {
		// RFC 9113 §8.1: an informational response does not end a stream;
		// §8.6: 101 does not exist. Each one costs the client a frame.
		if !c.check(s, !end && m.status != 101) || !c.chargeUseless() {
			return
		}
		if m.status != 100 || s.state&stSendEnd == 0 {
			c.h.OnHeaders(s, Informational, b, false)
		}
		return
	}
	if m.status == 204 || m.status == 304 || s.state&stHEAD != 0 {
		m.length = 0 // no content follows, whatever length is told (RFC 9110 §6.4.1, §8.6)
	}
	if !c.setLength(s, m.length, end) {
		return
	}
	s.state |= stHead
	if end {
		s.state |= stRecvEnd
	}
	c.h.OnHeaders(s, Response, b, end)
	if end {
		c.finish(s)
	}
}

// setLength compares content-length with the end of the message. n < 0: the
// block has none.
func (c *Conn) setLength(s *Stream, n int64, end bool) bool {
	if n >= 0 {
		s.length = n
	}
	if end && s.length > 0 {
		c.wrongLength(s, end)
		return false
	}
	return true
}

// wrongLength is for a message that its content-length does not fit. It is
// malformed, and never passes for a whole one. But a client that ends a request
// short while it is answered has stopped because of the answer (connect-go lets
// go of a unary call's message when the response's head comes): it gets the
// rest of the response first, as RFC 9113 §8.1.1 allows, within ShortGrace.
func (c *Conn) wrongLength(s *Stream, end bool) {
	if !end || s.length < 0 || s.state&stAnswered == 0 {
		c.check(s, false)
		return
	}
	c.ctr.Malformed++
	s.state |= stRecvEnd
	s.shortAt = max(1, c.now)
	c.short++
	c.wantAfter(c.now, c.lim.ShortGrace)
	c.finish(s)
}

// endShort resets a stream whose ShortGrace is over; it reports whether there
// was one.
func (c *Conn) endShort(t *ticker) bool {
	for s, n := c.tab.first, c.short; n > 0; s = s.next {
		if s.shortAt == 0 {
			continue
		}
		if t.due(s.shortAt, c.lim.ShortGrace) {
			c.streamError(s, ErrCodeProtocol, ErrMalformed)
			return true
		}
		n--
	}
	return false
}

// check resets a stream with a malformed message (RFC 9113 §8.1.1). Neighbours
// live.
func (c *Conn) check(s *Stream, ok bool) bool {
	if !ok {
		c.ctr.Malformed++
		c.streamError(s, ErrCodeProtocol, ErrMalformed)
	}
	return ok
}

// decode decodes a block of s. false: the stream or the connection ended.
func (c *Conn) decode(s *Stream, p []byte, b *hpack.Block, end bool) bool {
	if len(p) > c.lim.EncodedFactor*c.cfg.MaxHeaderBytes {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.HeaderOverflow, "header block too long")
		return false
	}
	err := c.dec.Decode(p, b, hpack.Limits{Bytes: c.cfg.MaxHeaderBytes, Fields: c.cfg.MaxHeaderFields})
	if err == nil {
		return true
	}
	if !errors.Is(err, hpack.ErrTooLarge) {
		c.fail(ErrCodeCompression, &c.ctr.ProtocolErrors, err.Error())
		return false
	}
	c.ctr.HeaderOverflow++
	if end {
		s.state |= stRecvEnd
	}
	if c.role == Server && s.sentAt < 0 {
		c.answerTooLarge(s, b)
		return false
	}
	c.streamError(s, ErrCodeEnhanceYourCalm, ErrHeaderListSize)
	return false
}

// answerTooLarge answers a request with too many headers: RESOURCE_EXHAUSTED
// for gRPC, 431 otherwise (RFC 6585 §5). The handler sees OnEnd only.
func (c *Conn) answerTooLarge(s *Stream, b *hpack.Block) {
	if !c.chargeReset(s) {
		return
	}
	fields := []hpack.Field{hpack.NewField(":status", "431")}
	if ct, _ := b.Get(hdr.ContentType); strings.HasPrefix(ct, "application/grpc") {
		fields = []hpack.Field{
			hpack.NewField(":status", "200"),
			hpack.NewField("content-type", "application/grpc"),
			hpack.NewField("grpc-status", "8"),
			hpack.NewField("grpc-message", "header list too large"),
		}
	}
	c.writeBlock(s.ID, fields, true)
	e := StreamError{Kind: EndReset, Side: SideLocal, Code: ErrCodeNo, Err: ErrHeaderListSize}
	if s.state&stRecvEnd != 0 {
		c.closeStream(s, e, closedEnded)
		return
	}
	c.reset(s, e)
}

// decodeAside decodes a block nobody wants. false: the connection failed.
func (c *Conn) decodeAside(p []byte) bool {
	if len(p) > c.lim.EncodedFactor*c.cfg.MaxHeaderBytes {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.HeaderOverflow, "header block too long")
		return false
	}
	err := c.dec.Decode(p, c.pool.scratch(), hpack.Limits{Bytes: c.cfg.MaxHeaderBytes, Fields: c.cfg.MaxHeaderFields})
	if err != nil && !errors.Is(err, hpack.ErrTooLarge) {
		c.fail(ErrCodeCompression, &c.ctr.ProtocolErrors, err.Error())
		return false
	}
	return true
}

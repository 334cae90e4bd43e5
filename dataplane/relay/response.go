package relay

import (
	"strconv"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// informational relays a 1xx. A 100 that comes after the whole request was
// sent tells nothing and is dropped, and so is what comes for a client that
// does not read: no window bounds it.
func (x *Exchange) informational(b *hpack.Block) {
	x.active = x.core.Now
	if x.sent != sentNothing || x.d.H.StopReading() {
		return
	}
	if v, _ := b.Get(hdr.Status); v == "100" && (x.req.done || x.m.AnswerContinue) {
		return
	}
	x.d.H.WriteHeaders(&x.down, b.Fields, false)
}

// responseHeaders brings the final response's headers.
func (x *Exchange) responseHeaders(a *Attempt, b *hpack.Block, end bool) {
	x.active = x.core.Now
	v, _ := b.Get(hdr.Status)
	a.rec.HTTP, _ = strconv.Atoi(v)
	a.rec.Headers = x.core.Now
	a.rec.MaybeSeen = true
	a.over = end
	if end {
		x.noteStatus(a, b)
	}
	if x.retryResponse(a, b) {
		return
	}
	if x.call.GRPC && a.rec.HTTP != 200 && !speaksGRPC(b, end) {
		x.reply(replyForHTTP(a.rec.HTTP))
		return
	}
	if !end && x.hold(a, b) {
		return
	}
	x.commit(a, b, end)
}

// speaksGRPC reports whether a response with an HTTP error has a grpc-status,
// or may have one in its trailers.
func speaksGRPC(b *hpack.Block, end bool) bool {
	if b.Index(hdr.GRPCStatus) >= 0 {
		return true
	}
	ct, _ := b.Get(hdr.ContentType)
	return !end && isGRPC(ct)
}

// noteStatus reads the status of a block that ends a response.
func (x *Exchange) noteStatus(a *Attempt, b *hpack.Block) {
	v, ok := b.Get(hdr.GRPCStatus)
	switch {
	case ok:
		a.rec.Code, a.rec.HasCode = parseStatus(v), true
	case x.call.GRPC && a.rec.HTTP != 200:
		a.rec.Code, a.rec.HasCode = call.CodeFromHTTP(a.rec.HTTP), false
	default:
		a.rec.Code, a.rec.HasCode = call.Unknown, false
	}
}

// commit sends the response's headers: from here on the response is a's.
func (x *Exchange) commit(a *Attempt, b *hpack.Block, end bool) {
	x.state = stateCommitted
	x.holdUntil, a.tryBy = 0, 0
	x.req.release(x.core)
	x.rec.HTTP, x.rec.Headers = a.rec.HTTP, a.rec.Headers
	x.rec.Connected, x.rec.MaybeSeen = true, true
	x.rec.Detail = "via_upstream"
	if x.tries-x.freeTries > 1 && x.rec.Flags&call.UpstreamRetryExceeded == 0 {
		a.count(call.UpstreamRqRetrySuccess)
	}
	x.responsePolicy(a, b)
	if end {
		x.responseReceived(a)
	}
	if x.flt != nil && !x.filterResponseHeaders(b, end) {
		return
	}
	x.sendHeaders(b, end)
}

// sendHeaders gives the client the headers of an upstream's response.
func (x *Exchange) sendHeaders(b *hpack.Block, end bool) {
	x.connectionPolicy(b)
	if end && x.flt != nil {
		x.readStatus(b)
	}
	x.sent = sentHeaders
	x.d.H.WriteHeaders(&x.down, b.Fields, end)
	if end {
		x.responseSent()
	}
}

// responseData brings a piece of the response's payload.
func (x *Exchange) responseData(a *Attempt, p []byte, end bool) {
	x.active = x.core.Now
	a.over = end
	if a.hold != nil && !x.releaseHold(a) {
		return
	}
	x.rec.BytesOut += uint64(len(p))
	if end {
		if !a.rec.HasCode && a.rec.HTTP != 200 {
			a.rec.Code = call.CodeFromHTTP(a.rec.HTTP)
		} else {
			a.rec.Code = call.Unknown
		}
		x.responseReceived(a)
	}
	if f := x.flt; f != nil && (f.messages() || f.head != nil) {
		f.rsp.add(x.core, p)
		x.filterResponse()
		return
	}
	q := &x.rsp
	if !q.empty() {
		q.add(x.core, p)
		return
	}
	n := x.d.H.WriteData(&x.down, p, end)
	q.take(x.core, p, n)
	if Planted == PlantEarlyCredit && n < len(p) {
		q.credited = q.end
		a.conn.Credit(&a.stream, len(p)-n)
	}
	if n > 0 {
		q.credited = q.pos
		a.conn.Credit(&a.stream, n)
		x.took(n)
	}
	if end && n == len(p) {
		x.responseSent()
	}
}

// responseTrailers brings the end of a response with trailers.
func (x *Exchange) responseTrailers(a *Attempt, b *hpack.Block) {
	x.active = x.core.Now
	a.over = true
	x.noteStatus(a, b)
	if a.hold != nil {
		if x.retryResponse(a, b) {
			return
		}
		if !x.releaseHold(a) {
			return
		}
	}
	x.responseReceived(a)
	if busy := x.responseBusy() && Planted != PlantFilterOvertake; (!x.rsp.empty() || busy) && Planted != PlantOvertake {
		x.rsp.follow(x.core, b)
		if busy {
			x.filterResponse()
		}
		return
	}
	x.filterTrailers(b)
	x.d.H.WriteHeaders(&x.down, b.Fields, true)
	x.responseSent()
}

// responseReceived notes that the upstream's response is complete. What the
// client takes of it, and when, is no longer the attempt's affair.
func (x *Exchange) responseReceived(a *Attempt) {
	x.rsp.done = true
	x.rec.Code, x.rec.HasCode = a.rec.Code, a.rec.HasCode
	x.rec.Side = call.SideNone
	x.d.H.Served()
	a.finish()
}

// pumpResponse gives the client what waits for it. Trailers, or END_STREAM, go
// when nothing is left.
func (x *Exchange) pumpResponse() {
	if x.state != stateCommitted && x.state != stateReplying {
		return
	}
	q := &x.rsp
	for {
		p := q.next()
		if p == nil {
			break
		}
		last := q.done && q.trailers == nil && q.pos+int64(len(p)) == q.end && !x.responseBusy()
		n := x.d.H.WriteData(&x.down, p, last)
		if n > 0 {
			x.active = x.core.Now
			q.advance(x.core, n)
			x.took(n)
			x.creditResponse()
		}
		if n < len(p) {
			return
		}
		if last {
			x.responseSent()
			return
		}
	}
	if !q.done || Planted == PlantLostEnd || x.responseBusy() {
		return
	}
	if q.trailers != nil {
		x.filterTrailers(q.trailers)
		x.d.H.WriteHeaders(&x.down, q.trailers.Fields, true)
	} else {
		x.d.H.WriteData(&x.down, nil, true)
	}
	x.responseSent()
}

// creditResponse lets the upstream send again what the client took.
func (x *Exchange) creditResponse() {
	n := 0
	if f := x.flt; f != nil && f.messages() {
		n = f.rsp.owedFor(&x.rsp)
	} else {
		n = x.rsp.owed()
	}
	if a := x.att; a != nil && n > 0 {
		a.conn.Credit(&a.stream, n)
		if !a.live && a.stream.Held() == 0 {
			x.att = nil
			x.core.freeAttempt(a)
		}
	}
}

// responseSent ends the exchange: END_STREAM was written to the client. If the
// request is not complete both sides learn that its rest is not wanted
// (RFC 9113 §8.1).
func (x *Exchange) responseSent() {
	x.sent = sentEnd
	x.dropAttemptQuietly()
	if !x.req.done {
		x.d.H.Reset(&x.down, h2.ErrCodeNo)
	}
	x.finish()
}

// dropAttemptQuietly lets go of an attempt whose response is complete. Its
// stream is reset if the request has not ended.
func (x *Exchange) dropAttemptQuietly() {
	a := x.att
	if a == nil {
		return
	}
	x.att = nil
	a.finish()
	if !a.live {
		x.core.freeAttempt(a)
		return
	}
	a.x = nil
	if !a.ended {
		a.conn.Reset(&a.stream, h2.ErrCodeCancel)
	}
}

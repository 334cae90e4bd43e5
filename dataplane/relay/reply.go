package relay

import (
	"slices"
	"strconv"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// What the core itself answers. The messages are Envoy's.
var (
	replyPanic          = &call.Reply{HTTP: 500, GRPC: call.Internal, Detail: "internal_error", Message: "internal error"}
	replyConnectFailure = &call.Reply{HTTP: 503, GRPC: call.Unavailable, Flag: call.UpstreamConnFailure, Detail: "upstream_reset_before_response_started{remote connection failure}", Message: "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"}
	replyConnectTimeout = &call.Reply{HTTP: 503, GRPC: call.Unavailable, Flag: call.UpstreamConnFailure, Detail: "upstream_reset_before_response_started{connection timeout}", Message: "upstream connect error or disconnect/reset before headers. reset reason: connection timeout"}
	replyConnectionLost = &call.Reply{HTTP: 503, GRPC: call.Unavailable, Flag: call.UpstreamConnTerm, Detail: "upstream_reset_before_response_started{connection termination}", Message: "upstream connect error or disconnect/reset before headers. reset reason: connection termination"}
	replyGoAway         = &call.Reply{HTTP: 503, GRPC: call.Unavailable, Flag: call.UpstreamConnTerm, Detail: "upstream_reset_before_response_started{connection termination}", Message: "upstream connect error or disconnect/reset before headers. reset reason: connection termination (GOAWAY)"}
	// After the response's headers.
	replyConnectionCut = &call.Reply{HTTP: 503, GRPC: call.Unavailable, Flag: call.UpstreamConnTerm, Detail: "upstream_reset_after_response_started{connection termination}", Message: "upstream disconnect/reset after headers. reset reason: connection termination"}
	replyProtocolCut   = &call.Reply{HTTP: 502, GRPC: call.Internal, Flag: call.UpstreamProtocolErr, Detail: "upstream_reset_after_response_started{protocol error}", Message: "upstream disconnect/reset after headers. reset reason: protocol error"}
	replyResetCut      = &call.Reply{HTTP: 503, GRPC: call.Internal, Flag: call.UpstreamRemoteReset, Detail: "upstream_reset_after_response_started{remote reset}", Message: "upstream disconnect/reset after headers. reset reason: remote reset (NO_ERROR)"}

	replyUpstreamProtocol = &call.Reply{HTTP: 502, GRPC: call.Internal, Flag: call.UpstreamProtocolErr, Detail: "upstream_reset_before_response_started{protocol error}", Message: "upstream connect error or disconnect/reset before headers. reset reason: protocol error"}
	replyHeaderLimit      = &call.Reply{HTTP: 431, GRPC: call.ResourceExhausted, Flag: call.UpstreamProtocolErr, Detail: "upstream_header_limit", Message: "request headers are larger than the upstream takes"}
	replyTimeout          = &call.Reply{HTTP: 504, GRPC: call.DeadlineExceeded, Flag: call.UpstreamRequestTimeout, Detail: "response_timeout", Message: "upstream request timeout"}
	replyPerTryTimeout    = &call.Reply{HTTP: 504, GRPC: call.DeadlineExceeded, Flag: call.UpstreamRequestTimeout, Detail: "upstream_per_try_timeout", Message: "upstream request timeout"}
	replyDuration         = &call.Reply{HTTP: 504, GRPC: call.DeadlineExceeded, Flag: call.DurationTimeout, Detail: "max_duration_timeout", Message: "downstream duration timeout"}
	replyIdle             = &call.Reply{HTTP: 408, GRPC: call.DeadlineExceeded, Flag: call.StreamIdleTimeout, Detail: "stream_idle_timeout", Message: "stream timeout"}
	replyRequestTimeout   = &call.Reply{HTTP: 408, GRPC: call.DeadlineExceeded, Flag: call.DownstreamConnTerm, Detail: "request_overall_timeout", Message: "request timeout"}
	replyDrain            = &call.Reply{HTTP: 503, GRPC: call.Unavailable, Flag: call.LocalReset, Detail: "drain_deadline", Message: "drain deadline"}
	replyHeldBytes        = &call.Reply{HTTP: 503, GRPC: call.ResourceExhausted, Flag: call.OverloadManager, Detail: "held_bytes", Message: "the receiver is too slow for the memory that is left"}
)

// resetReplies are the answers to an upstream's RST_STREAM before its
// response, by error code (gRPC over HTTP/2, "HTTP2 Transport Mapping: Errors").
var resetReplies = func() (r [h2.ErrCodeHTTP11Required + 1]*call.Reply) {
	for i := range r {
		code := call.Internal
		switch h2.ErrCode(i) {
		case h2.ErrCodeRefusedStream:
			code = call.Unavailable
		case h2.ErrCodeCancel:
			code = call.Canceled
		case h2.ErrCodeEnhanceYourCalm:
			code = call.ResourceExhausted
		case h2.ErrCodeInadequateSecurity:
			code = call.PermissionDenied
		}
		r[i] = &call.Reply{HTTP: 503, GRPC: code, Flag: call.UpstreamRemoteReset,
			Detail:  "upstream_reset_before_response_started{remote reset}",
			Message: "upstream connect error or disconnect/reset before headers. reset reason: remote reset (" + h2.ErrCode(i).String() + ")"}
	}
	return r
}()

// replyCut is the answer when an attempt ends in the middle of its response.
// A reset with an error code is passed on instead.
func replyCut(s h2.Side) *call.Reply {
	switch s {
	case h2.SideLocal:
		return replyProtocolCut
	case h2.SidePeer:
		return replyResetCut
	}
	return replyConnectionCut
}

// replyForHTTP answers a gRPC request whose upstream answered with an HTTP error
// and no grpc-status.
func replyForHTTP(status int) *call.Reply {
	return &call.Reply{HTTP: status, GRPC: call.CodeFromHTTP(status), Detail: "upstream_http_status",
		Message: "upstream answered with HTTP status " + strconv.Itoa(status)}
}

func replyForReset(code h2.ErrCode) *call.Reply {
	if int(code) >= len(resetReplies) {
		code = h2.ErrCodeInternal
	}
	return resetReplies[code]
}

// Fields that local replies are made of.
var (
	fieldStatus200   = hpack.NewField(":status", "200")
	fieldContentGRPC = hpack.NewField("content-type", "application/grpc")
	fieldContentText = hpack.NewField("content-type", "text/plain")

	fieldOverloaded   = hpack.NewField("x-envoy-overloaded", "true")
	fieldDropOverload = hpack.NewField("x-envoy-drop-overload", "true")
	fieldDropAll      = hpack.NewField("x-envoy-unconditional-drop-overload", "true")

	fieldsGRPCStatus = func() (f [call.Unauthenticated + 1]hpack.Field) {
		for i := range f {
			f[i] = hpack.NewField("grpc-status", strconv.Itoa(i))
		}
		return f
	}()
)

// reply answers the client in place of an upstream, in whatever state the call
// is (docs/core.md, "Local replies"), and ends the attempt in progress.
func (x *Exchange) reply(rp *call.Reply) {
	if x.state >= stateFinished {
		return
	}
	x.rec.Flags |= rp.Flag
	x.rec.Detail = rp.Detail
	x.rec.Side = call.SideLocal
	x.rec.Code, x.rec.HasCode = rp.GRPC, true
	if a := x.att; a != nil {
		a.rec.Code = rp.GRPC
	}
	x.dropAttempt(rp.Flag)
	x.holdUntil, x.backoff = 0, 0
	if x.flt != nil {
		x.flt.free(x.core)
	}
	switch x.sent {
	case sentNothing:
		x.rsp.free(x.core)
		if !x.call.GRPC {
			x.replyHTTP(rp)
			return
		}
		x.rec.HTTP = 200
		x.d.H.WriteHeaders(&x.down, x.replyHeaders(rp), true)
		x.responseSent()
	case sentHeaders:
		// A message may have been cut: the status must not be OK.
		if !x.call.GRPC {
			x.core.Counters.Inc(x.m.Scope, call.DownstreamRqTxReset)
			x.d.H.Reset(&x.down, h2.ErrCodeInternal)
			x.finish()
			return
		}
		x.rsp.free(x.core)
		b := x.core.replyBlock()
		addStatus(b, rp)
		x.d.H.WriteHeaders(&x.down, b.Fields, true)
		x.responseSent()
	case sentEnd:
		x.responseSent()
	}
}

// replyHeaders are the fields of a trailers-only gRPC response. The route's
// mutations do not change what makes it one; as in Envoy they are made of the
// response as it would be for another request.
func (x *Exchange) replyHeaders(rp *call.Reply) []hpack.Field {
	b := x.core.replyBlock()
	b.Append(hpack.NewField(":status", strconv.Itoa(rp.HTTP)))
	x.ownHeaders(b, rp)
	x.routeResponse(b)
	b.Fields[0] = fieldStatus200
	if i := x.head.Index(hdr.ContentType); i >= 0 {
		set(b, x.head.Fields[i])
	} else {
		set(b, fieldContentGRPC)
	}
	// As in Envoy a grpc-status that the route sets stays; a message does not.
	b.Fields = slices.DeleteFunc(b.Fields, func(f hpack.Field) bool { return f.ID == hdr.ContentLength || f.ID == hdr.GRPCMessage })
	addStatus(b, rp)
	if x.flt != nil {
		x.filterReply(b, true)
	}
	x.readStatus(b)
	x.connectionPolicy(b)
	return b.Fields
}

// replyHTTP answers a request that is not gRPC. The body flows as a response's.
func (x *Exchange) replyHTTP(rp *call.Reply) {
	body := rp.Body
	if body == nil {
		body = []byte(rp.Message)
	}
	status := rp.HTTP
	if status == 0 {
		status = 503
	}
	x.rec.HTTP = status
	x.rec.Code, x.rec.HasCode = call.CodeFromHTTP(status), false
	b := x.replyHTTPHeaders(rp, status, body)
	if x.flt != nil {
		x.filterReply(b, len(body) == 0)
	}
	x.connectionPolicy(b)
	if x.call.Method == "HEAD" {
		body = nil
	}
	x.sent = sentHeaders
	x.d.H.WriteHeaders(&x.down, b.Fields, len(body) == 0)
	if len(body) == 0 {
		x.responseSent()
		return
	}
	x.state = stateReplying
	x.rsp.add(x.core, body)
	x.rsp.done = true
	x.pumpResponse()
	if x.state == stateReplying {
		x.limitReply()
	}
}

// replyHTTPHeaders are the fields of an answer that is not gRPC's.
func (x *Exchange) replyHTTPHeaders(rp *call.Reply, status int, body []byte) *hpack.Block {
	b := x.core.replyBlock()
	b.Append(hpack.NewField(":status", strconv.Itoa(status)))
	x.ownHeaders(b, rp)
	// As in Envoy the route's mutations see no body: its type may be theirs, its
	// length is not.
	x.routeResponse(b)
	b.Fields = slices.DeleteFunc(b.Fields, func(f hpack.Field) bool {
		return f.ID == hdr.ContentLength || f.ID == hdr.ContentType && len(body) == 0
	})
	if len(body) > 0 {
		if b.Index(hdr.ContentType) < 0 {
			b.Append(fieldContentText)
		}
		b.AppendCopy("content-length", strconv.Itoa(len(body)))
	}
	return b
}

// ownHeaders adds the reply's headers, and Envoy's of clusters that refuse calls.
func (x *Exchange) ownHeaders(b *hpack.Block, rp *call.Reply) {
	b.Fields = append(b.Fields, rp.Headers...)
	if !x.m.EnvoyHeaders {
		return
	}
	switch {
	case rp.Flag&call.UpstreamOverflow != 0:
		b.Append(fieldOverloaded)
	case rp.Flag&call.DropOverload != 0:
		b.Append(fieldDropOverload)
	case rp.Flag&call.UnconditionalDrop != 0:
		b.Append(fieldDropAll)
	}
}

// routeResponse applies what the route does to responses.
func (x *Exchange) routeResponse(b *hpack.Block) {
	if rt := x.dec.Route; rt != nil && len(rt.ResponseOps) > 0 {
		x.rec.Response = b
		x.applyOps(b, rt.ResponseOps)
		x.rec.Response = nil
	}
}

// replyBlock returns the worker's block for what is written at once.
func (c *Core) replyBlock() *hpack.Block {
	c.scratch.Reset()
	return &c.scratch
}

// addStatus adds grpc-status, if there is none, and, percent-encoded,
// grpc-message (gRPC over HTTP/2, "Responses").
func addStatus(b *hpack.Block, rp *call.Reply) {
	switch {
	case b.Index(hdr.GRPCStatus) >= 0:
	case int(rp.GRPC) < len(fieldsGRPCStatus):
		b.Append(fieldsGRPCStatus[rp.GRPC])
	default:
		b.AppendCopy("grpc-status", strconv.Itoa(int(rp.GRPC)))
	}
	msg := rp.Message
	if len(rp.Body) > 0 {
		msg = string(rp.Body)
	}
	if msg != "" {
		b.AppendCopy("grpc-message", encodeMessage(msg))
	}
}

// encodeMessage percent-encodes all but printable ASCII, and the percent sign.
func encodeMessage(s string) string {
	const hex = "0123456789ABCDEF"
	n := 0
	for i := range len(s) {
		if b := s[i]; b < ' ' || b > '~' || b == '%' {
			n++
		}
	}
	if n == 0 {
		return s
	}
	out := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if b := s[i]; b < ' ' || b > '~' || b == '%' {
			out = append(out, '%', hex[b>>4], hex[b&15])
		} else {
			out = append(out, b)
		}
	}
	return string(out)
}

// DrainDeadline answers the calls that are left on the connection, because its
// drain deadline came. The cost does not depend on other connections.
func (d *Downstream) DrainDeadline() {
	d.H.Each(func(s *h2.Stream) {
		x := s.Owner.(*Exchange)
		if x.m != nil && x.state < stateReplying {
			d.Core.Counters.Inc(x.m.Scope, call.DownstreamRqDrainDeadline)
		}
		x.reply(replyDrain)
	})
}

// Evict ends the call because the bytes it holds are needed (docs/core.md, "Flow control").
func (x *Exchange) Evict() {
	if f := x.core.Contain; f != nil {
		defer f(x.d, "eviction")
	}
	x.reply(replyHeldBytes)
}

// EvictHolder ends the call whose stream of this connection holds too much.
func (d *Downstream) EvictHolder(s *h2.Stream) { s.Owner.(*Exchange).Evict() }

// EvictHolder ends the call whose stream of this connection holds too much.
func (u *Upstream) EvictHolder(s *h2.Stream) {
	if a := s.Owner.(*Attempt); a.x != nil {
		a.x.Evict()
	}
}

package relay

import (
	"errors"
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Attempt is one try of an exchange at one host: a client-role stream, or a
// place in a pool's queue for one.
//
// It outlives its exchange when its stream was reset and OnEnd is still to
// come; x is nil then.
type Attempt struct {
	// For the pool whose queue the attempt is in.

	Next, Prev *Attempt
	Queued     bool

	// Owned by relay.

	core   *Core
	x      *Exchange  // nil: abandoned
	host   call.Host  // until Done was called for it
	scope  call.Scope // of the host's cluster
	number int

	stream h2.Stream
	conn   *h2.Conn
	live   bool // the stream was opened and its OnEnd has not come
	ready  bool // headers may be, or were, sent
	ended  bool // END_STREAM was sent
	over   bool // END_STREAM was received
	active bool // counted as an active request of the cluster
	// unheard: the client gets another response, so this one is not counted.
	unheard bool

	rec   call.Outcome
	hold  *hpack.Block // response headers kept back; owned
	tryBy clock.Nanos  // per-try timeout, 0 if none
	// linger is the connection whose client reset the call while this attempt
	// ran; it counts to that client's concurrency until the stream has ended.
	linger *Downstream
}

// Failure is why a pool has no stream for a waiting attempt.
type Failure uint8

// Failures of a pool.
const (
	FailConnect Failure = iota // the dial failed
	FailTimeout                // the dial took too long
	FailClosed                 // the pool closes, or the connection broke before it was established
)

// Upstream is a client-role connection as its attempts see it. The worker
// embeds it in the connection's Handler.
type Upstream struct {
	Core *Core
	H    *h2.Conn
}

func (c *Core) attempt() *Attempt {
	c.attLive++
	if n := len(c.attempts); n > 0 {
		a := c.attempts[n-1]
		c.attempts = c.attempts[:n-1]
		return a
	}
	return &Attempt{core: c}
}

// freeAttempt takes back an attempt that has no stream and no place in a queue.
func (c *Core) freeAttempt(a *Attempt) {
	a.finish()
	c.attLive--
	if a.linger != nil {
		a.linger.H.Linger(-1)
	}
	if n := a.stream.Held(); n > 0 && Planted != PlantNoCredit {
		a.conn.Credit(&a.stream, n)
	}
	c.putBlock(a.hold)
	*a = Attempt{core: c}
	if len(c.attempts) < maxRestingAttempts {
		c.attempts = append(c.attempts, a)
	}
}

// Host is where the attempt goes.
func (a *Attempt) Host() call.Host { return a.host }

// Over reports whether the response has ended.
func (a *Attempt) Over() bool { return a.over }

// Stream is what a pool opens for the attempt.
func (a *Attempt) Stream() *h2.Stream {
	a.stream.Owner = a
	return &a.stream
}

// Ready tells the attempt that its stream was opened on up. It sends the
// request at once.
func (a *Attempt) Ready(up *Upstream) {
	a.conn, a.live, a.ready, a.active = up.H, true, true, true
	a.count(call.UpstreamRqTotal)
	a.count(call.UpstreamRqActive)
	a.x.start(a)
}

// Fail tells a waiting attempt that it gets no stream.
func (a *Attempt) Fail(why Failure) {
	x := a.x
	a.rec.Flags |= call.UpstreamConnFailure
	a.rec.Side = call.SideUpstream
	rp := replyConnectFailure
	switch why {
	case FailTimeout:
		rp = replyConnectTimeout
	case FailClosed:
		a.rec.Flags = call.UpstreamConnTerm
		rp = replyConnectionLost
	}
	a.count(call.UpstreamRqPendingFailureEject)
	x.att = nil
	x.triedHost(a)
	scope := a.scope
	x.core.freeAttempt(a)
	limit := maxFreeTries
	if why == FailTimeout {
		limit = 1
	}
	if x.retryUnseen(limit) || x.retryReset(call.RetryConnectFailure|call.RetryReset|call.RetryResetBeforeRequest) {
		return
	}
	x.core.charge(scope, rp.HTTP)
	x.reply(rp)
}

// finish tells the backend set how the attempt ended; once.
func (a *Attempt) finish() {
	if a.host == nil {
		return
	}
	if a.active {
		a.active = false
		a.core.Counters.Dec(a.scope, call.UpstreamRqActive)
		if a.rec.HTTP != 0 && !a.unheard {
			a.core.charge(a.scope, a.rec.HTTP)
		}
	}
	a.rec.End = a.core.Now
	if x := a.x; x != nil {
		a.rec.BytesIn, a.rec.BytesOut = x.rec.BytesIn, x.rec.BytesOut
		if Planted != PlantNoDone || a.rec.Flags == 0 {
			x.done(a)
		}
	}
	a.host = nil
}

// done calls the backend set. A panic there is logged.
func (x *Exchange) done(a *Attempt) {
	var err error
	defer x.recovered("backend set", &err)
	x.dec.Backends.Done(a.host, &a.rec)
}

func (a *Attempt) count(c call.Counter) { a.core.Counters.Inc(a.scope, c) }

// dropAttempt ends the attempt in progress, if any: nobody waits for its
// response. Its outcome has flag.
func (x *Exchange) dropAttempt(flag call.Flags) { x.abandonAttempt(flag, h2.ErrCodeCancel) }

// abandonAttempt is dropAttempt with the code that the upstream is told.
func (x *Exchange) abandonAttempt(flag call.Flags, code h2.ErrCode) {
	a := x.att
	if a == nil {
		return
	}
	x.att = nil
	a.rec.Flags |= flag
	if a.Queued {
		a.count(call.UpstreamRqCancelled)
		x.core.Upstreams.Cancel(a)
	}
	cut := a.live && !(a.over && a.ended) // else the stream ends by itself
	if cut && a.host != nil {
		a.count(call.UpstreamRqTxReset)
	}
	a.finish()
	if !a.live {
		x.core.freeAttempt(a)
		return
	}
	a.x = nil
	if cut && Planted != PlantAttemptLeft {
		a.conn.Reset(&a.stream, code)
	}
}

// OnHeaders implements h2.Handler.
func (u *Upstream) OnHeaders(s *h2.Stream, k h2.Kind, b *hpack.Block, end bool) {
	a := s.Owner.(*Attempt)
	if a.x == nil {
		return
	}
	switch k {
	case h2.Informational:
		a.x.informational(b)
	case h2.Response:
		a.x.responseHeaders(a, b, end)
	case h2.Trailers:
		a.x.responseTrailers(a, b)
	}
}

// OnData implements h2.Handler.
func (u *Upstream) OnData(s *h2.Stream, p []byte, end bool) {
	a := s.Owner.(*Attempt)
	if a.x == nil {
		u.H.Credit(s, len(p))
		return
	}
	a.x.responseData(a, p, end)
}

// OnWritable implements h2.Handler.
func (u *Upstream) OnWritable(s *h2.Stream) {
	if a := s.Owner.(*Attempt); a.x != nil {
		a.x.pumpRequest()
	}
}

// OnEnd implements h2.Handler.
func (u *Upstream) OnEnd(s *h2.Stream, e h2.StreamError) {
	a := s.Owner.(*Attempt)
	a.live, a.ready = false, false
	x := a.x
	if x == nil {
		u.Core.freeAttempt(a)
		return
	}
	if !x.rsp.done {
		x.attemptFailed(a, e)
		return
	}
	// The response is complete. The client may still be reading it: until then
	// its bytes count against the upstream connection.
	x.discardRequest()
	if a.stream.Held() == 0 {
		x.att = nil
		u.Core.freeAttempt(a)
	}
}

// attemptFailed ends an attempt whose stream ended before its response did.
func (x *Exchange) attemptFailed(a *Attempt, e h2.StreamError) {
	rp := replyConnectionLost
	a.rec.Side = call.SideUpstream
	a.rec.MaybeSeen = e.MaybeSeen
	switch e.Side {
	case h2.SidePeer:
		a.rec.Flags |= call.UpstreamRemoteReset
		a.count(call.UpstreamRqRxReset)
		rp = replyForReset(e.Code)
		if e.Code == h2.ErrCodeCancel && x.clientDeadlinePassed() {
			rp = replyTimeout // the backend's clock was ahead of our timer's
		}
	case h2.SideConn:
		a.rec.Flags |= call.UpstreamConnTerm
		if errors.Is(e.Err, h2.ErrGoAway) {
			rp = replyGoAway
		}
	case h2.SideLocal:
		a.rec.Flags |= call.UpstreamProtocolErr
		a.count(call.UpstreamRqTxReset)
		rp = replyUpstreamProtocol
		if errors.Is(e.Err, h2.ErrPeerHeaderListSize) {
			rp = replyHeaderLimit
		}
	}
	x.seen = x.seen || e.MaybeSeen && Planted != PlantRetrySeen
	a.rec.Code, a.rec.HasCode = rp.GRPC, false
	on := call.RetryReset
	if e.Side == h2.SidePeer && e.Code == h2.ErrCodeRefusedStream {
		on |= call.RetryRefusedStream
	}
	if !e.MaybeSeen {
		on |= call.RetryResetBeforeRequest
	}
	x.att = nil
	x.triedHost(a)
	scope := a.scope
	a.unheard = x.sent == sentNothing
	x.core.freeAttempt(a)
	if x.state == stateTrying {
		x.holdUntil = 0
		if (!e.MaybeSeen || Planted == PlantRetrySeen) && x.retryUnseen(maxFreeTries) || x.retryReset(on) {
			return
		}
	}
	if x.sent == sentHeaders && e.Side == h2.SidePeer && e.Code != h2.ErrCodeNo {
		// The backend's own word: it goes on as it is.
		x.passReset(rp, e.Code, call.UpstreamRemoteReset, "upstream_reset_after_response_started{remote reset}")
		return
	}
	if x.sent == sentHeaders {
		rp = replyCut(e.Side)
	}
	if x.sent == sentNothing {
		x.core.charge(scope, rp.HTTP)
		if x.state == stateTrying && !x.seen && x.tries == x.freeTries+1 && !x.req.whole() {
			// No upstream has seen it. We cannot send it again, but the client may,
			// and most do.
			x.passReset(rp, h2.ErrCodeRefusedStream, rp.Flag, rp.Detail)
			return
		}
	}
	x.reply(rp)
}

// passReset ends the call by RST_STREAM, where rp would tell the client less.
func (x *Exchange) passReset(rp *call.Reply, code h2.ErrCode, flag call.Flags, detail string) {
	x.rec.Flags |= flag
	x.rec.Side = call.SideUpstream
	x.rec.Code, x.rec.HasCode = rp.GRPC, false
	x.rec.Detail = detail
	x.core.Counters.Inc(x.m.Scope, call.DownstreamRqTxReset)
	x.d.H.Reset(&x.down, code)
	x.finish()
}

// triedHost remembers a failed attempt's host for the next pick.
func (x *Exchange) triedHost(a *Attempt) {
	if a.host != nil {
		x.call.Tried = append(x.call.Tried, a.host)
	}
}

// discardRequest drops what nobody will take of the request any more.
func (x *Exchange) discardRequest() {
	q := &x.req
	if n := x.down.Held(); n > 0 {
		x.d.H.Credit(&x.down, n)
	}
	done := q.done
	q.free(x.core)
	q.done = done
	if x.flt != nil {
		x.flt.req.free(x.core)
	}
}

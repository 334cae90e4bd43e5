package relay

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// state is where an exchange is (docs/core.md, "Exchanges").
type state uint8

const (
	stateNew       state = iota // storage handed to h2, no headers yet
	statePaused                 // the Director, or a filter before it, answers later
	stateQueued                 // waits for a stream in an upstream pool
	stateTrying                 // an attempt runs; nothing of a response was released
	stateBackoff                // between two attempts
	stateCommitted              // the response flows
	stateReplying               // a local reply flows
	stateFinished               // the response ended; waits for the stream's OnEnd
)

// sent is what the client has got of the response.
type sent uint8

const (
	sentNothing sent = iota
	sentHeaders
	sentEnd
)

// Exchange is one RPC: a downstream stream and its upstream attempts. It lives
// in its worker's slab and is reused.
type Exchange struct {
	// Set at creation.
	core *Core

	// Set when the stream begins.
	d         *Downstream
	slot, gen uint32
	m         *call.Manager // serves this call to its end

	down h2.Stream
	head hpack.Block // the request's headers, as received
	call call.Call
	dec  call.Decision
	rec  call.Outcome

	state state
	sent  sent
	att   *Attempt // the attempt whose response the client gets; nil: none
	req   body
	rsp   body
	flt   *chain // nil: no filters

	// Deadlines; zero if not set. See deadline.go.
	timer      clock.Timer
	timerAt    clock.Nanos
	active     clock.Nanos // last frame in either direction
	flowFrom   clock.Nanos // since when flowed counts, see took
	deadline   clock.Nanos
	requestBy  clock.Nanos // Manager.RequestTimeout
	holdUntil  clock.Nanos // Attempt.hold goes then
	backoff    clock.Nanos // the next attempt begins then
	idle       int64       // stream idle timeout in nanoseconds
	grpcClient int64       // the client's grpc-timeout in nanoseconds, -1 if none
	grpcLeft   bool        // grpc-timeout must be rewritten for the upstream
	durationDL bool        // deadline is one of the stream's duration, not of the response

	flowed, flowedBefore int64 // bytes that receivers took since flowFrom, and in the time before

	tries     int // attempts begun
	freeTries int // of them, those after one that was never seen
	seen      bool
	retrying  retryLimiter // where a retry is counted; nil: nowhere
	heeds     bool         // the route's policy yields to x-envoy-… request headers
	traced    bool         // x-envoy-force-trace: the client gets its x-request-id
	peeking   bool         // the Director waits for the first message
	peeked    []byte       // it
	hostKept  bool         // the authority before rewriting is in other headers
}

// reset makes x ready for the next stream. Memory that its blocks hold stays.
func (x *Exchange) reset() {
	x.head.Reset()
	tried := x.call.Tried[:0]
	x.d, x.m, x.att, x.flt = nil, nil, nil, nil
	x.call = call.Call{Tried: tried}
	x.dec = call.Decision{}
	x.rec = call.Outcome{}
	x.state, x.sent = stateNew, sentNothing
	x.timerAt, x.active, x.deadline, x.requestBy, x.holdUntil, x.backoff = 0, 0, 0, 0, 0, 0
	x.flowFrom, x.flowed, x.flowedBefore = 0, 0, 0
	x.idle, x.grpcClient, x.grpcLeft, x.durationDL = 0, 0, false, false
	x.tries, x.freeTries, x.seen = 0, 0, false
	x.heeds, x.traced, x.hostKept = false, false, false
	x.peeking = false
	if cap(x.peeked) > maxRestingMessage {
		x.peeked = nil
	}
}

// Downstream is a server-role connection as its exchanges see it. The worker
// embeds it in the connection's Handler.
type Downstream struct {
	// Set at creation.
	Core    *Core
	H       *h2.Conn
	Info    *call.Conn
	Manager *atomic.Pointer[call.Manager] // what serves the next call

	// Owned by the worker.
	cert    string        // the client's element of x-forwarded-client-cert
	certFor *call.Manager // whose options cert follows
	stays   int64         // of hoards
	flowing int64         // of hoards
}

// NewStream implements h2.Handler.
func (d *Downstream) NewStream(id uint32) *h2.Stream {
	x := d.Core.exchange()
	x.d = d
	x.down.Owner, x.down.Head = x, &x.head
	return &x.down
}

// OnHeaders implements h2.Handler.
func (d *Downstream) OnHeaders(s *h2.Stream, k h2.Kind, b *hpack.Block, end bool) {
	x := s.Owner.(*Exchange)
	if k == h2.Request {
		x.begin(b, end)
	} else {
		x.requestTrailers(b)
	}
}

// OnData implements h2.Handler.
func (d *Downstream) OnData(s *h2.Stream, p []byte, end bool) {
	s.Owner.(*Exchange).requestData(p, end)
}

// OnWritable implements h2.Handler.
func (d *Downstream) OnWritable(s *h2.Stream) {
	if Planted != PlantNoWake {
		s.Owner.(*Exchange).pumpResponse()
	}
}

// OnEnd implements h2.Handler.
func (d *Downstream) OnEnd(s *h2.Stream, e h2.StreamError) {
	s.Owner.(*Exchange).downEnded(e)
}

// begin starts the call: its headers are complete.
func (x *Exchange) begin(b *hpack.Block, end bool) {
	c := x.core
	x.m = x.d.Manager.Load()
	x.active = c.Now
	x.rec.Start = c.Now
	x.grpcClient = -1
	cl := &x.call
	cl.Conn, cl.Headers, cl.Arrived, cl.Now = x.d.Info, b, c.Now, c.Now
	cl.Rand = c.Rand.Uint64()
	cl.Handle = call.Handle{Owner: c.Resumer, Slot: x.slot, Gen: x.gen}
	host := ""
	has := notes(0)
	for i := range b.Fields {
		f := &b.Fields[i]
		switch f.ID {
		case hdr.Authority:
			cl.Host = f.Value
		case hdr.Host:
			host = f.Value
			has |= noteHost
		case hdr.Path:
			cl.Path = f.Value
		case hdr.Method:
			cl.Method = f.Value
		case hdr.ContentType:
			cl.GRPC = isGRPC(f.Value)
		case hdr.GRPCTimeout:
			if x.grpcClient = parseTimeout(f.Value); x.grpcClient >= 0 {
				x.giveUpAfter(x.grpcClient)
			}
		case hdr.XEnvoyExpectedRqTimeout:
			has |= notesOf[f.ID]
			if ms, err := strconv.ParseUint(f.Value, 10, 31); err == nil {
				x.giveUpAfter(int64(ms) * 1e6)
			}
		default:
			has |= notesOf[f.ID]
		}
	}
	if cl.Host == "" {
		cl.Host = host
	}
	c.Counters.Inc(x.m.Scope, call.DownstreamRqTotal)
	c.Counters.Inc(x.m.Scope, call.DownstreamRqActive)
	x.req.keep = true
	if x.m.RequestTimeout > 0 && !end {
		x.requestBy = c.Now.Add(x.m.RequestTimeout)
	}
	if end {
		x.req.done = true
	}
	if x.m.Underscores != call.UnderscoresAllow && !x.underscores(b) {
		return
	}
	if rp := x.receivedPolicy(b, has); rp != nil {
		x.reply(rp)
		return
	}
	if len(x.m.Filters) > 0 {
		x.flt = c.newChain(end)
		if !x.filterRequestHeaders() {
			return
		}
	}
	x.direct()
}

// isGRPC reports a content-type of application/grpc or application/grpc+….
func isGRPC(s string) bool {
	rest, ok := strings.CutPrefix(s, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}

// direct asks the Director and goes where it says.
func (x *Exchange) direct() {
	dec, err := x.askDirector()
	if err != nil {
		if errors.Is(err, call.ErrPending) {
			x.state = statePaused
			x.limitTime()
			return
		}
		if errors.Is(err, call.ErrPeek) {
			if x.call.Peek.Done {
				x.reply(replyPeekedTwice)
				return
			}
			x.state, x.peeking = statePaused, true
			x.limitTime()
			x.look()
			return
		}
		x.core.Counters.Inc(x.m.Scope, call.RqTotal)
		x.dec.Route = dec.Route // what it does to responses
		x.fail(err)
		return
	}
	x.core.Counters.Inc(x.m.Scope, call.RqTotal)
	x.dec = dec
	if x.heeds {
		x.heedHeaders()
	}
	x.limitTime()
	if dec.Reply != nil {
		x.core.Counters.Inc(x.m.Scope, call.RqDirectResponse)
		x.reply(dec.Reply)
		return
	}
	if rt := dec.Route; rt != nil {
		x.core.Counters.Inc(rt.Scope, call.RqTotal)
	}
	x.routePolicy()
	x.try()
}

// askDirector calls the Director. A panic there costs this call only.
func (x *Exchange) askDirector() (dec call.Decision, err error) {
	defer x.recovered("director", &err)
	x.call.Now = x.core.Now
	return x.m.Director.Direct(&x.call)
}

// recovered turns a panic of foreign code into an INTERNAL reply.
func (x *Exchange) recovered(who string, err *error) {
	if r := recover(); r != nil {
		if x.core.Log != nil {
			x.core.Log.Error("panic in "+who, "reason", fmt.Sprint(r), "path", x.call.Path, "stack", string(debug.Stack()))
		}
		*err = replyPanic
	}
}

// resume goes on after ErrPending: whoever answers later is asked again.
func (x *Exchange) resume(err error) {
	if err != nil {
		x.fail(err)
		return
	}
	f := x.flt
	if x.state == statePaused && !x.peeking {
		if f == nil {
			x.direct()
			return
		}
		if !f.passed {
			if x.filterRequestHeaders() {
				x.direct()
				x.filterRequest()
			}
			return
		}
		x.direct()
	}
	if f == nil {
		return
	}
	if f.req.paused {
		x.filterRequest()
	}
	if f.head != nil && x.state < stateReplying && Planted != PlantFilterForgotten && x.filterResponseHeaders(f.head, f.headEnd) {
		b := f.head
		f.head = nil
		f.rsp.wait(x.core, 0)
		x.sendHeaders(b, f.headEnd)
		x.core.putBlock(b)
		x.filterResponse()
	} else if f.rsp.paused {
		x.filterResponse()
	}
}

// fail ends the call with a director's or a backend set's error.
func (x *Exchange) fail(err error) {
	var r *call.Reply
	if errors.As(err, &r) {
		switch {
		case r.Flag&call.NoRoute != 0:
			x.core.Counters.Inc(x.m.Scope, call.NoRouteTotal)
		case r.Flag&call.NoCluster != 0:
			x.core.Counters.Inc(x.m.Scope, call.NoClusterTotal)
		}
		x.reply(r)
		return
	}
	x.reply(&call.Reply{HTTP: 503, GRPC: call.Unavailable, Message: err.Error(), Detail: "director_error"})
}

// downEnded is the downstream stream's last call: x goes back to the slab.
func (x *Exchange) downEnded(e h2.StreamError) {
	if x.state != stateFinished && x.m != nil { // m: its headers came
		flag := call.DownstreamConnTerm
		switch e.Side {
		case h2.SidePeer:
			flag = call.DownstreamRemoteReset
			x.core.Counters.Inc(x.m.Scope, call.DownstreamRqRxReset)
		case h2.SideLocal:
			flag = call.DownstreamProtocolErr
			x.core.Counters.Inc(x.m.Scope, call.DownstreamRqTxReset)
		}
		if a := x.att; a != nil && e.Side == h2.SidePeer && a.stream.Open() {
			// The work goes on until the upstream knows (made-you-reset).
			a.linger = x.d
			x.d.H.Linger(1)
		}
		x.rec.Flags |= flag
		x.rec.Side = call.SideDownstream
		x.rec.Code, x.rec.HasCode = call.Canceled, true
		x.rec.Detail = "downstream_remote_disconnect"
		code := h2.ErrCodeCancel
		if e.Side == h2.SidePeer {
			code = e.Code // the client's own word
		}
		x.abandonAttempt(flag, code)
		x.finish()
	}
	if n := x.down.Held(); n > 0 && Planted != PlantNoCredit {
		x.d.H.Credit(&x.down, n)
	}
	x.core.release(x)
}

// finish records the exchange: its response has ended, one way or another.
// Only the stream's OnEnd is still to come.
func (x *Exchange) finish() {
	c := x.core
	if Planted != PlantTimerLeft {
		c.Wheel.Stop(&x.timer)
	}
	x.state = stateFinished
	x.releaseRetry()
	x.req.free(c)
	x.rsp.free(c)
	x.req.done, x.rsp.done = true, true
	x.rec.End = c.Now
	if x.flt != nil {
		x.filterDone()
	}
	s := x.m.Scope
	c.Counters.Dec(s, call.DownstreamRqActive)
	c.Counters.Inc(s, call.DownstreamRqCompleted)
	if n := x.rec.HTTP / 100; n >= 1 && n <= 5 {
		c.Counters.Inc(s, call.DownstreamRq1xx+call.Counter(n-1))
	}
	if c.Record != nil {
		c.Record(&x.call, &x.rec)
	}
}

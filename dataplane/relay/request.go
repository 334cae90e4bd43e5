package relay

import (
	"encoding/binary"
	"errors"
	"net/http"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// freeReplay is how much of a request is kept, until the upstream begins to
// answer, for the retry that RFC 9113 §8.7 allows when an upstream certainly
// has not seen it (a GOAWAY or a SETTINGS_MAX_CONCURRENT_STREAMS that crossed
// it): what fits into the window that streams begin with by default, and no
// more, since keeping is copying. Requests that are longer are kept as long as
// the upstream has taken no more. Policies with retries set their own limit.
const freeReplay = 64 << 10

// replayLimit is how long a request that is kept may be.
func (x *Exchange) replayLimit() int64 {
	if rt := x.dec.Route; rt != nil && rt.Retry != nil {
		if rt.Retry.BufferLimit > 0 {
			return rt.Retry.BufferLimit
		}
		return 256 << 10
	}
	return freeReplay
}

// limitReplay gives up keeping the request if it is, with n more bytes, too
// long. An attempt has begun: until then nothing was taken that could be lost.
func (x *Exchange) limitReplay(n int) {
	if q := &x.req; q.keep && q.end+int64(n) > x.replayLimit() && !x.firstWindow() {
		q.release(x.core)
	}
}

// firstWindow reports that the attempt cannot have sent more than freeReplay,
// however long the request is: the upstream's streams begin with no larger a
// window, and it has added nothing to this one's.
func (x *Exchange) firstWindow() bool {
	a := x.att
	return a != nil && a.ready && a.conn.PeerWindow() <= freeReplay && !a.stream.Granted()
}

// foreseeLength gives up keeping a request whose first message, which p begins,
// will be too long: nothing of it is copied.
func (x *Exchange) foreseeLength(p []byte) {
	if x.call.GRPC && len(p) >= messageHead && messageHead+int64(binary.BigEndian.Uint32(p[1:])) > x.replayLimit() && !x.firstWindow() {
		x.req.release(x.core)
	}
}

// requestData brings a piece of the request's payload.
func (x *Exchange) requestData(p []byte, end bool) {
	x.active = x.core.Now
	x.rec.BytesIn += uint64(len(p))
	q := &x.req
	if x.state >= stateReplying || x.unwanted() {
		// Nobody wants it any more.
		if end {
			q.done = true
		}
		if len(p) > 0 {
			x.d.H.Credit(&x.down, len(p))
		}
		return
	}
	if end {
		x.requestEnded()
	}
	a := x.att
	if f := x.flt; f != nil && (f.messages() || !f.passed) {
		f.req.add(x.core, p)
		x.filterRequest()
		return
	}
	if a == nil || !a.ready || !q.empty() {
		q.add(x.core, p)
		x.look()
		if a != nil && a.ready {
			x.limitReplay(0)
			if end && q.empty() { // an empty last frame
				x.pumpRequest()
			}
		}
		return
	}
	if q.end == 0 {
		x.foreseeLength(p)
	}
	x.limitReplay(len(p))
	n := a.conn.WriteData(&a.stream, p, end)
	q.take(x.core, p, n)
	if end && n == len(p) {
		a.ended = true
	}
	if n > 0 {
		x.took(n)
		x.creditRequest()
	}
}

// unwanted reports that the upstream's stream has ended, its response
// complete, so that nobody takes the rest of the request.
func (x *Exchange) unwanted() bool { return x.rsp.done && (x.att == nil || !x.att.live) }

// requestTrailers brings the trailers of the request, its end.
func (x *Exchange) requestTrailers(b *hpack.Block) {
	x.active = x.core.Now
	if x.m.Underscores != call.UnderscoresAllow && x.state != stateFinished && !x.underscores(b) {
		return
	}
	if x.state >= stateReplying || x.unwanted() {
		x.req.done = true
		return
	}
	x.req.follow(x.core, b)
	x.requestEnded()
	if x.flt != nil {
		x.filterRequest()
		return
	}
	x.look()
	x.pumpRequest()
}

// requestEnded notes END_STREAM from the client.
func (x *Exchange) requestEnded() {
	x.req.done = true
	x.requestBy = 0
	x.startResponseTimeout()
}

// pumpRequest gives the attempt what waits for it. The end goes last.
func (x *Exchange) pumpRequest() {
	a := x.att
	if a == nil || !a.ready {
		return
	}
	q := &x.req
	x.limitReplay(0)
	for {
		p := q.next()
		if p == nil {
			break
		}
		last := q.done && q.trailers == nil && q.pos+int64(len(p)) == q.end && !x.requestBusy()
		n := a.conn.WriteData(&a.stream, p, last)
		if n > 0 {
			q.advance(x.core, n)
			x.took(n)
			x.creditRequest()
		}
		if n < len(p) {
			return
		}
		if last {
			a.ended = true
			return
		}
	}
	if !q.done || a.ended || x.requestBusy() {
		return
	}
	a.ended = true
	if q.trailers != nil {
		a.conn.WriteHeaders(&a.stream, q.trailers.Fields, true)
	} else {
		a.conn.WriteData(&a.stream, nil, true)
	}
}

// creditRequest lets the client send again what an attempt took.
func (x *Exchange) creditRequest() {
	if f := x.flt; f != nil && f.messages() {
		if n := f.req.owedFor(&x.req); n > 0 {
			x.d.H.Credit(&x.down, n)
		}
		return
	}
	if n := x.req.owed(); n > 0 {
		x.d.H.Credit(&x.down, n)
	}
}

// try picks a host and asks for a stream to it.
func (x *Exchange) try() {
	c := x.core
	x.call.Now = c.Now
	x.call.Draw = c.Rand.Uint64()
	host, err := x.pick()
	if err != nil {
		x.countRefusal(err)
		x.fail(err)
		return
	}
	a := c.attempt()
	a.x, a.host, a.number = x, host, x.tries
	if o := host.Target().Options; o != nil {
		a.scope = o.Cluster
	}
	a.rec.Host, a.rec.Attempt, a.rec.Start = host, x.tries, c.Now
	x.rec.Host, x.rec.Attempt = host, x.tries
	x.tries++
	x.att = a
	x.state = stateQueued
	up, err := c.Upstreams.Open(a)
	if err != nil {
		a.rec.Flags |= call.UpstreamOverflow
		x.core.charge(a.scope, statusOf(err))
		x.dropAttempt(0)
		x.fail(err)
		return
	}
	if up != nil {
		a.Ready(up)
	}
}

// pick calls the backend set. A panic there costs this call only, and so does
// neither a host nor an error.
func (x *Exchange) pick() (h call.Host, err error) {
	defer x.recovered("backend set", &err)
	if h, err = x.dec.Backends.Pick(&x.call, x.tries); h == nil && err == nil {
		err = call.ReplyNoHealthy
	}
	return h, err
}

// countRefusal counts for its cluster why there was no host.
func (x *Exchange) countRefusal(err error) {
	var r *call.Reply
	set, ok := x.dec.Backends.(interface{ Scope() call.Scope })
	if !ok || !errors.As(err, &r) {
		return
	}
	x.core.charge(set.Scope(), r.HTTP)
	switch {
	case r.Flag&call.NoHealthyUpstream != 0:
		x.core.Counters.Inc(set.Scope(), call.UpstreamCxNoneHealthy)
	case r.Flag&call.UpstreamOverflow != 0: // Envoy counts max_requests here, too
		x.core.Counters.Inc(set.Scope(), call.UpstreamRqPendingOverflow)
	case r.Flag&(call.DropOverload|call.UnconditionalDrop) != 0:
		x.core.Counters.Inc(set.Scope(), call.UpstreamRqDropOverload)
	}
}

// charge counts for a cluster the status that the client gets, of a response of
// the cluster's or in place of one, as Envoy's router does.
func (c *Core) charge(cluster call.Scope, status int) {
	c.Counters.Inc(cluster, call.UpstreamRqCompleted)
	if n := status / 100; n >= 1 && n <= 5 {
		c.Counters.Inc(cluster, call.UpstreamRq1xx+call.Counter(n-1))
	}
}

// statusOf is the status that fail makes of err.
func statusOf(err error) int {
	var r *call.Reply
	if errors.As(err, &r) {
		return r.HTTP
	}
	return http.StatusServiceUnavailable
}

// start sends the request's headers, and what has come of the rest, on a's
// stream, which was just opened.
func (x *Exchange) start(a *Attempt) {
	x.state = stateTrying
	a.rec.Start = x.core.Now
	a.rec.Connected = true
	x.armTry(a)
	q := &x.req
	end := q.done && q.end == 0 && q.trailers == nil && !x.requestBusy()
	a.conn.WriteHeaders(&a.stream, x.attemptFields(a), end)
	a.ended = end
	if !end && (q.end > 0 || q.done) {
		x.pumpRequest()
	}
}

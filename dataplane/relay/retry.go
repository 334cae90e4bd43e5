package relay

import (
	"strconv"
	"time"

	"slices"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// holdLimit is how long response headers may wait for the status when the
// route retries on one (core-design §7.1, "may hold").
const holdLimit = 100 * time.Millisecond

// Envoy's defaults of RetryPolicy.retry_back_off.
const (
	backOffBase = 25 * time.Millisecond
	backOffMax  = 10 * backOffBase
)

// retryUnseen starts another attempt for a request that no upstream has seen,
// once more for free (RFC 9113 §8.7). False: it may not, or cannot.
func (x *Exchange) retryUnseen() bool {
	if x.freeTries > 0 || x.seen || !x.rewind() {
		return false
	}
	x.freeTries++
	x.retryNow()
	return true
}

// retryReset retries, by the route's policy, an attempt that ended without a
// response. on are the conditions it meets.
func (x *Exchange) retryReset(on call.RetryOn) bool {
	rt := x.dec.Route
	if rt == nil || rt.Retry == nil {
		return false
	}
	// A reset is also a 5xx and a gateway error (Envoy's "5xx",
	// "gateway-error").
	if rt.Retry.On&(on|call.Retry5xx|call.RetryGatewayError) == 0 {
		return false
	}
	return x.retryLater(rt.Retry, -1)
}

// retryResponse retries, by the route's policy, an attempt whose response has
// headers (or trailers, if they were held back) that the policy retries on.
func (x *Exchange) retryResponse(a *Attempt, b *hpack.Block) bool {
	rt := x.dec.Route
	if rt == nil || rt.Retry == nil || x.state != stateTrying {
		return false
	}
	p := rt.Retry
	match := false
	if v, ok := b.Get(hdr.GRPCStatus); ok {
		n, err := strconv.ParseUint(v, 10, 8)
		match = err == nil && n < 32 && p.GRPCCodes&(1<<n) != 0
	}
	if s := a.rec.HTTP; !match {
		match = p.On&call.Retry5xx != 0 && s >= 500 && s < 600 ||
			p.On&call.RetryGatewayError != 0 && (s == 502 || s == 503 || s == 504) ||
			p.On&call.RetryRetriable4xx != 0 && s == 409 ||
			slices.Contains(p.HTTPCodes, s)
	}
	if !match {
		return false
	}
	pushback := time.Duration(-1)
	if v, ok := b.Get(hdr.GRPCRetryPushback); ok {
		// gRFC A6: a value that is not a number forbids the retry.
		ms, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return false
		}
		pushback = time.Duration(ms) * time.Millisecond
	}
	if !x.mayRetry(p) {
		return false
	}
	x.triedHost(a)
	x.dropAttempt(0)
	return x.retryLater(p, pushback)
}

// mayRetry reports whether the policy and the replay buffer allow one more.
func (x *Exchange) mayRetry(p *call.RetryPolicy) bool {
	return x.tries-x.freeTries <= p.Max && x.sent == sentNothing && x.req.base == 0 && x.req.keep
}

// retryLater starts the next attempt after a back-off, or after pushback.
func (x *Exchange) retryLater(p *call.RetryPolicy, pushback time.Duration) bool {
	if !x.mayRetry(p) {
		if x.tries-x.freeTries > p.Max {
			x.rec.Flags |= call.UpstreamRetryExceeded
		}
		return false
	}
	wait := pushback
	if wait < 0 {
		base, limit := p.BackOffBase, p.BackOffMax
		if base <= 0 {
			base = backOffBase
		}
		if limit <= 0 {
			limit = 10 * base
		}
		// Fully jittered: uniform in [0, (2^n - 1) * base), as Envoy does.
		n := min(x.tries-x.freeTries, 20)
		wait = time.Duration(x.core.Rand.Uint64() % uint64(min(base*(1<<n-1), limit)))
	}
	if x.deadline != 0 && x.core.Now.Add(wait+time.Millisecond) >= x.deadline || !x.rewind() {
		return false
	}
	x.holdUntil = 0
	x.countRetry()
	if wait == 0 {
		x.retryNow()
		return true
	}
	x.state = stateBackoff
	x.backoff = x.core.Now.Add(wait)
	x.schedule()
	return true
}

// retryNow starts the next attempt.
func (x *Exchange) retryNow() {
	x.state = stateBackoff
	x.grpcLeft = true
	x.try()
}

func (x *Exchange) countRetry() {
	if n := len(x.call.Tried); n > 0 {
		if o := x.call.Tried[n-1].Target().Options; o != nil {
			x.core.Counters.Inc(o.Cluster, call.UpstreamRqRetry)
		}
	}
	x.grpcLeft = true
}

// rewind makes the request's first byte the next one to send.
func (x *Exchange) rewind() bool {
	return x.sent == sentNothing && x.req.rewind()
}

// hold keeps response headers back while a status that the route retries on
// may still come. Never while the request is open: a client may wait for them
// before it sends more.
func (x *Exchange) hold(a *Attempt, b *hpack.Block) bool {
	rt := x.dec.Route
	if rt == nil || rt.Retry == nil || rt.Retry.GRPCCodes == 0 || !x.call.GRPC || !x.req.done || !a.ended ||
		x.state != stateTrying || !x.mayRetry(rt.Retry) {
		return false
	}
	a.hold = x.core.block()
	a.hold.CopyFrom(b)
	x.holdUntil = x.core.Now.Add(holdLimit)
	x.schedule()
	return true
}

// releaseHold sends headers that were kept back.
func (x *Exchange) releaseHold(a *Attempt) {
	b := a.hold
	a.hold = nil
	x.commit(a, b, false)
	x.core.putBlock(b)
}

// tryTimedOut ends an attempt at its per-try timeout.
func (x *Exchange) tryTimedOut(a *Attempt) {
	a.count(call.UpstreamRqPerTryTimeout)
	a.rec.Code = call.DeadlineExceeded
	x.triedHost(a)
	x.seen = true
	x.dropAttempt(call.UpstreamRequestTimeout)
	if x.retryReset(call.RetryReset) {
		return
	}
	x.reply(replyPerTryTimeout)
}

package relay

import (
	"slices"
	"strconv"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// holdLimit is how long response headers may wait for the status when the
// route retries on one (docs/core.md, "Exchanges", may wait).
const holdLimit = 100 * time.Millisecond

// backOffBase is Envoy's default of RetryPolicy.retry_back_off.base_interval;
// that of max_interval is ten times the base.
const backOffBase = 25 * time.Millisecond

// maxFreeTries is how often a request is sent again that no upstream has seen:
// as often as several backends may be restarting at once. Attempts that took
// their time to fail, at connecting, get one.
const maxFreeTries = 4

// retryUnseen starts another attempt for a request that no upstream has seen,
// for free (RFC 9113 §8.7). False: it may not, or cannot.
func (x *Exchange) retryUnseen(limit int) bool {
	if x.freeTries >= limit || x.seen || !x.rewind() {
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
	wait, ok := x.planRetry(rt.Retry, x.call.Tried[len(x.call.Tried)-1], -1)
	if ok {
		x.retryAfter(wait)
	}
	return ok
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
	// All that may forbid it comes first: without a retry the response is the
	// client's, and needs its attempt.
	wait, ok := x.planRetry(p, a.host, pushback)
	if !ok {
		return false
	}
	x.triedHost(a)
	a.unheard = true
	x.dropAttempt(0)
	x.retryAfter(wait)
	return true
}

// mayRetry reports whether the policy and the replay buffer allow one more.
func (x *Exchange) mayRetry(p *call.RetryPolicy) bool {
	q := &x.req
	return x.tries-x.freeTries <= p.Max && x.sent == sentNothing && q.base == 0 && q.keep && q.end <= x.replayLimit()
}

// retryLimiter is a host whose cluster bounds the retries in progress
// (CircuitBreakers.Thresholds.max_retries). Each AcquireRetry that returns true
// is followed by one ReleaseRetry.
type retryLimiter interface {
	AcquireRetry() bool
	ReleaseRetry()
}

// planRetry decides about one more attempt after the one at host, and returns
// how long to wait before it: pushback, or a back-off if that is negative. Once
// it has said yes, retryAfter follows. The retry counts against its cluster
// until the next decision or the end of the call, as in Envoy.
func (x *Exchange) planRetry(p *call.RetryPolicy, host call.Host, pushback time.Duration) (wait time.Duration, ok bool) {
	x.releaseRetry()
	if !x.mayRetry(p) {
		if x.tries-x.freeTries > p.Max {
			x.rec.Flags |= call.UpstreamRetryExceeded
		}
		return 0, false
	}
	wait = pushback
	if wait < 0 {
		wait = x.backOff(p)
	}
	if x.deadline != 0 && x.core.Now.Add(wait+time.Millisecond) >= x.deadline {
		return 0, false
	}
	if l, ok := host.(retryLimiter); ok {
		if !l.AcquireRetry() {
			x.countAt(host, call.UpstreamRqRetryOverflow)
			return 0, false
		}
		x.retrying = l
	}
	x.countAt(host, call.UpstreamRqRetry)
	return wait, true
}

// backOff is fully jittered: uniform in [0, (2^n - 1) * base) for the n-th
// retry, as Envoy does.
func (x *Exchange) backOff(p *call.RetryPolicy) time.Duration {
	base, limit := p.BackOffBase, p.BackOffMax
	if base <= 0 {
		base = backOffBase
	}
	if limit <= 0 {
		limit = 10 * base
	}
	n := min(x.tries-x.freeTries, 20)
	return time.Duration(x.core.Rand.Uint64() % uint64(min(base*(1<<n-1), limit)))
}

// releaseRetry ends what planRetry began.
func (x *Exchange) releaseRetry() {
	if x.retrying != nil {
		x.retrying.ReleaseRetry()
		x.retrying = nil
	}
}

// countAt counts for the cluster of h.
func (x *Exchange) countAt(h call.Host, c call.Counter) {
	if o := h.Target().Options; o != nil {
		x.core.Counters.Inc(o.Cluster, c)
	}
}

// retryAfter starts the next attempt after wait. mayRetry said that the request
// can be sent from its first byte.
func (x *Exchange) retryAfter(wait time.Duration) {
	x.rewind()
	x.holdUntil = 0
	if wait == 0 {
		x.retryNow()
		return
	}
	x.grpcLeft = true
	x.state = stateBackoff
	x.backoff = x.core.Now.Add(wait)
	x.schedule()
}

// retryNow starts the next attempt.
func (x *Exchange) retryNow() {
	x.state = stateBackoff
	x.grpcLeft = true
	x.try()
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

// releaseHold sends headers that were kept back. False: a filter has refused
// them, the call has ended.
func (x *Exchange) releaseHold(a *Attempt) bool {
	b := a.hold
	a.hold = nil
	x.commit(a, b, false)
	x.core.putBlock(b)
	return x.att == a
}

// tryTimedOut ends an attempt at its per-try timeout.
func (x *Exchange) tryTimedOut(a *Attempt) {
	a.count(call.UpstreamRqPerTryTimeout)
	a.rec.Code = call.DeadlineExceeded
	x.triedHost(a)
	x.seen = true
	scope := a.scope
	a.unheard = true
	x.dropAttempt(call.UpstreamRequestTimeout)
	if x.retryReset(call.RetryReset) {
		return
	}
	x.core.charge(scope, replyPerTryTimeout.HTTP)
	x.reply(replyPerTryTimeout)
}

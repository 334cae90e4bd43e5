package relay

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// parseTimeout reads a grpc-timeout: at most 8 digits and a unit. It returns
// nanoseconds, -1 if the value is malformed (which is then the upstream's to
// judge: the header passes).
func parseTimeout(s string) int64 {
	if len(s) < 2 || len(s) > 9 {
		return -1
	}
	n := int64(0)
	for i := range len(s) - 1 {
		d := s[i] - '0'
		if d > 9 {
			return -1
		}
		n = n*10 + int64(d)
	}
	unit := time.Duration(0)
	switch s[len(s)-1] {
	case 'n':
		unit = time.Nanosecond
	case 'u':
		unit = time.Microsecond
	case 'm':
		unit = time.Millisecond
	case 'S':
		unit = time.Second
	case 'M':
		unit = time.Minute
	case 'H':
		unit = time.Hour
	default:
		return -1
	}
	if n > int64(maxTimeout/unit) {
		return int64(maxTimeout)
	}
	return n * int64(unit)
}

// maxTimeout is 20 years: far enough, and safe to add to an instant.
const maxTimeout = 20 * 365 * 24 * time.Hour

// appendTimeout formats d as a grpc-timeout: the finest unit that keeps it
// within 8 digits, rounded down so that the upstream never waits longer.
func appendTimeout(b []byte, d time.Duration) []byte {
	n, unit := max(int64(d), 0), byte('n')
	for _, u := range [...]struct {
		unit byte
		d    time.Duration
	}{{'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour}} {
		if n < 1e8 {
			break
		}
		n, unit = int64(d/u.d), u.unit
	}
	return append(appendInt(b, n), unit)
}

// deadlineSlack is how late our timer may be against a backend's that counts
// the same grpc-timeout: a tick of the wheel, and as much again for the way.
const deadlineSlack = 2 * time.Millisecond

// clientDeadlinePassed reports whether the client's grpc-timeout is over. gRPC
// servers reset a call with CANCEL at its deadline, which their clients take for
// DEADLINE_EXCEEDED when their own clock says so (grpc-go's http2_client.go).
func (x *Exchange) clientDeadlinePassed() bool {
	return x.grpcClient >= 0 && x.core.Now.Add(deadlineSlack).Sub(x.call.Arrived) >= time.Duration(x.grpcClient)
}

// minPatience is how long a call lasts at least whose cancellation is put down
// to its deadline. 100 streams that are cancelled after it are 5,000 a second,
// fewer than could end well in that time.
const minPatience = 20 * time.Millisecond

// giveUpAfter notes a timeout of the call of d nanoseconds, the client's or that
// of a proxy in front of us, because of which it may be cancelled. The client's
// clock has started before ours, and what it sent may have waited on its way:
// from three quarters of d on.
func (x *Exchange) giveUpAfter(d int64) {
	at := x.core.Now.Add(max(time.Duration(d-d/4), minPatience))
	if s := &x.down; s.GivesUp == 0 || at < s.GivesUp {
		s.GivesUp = at
	}
}

// limitTime sets the deadlines that the route, once known, and the manager
// give the call, counted from the request's headers.
func (x *Exchange) limitTime() {
	rt := x.dec.Route
	x.limitIdle()
	x.deadline = 0
	if duration := x.streamDuration(); duration > 0 {
		x.deadline, x.durationDL = x.call.Arrived.Add(duration), true
	}
	if x.usesGRPCTimeout() {
		d := x.grpcClient - int64(rt.GRPCTimeoutOffset)
		if rt.GRPCTimeoutOffset > 0 && d <= 0 {
			d = x.grpcClient // Envoy: an offset that eats all of it is not used
		}
		if rt.GRPCTimeoutMax > 0 && d > int64(rt.GRPCTimeoutMax) {
			d = int64(rt.GRPCTimeoutMax)
			x.grpcLeft = true
		}
		if at := x.call.Arrived.Add(time.Duration(d)); x.deadline == 0 || at < x.deadline {
			x.deadline, x.durationDL = at, true
		}
	}
	if x.req.done && x.dec.Backends != nil {
		x.startResponseTimeout()
	}
	x.schedule()
}

// limitIdle sets how long the stream may be silent.
func (x *Exchange) limitIdle() {
	x.idle = int64(x.m.StreamIdleTimeout)
	if rt := x.dec.Route; rt != nil && rt.IdleTimeout != 0 {
		x.idle = int64(rt.IdleTimeout)
	}
}

// limitReply bounds how long a local reply waits for a client that does not
// take its body: as long as a stream may be silent. What the reply is for may
// be a deadline that has passed, and may have come before any was set.
func (x *Exchange) limitReply() {
	x.limitIdle()
	x.active, x.requestBy = x.core.Now, 0
	if x.deadline <= x.core.Now {
		x.deadline = 0
	}
	x.schedule()
}

// streamDuration is how long the stream may last; not positive: for ever.
func (x *Exchange) streamDuration() time.Duration {
	if rt := x.dec.Route; rt != nil && rt.MaxStreamDuration != 0 {
		return rt.MaxStreamDuration
	}
	return x.m.MaxStreamDuration
}

// routeTimeout is the route's timeout for this call.
func (x *Exchange) routeTimeout(rt *call.Route) time.Duration {
	if rt.OldGRPCTimeout && x.call.GRPC {
		return rt.GRPCTimeoutMax
	}
	return rt.Timeout
}

func (x *Exchange) usesGRPCTimeout() bool {
	return x.grpcClient >= 0 && x.call.GRPC && x.dec.Route != nil && x.dec.Route.UseGRPCTimeout
}

// startResponseTimeout begins the route's timeout, which runs from the end of
// the request to the end of the response (RouteAction.timeout).
func (x *Exchange) startResponseTimeout() {
	rt := x.dec.Route
	if rt == nil || x.usesGRPCTimeout() {
		return
	}
	d := x.routeTimeout(rt)
	if d <= 0 {
		return
	}
	at := x.core.Now.Add(d)
	if x.deadline == 0 || at < x.deadline {
		x.deadline, x.durationDL = at, false
		x.schedule()
	}
}

// armTry begins the per-try timeout.
func (x *Exchange) armTry(a *Attempt) {
	if rt := x.dec.Route; rt != nil && rt.Retry != nil && rt.Retry.PerTry > 0 {
		a.tryBy = x.core.Now.Add(rt.Retry.PerTry)
		x.schedule()
	}
}

// next is the earliest instant at which something is due.
func (x *Exchange) next() clock.Nanos {
	at := x.deadline
	if x.idle > 0 {
		at = earlier(at, x.active.Add(time.Duration(x.idle)))
	}
	at = earlier(at, x.requestBy)
	at = earlier(at, x.holdUntil)
	at = earlier(at, x.backoff)
	if x.att != nil {
		at = earlier(at, x.att.tryBy)
	}
	return at
}

func earlier(a, b clock.Nanos) clock.Nanos {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// schedule makes sure that the timer expires by the next instant that
// matters. An expiry that is too early costs one look; moving the timer for
// every frame would cost more.
func (x *Exchange) schedule() {
	at := x.next()
	if at == 0 || x.timer.Active() && x.timerAt <= at {
		return
	}
	x.timerAt = at
	x.core.Wheel.Set(&x.timer, at)
}

// Expire implements clock.Expirer.
func (x *Exchange) Expire(_ *clock.Timer, now clock.Nanos) {
	if f := x.core.Contain; f != nil {
		defer f(x.d, "timer")
	}
	switch {
	case x.state == stateNew || x.state == stateFinished:
		return
	case x.deadline != 0 && now >= x.deadline:
		if x.durationDL {
			x.core.Counters.Inc(x.m.Scope, call.DownstreamRqMaxDuration)
			x.reply(replyDuration)
			return
		}
		if a := x.att; a != nil && a.host != nil {
			a.count(call.UpstreamRqTimeout)
			if x.sent == sentNothing {
				a.unheard = true
				x.core.charge(a.scope, replyTimeout.HTTP)
			}
		}
		x.reply(replyTimeout)
		return
	case x.requestBy != 0 && now >= x.requestBy:
		x.core.Counters.Inc(x.m.Scope, call.DownstreamRqTimeout)
		x.reply(replyRequestTimeout)
		return
	case x.idle > 0 && now >= x.active.Add(time.Duration(x.idle)):
		x.core.Counters.Inc(x.m.Scope, call.DownstreamRqIdleTimeout)
		x.reply(replyIdle)
		return
	}
	if x.backoff != 0 && now >= x.backoff {
		x.backoff = 0
		x.try()
	} else if a := x.att; a != nil {
		switch {
		case a.tryBy != 0 && now >= a.tryBy:
			x.tryTimedOut(a)
		case x.holdUntil != 0 && now >= x.holdUntil:
			x.releaseHold(a)
		}
	}
	if x.state != stateFinished && x.state != stateNew {
		x.schedule()
	}
}

package xdsconfig

import (
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

const (
	defaultRetryBackOff = 25 * time.Millisecond // Envoy's base interval; the longest is ten times the base
	defaultRetryBuffer  = 256 << 10             // bytes of a request kept for sending it again
)

func (a *at) retryPolicy(m *routev3.RetryPolicy) *call.RetryPolicy {
	p := &call.RetryPolicy{
		Max:         1,
		PerTry:      max(m.GetPerTryTimeout().AsDuration(), 0),
		BackOffBase: defaultRetryBackOff,
		BufferLimit: defaultRetryBuffer,
	}
	if m.GetNumRetries() != nil {
		p.Max = int(m.GetNumRetries().GetValue())
	}
	on := a.field("retry_on")
	for _, word := range p.AddRetryOn(m.GetRetryOn()) {
		if word != "retriable-status-codes" {
			on.warnf("%q: ignored by this version", word)
			continue
		}
		for _, c := range m.GetRetriableStatusCodes() {
			p.HTTPCodes = append(p.HTTPCodes, int(c))
		}
	}
	b := m.GetRetryBackOff()
	if b.GetBaseInterval() != nil {
		p.BackOffBase = b.GetBaseInterval().AsDuration()
	}
	p.BackOffMax = 10 * p.BackOffBase
	if b.GetMaxInterval() != nil {
		if p.BackOffMax = b.GetMaxInterval().AsDuration(); p.BackOffMax < p.BackOffBase {
			a.field("retry_back_off").field("max_interval").errorf("must be greater than or equal to the base_interval")
		}
	}
	return p
}

// bufferLimit gives the route's retry policy the limit of the route or, if it
// has none, of its virtual host.
func (rt *routeCompiler) bufferLimit() {
	if rt.policy.Retry == nil {
		return
	}
	limit := int64(-1)
	switch vh := rt.vhostCompiler.m; {
	case rt.m.GetRequestBodyBufferLimit() != nil:
		limit = int64(rt.m.GetRequestBodyBufferLimit().GetValue())
	case rt.m.GetPerRequestBufferLimitBytes() != nil:
		limit = int64(rt.m.GetPerRequestBufferLimitBytes().GetValue())
	case vh.GetRequestBodyBufferLimit() != nil:
		limit = int64(vh.GetRequestBodyBufferLimit().GetValue())
	case vh.GetPerRequestBufferLimitBytes() != nil:
		limit = int64(vh.GetPerRequestBufferLimitBytes().GetValue())
	}
	if limit >= 0 {
		p := *rt.policy.Retry
		p.BufferLimit = limit
		rt.policy.Retry = &p
	}
}

package xdsconfig

import (
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// retryConditions are the words of retry_on that are about HTTP and its
// connections.
var retryConditions = map[string]call.RetryOn{
	"5xx":                  call.Retry5xx,
	"gateway-error":        call.RetryGatewayError,
	"reset":                call.RetryReset,
	"reset-before-request": call.RetryResetBeforeRequest,
	"connect-failure":      call.RetryConnectFailure,
	"refused-stream":       call.RetryRefusedStream,
	"retriable-4xx":        call.RetryRetriable4xx,
}

// retryGRPC are the words of retry_on that name a grpc-status. Envoy knows the
// first five.
var retryGRPC = map[string]call.Code{
	"cancelled":          call.Canceled,
	"deadline-exceeded":  call.DeadlineExceeded,
	"internal":           call.Internal,
	"resource-exhausted": call.ResourceExhausted,
	"unavailable":        call.Unavailable,
}

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
	for word := range strings.SplitSeq(m.GetRetryOn(), ",") {
		word = strings.TrimSpace(word)
		code, grpc := retryGRPC[word]
		switch {
		case word == "":
		case retryConditions[word] != 0:
			p.On |= retryConditions[word]
		case grpc:
			p.GRPCCodes |= 1 << code
		case word == "retriable-status-codes":
			for _, c := range m.GetRetriableStatusCodes() {
				p.HTTPCodes = append(p.HTTPCodes, int(c))
			}
		default:
			on.warnf("%q: ignored by this version", word)
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

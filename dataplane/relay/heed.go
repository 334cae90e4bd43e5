package relay

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// heedHeaders makes the route's policy what the request's x-envoy-… headers
// ask for (Envoy's router filter, FilterUtility::finalTimeout and
// RetryStateImpl). Only clients of our own are heeded.
func (x *Exchange) heedHeaders() {
	if x.dec.Route == nil || x.dec.Backends == nil {
		return
	}
	b, rt := &x.head, *x.dec.Route
	retry := call.RetryPolicy{Max: 1}
	if rt.Retry != nil {
		retry = *rt.Retry
	}
	if d, ok := millis(b, hdr.XEnvoyUpstreamRqTimeout); ok {
		rt.Timeout, rt.UseGRPCTimeout, rt.OldGRPCTimeout = d, rt.UseGRPCTimeout && !rt.OldGRPCTimeout, false
	}
	if d, ok := millis(b, hdr.XEnvoyUpstreamRqPerTryTimeout); ok {
		retry.PerTry = d
	}
	if rt.Timeout > 0 && retry.PerTry >= rt.Timeout {
		retry.PerTry = 0
	}
	if d, ok := millis(b, hdr.XEnvoyUpstreamStreamDuration); ok && d > 0 {
		rt.MaxStreamDuration, rt.TellDuration = d, false
	}
	for _, id := range [...]hdr.ID{hdr.XEnvoyRetryOn, hdr.XEnvoyRetryGRPCOn} {
		v, _ := b.Get(id)
		if !slices.Contains(retry.AddRetryOn(v), "retriable-status-codes") {
			continue
		}
		codes, _ := b.Get(hdr.XEnvoyRetriableStatusCodes)
		retry.HTTPCodes = slices.Clip(retry.HTTPCodes)
		for text := range strings.SplitSeq(codes, ",") {
			if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
				retry.HTTPCodes = append(retry.HTTPCodes, n)
			}
		}
	}
	if v, ok := b.Get(hdr.XEnvoyMaxRetries); ok {
		if n, err := strconv.ParseUint(v, 10, 16); err == nil {
			retry.Max = int(n)
		}
	}
	drop(b, noteRouter)
	rt.Retry = &retry
	x.dec.Route = &rt
}

// millis reads a header with a duration in milliseconds.
func millis(b *hpack.Block, id hdr.ID) (d time.Duration, ok bool) {
	v, ok := b.Get(id)
	if !ok {
		return 0, false
	}
	ms, err := strconv.ParseUint(v, 10, 31)
	return time.Duration(ms) * time.Millisecond, err == nil
}

package cluster

import (
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Host is one upstream endpoint of one cluster. It is safe for concurrent use.
type Host struct {
	// Set at creation.

	acc    *accounts // of its cluster
	key    hostKey
	target call.Target

	round uint64 // owned by the configuration goroutine: the last Update that saw the host

	// Atomic. attrs is stored by the configuration goroutine only.

	attrs   atomic.Pointer[attrs]
	retired atomic.Bool

	// Atomic and written for every attempt; away from what Pick only reads.

	_             [64]byte
	active        atomic.Int64
	total         atomic.Uint64
	errors        atomic.Uint64
	connectErrors atomic.Uint64
	successes     atomic.Uint64
	timeouts      atomic.Uint64
	_             [16]byte
	stats         call.HostStats
	_             [40]byte
}

var _ call.Host = (*Host)(nil)

// attrs is what an update may change about a host. Immutable.
type attrs struct {
	locality localityKey
	hostname string
	health   Health
	weight   uint32
	metadata Metadata
}

// localityKey identifies a locality within a priority level.
type localityKey struct {
	region, zone, subZone string
	priority              uint32
}

func (a *attrs) equal(b *attrs) bool {
	return a.locality == b.locality && a.hostname == b.hostname && a.health == b.health &&
		a.weight == b.weight && a.metadata.equal(b.metadata)
}

// setAttrs stores a copy, so that attributes that are only compared need no
// memory.
func (h *Host) setAttrs(a attrs) { h.attrs.Store(&a) }

// Target says how to connect.
func (h *Host) Target() *call.Target { return &h.target }

// Retired reports that the host left its cluster. Once true it stays true.
func (h *Host) Retired() bool { return h.retired.Load() }

// Hostname returns the endpoint's configured or resolved name; empty if none.
func (h *Host) Hostname() string { return h.attrs.Load().hostname }

// Metadata returns the endpoint's metadata; read-only.
func (h *Host) Metadata() Metadata { return h.attrs.Load().metadata }

// Active returns the number of attempts picked and not done.
func (h *Host) Active() int64 { return h.active.Load() }

// AcquireRetry takes one of the cluster's max_retries before an attempt that
// repeats one on this host; false means that the circuit breaker is open. Each
// true is followed by exactly one ReleaseRetry, on any host of the cluster.
func (h *Host) AcquireRetry() bool { return h.acc.retries.acquire() }

// ReleaseRetry gives back what AcquireRetry took.
func (h *Host) ReleaseRetry() { h.acc.retries.release() }

// failed has a bit for each gRPC code that Envoy counts as an error of the
// host: those whose HTTP equivalent is 5xx (Grpc::Utility::grpcToHttpStatus).
const failed uint32 = 1<<call.Unknown | 1<<call.DeadlineExceeded | 1<<call.Unimplemented |
	1<<call.Internal | 1<<call.Unavailable | 1<<call.DataLoss

// record counts how an attempt ended. What the downstream or the proxy itself
// did to the call says nothing about the host.
func (h *Host) record(o *call.Outcome) {
	if o.Side == call.SideDownstream || o.Side == call.SideLocal {
		return
	}
	if o.Flags&call.UpstreamRequestTimeout != 0 {
		h.timeouts.Add(1)
	}
	switch {
	case o.Flags&call.UpstreamConnFailure != 0:
		h.connectErrors.Add(1)
		h.errors.Add(1)
	case o.Flags&(call.UpstreamConnTerm|call.UpstreamRemoteReset|call.UpstreamRequestTimeout|call.UpstreamProtocolErr) != 0,
		o.HTTP >= 500,
		o.HasCode && o.Code < 32 && failed&(1<<o.Code) != 0:
		h.errors.Add(1)
	case o.HTTP != 0 && o.Flags == 0:
		h.successes.Add(1)
	}
}

package cluster

import (
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Handle names a cluster that may come, change and go. Routes hold handles, so
// that a route works as soon as its cluster is there and a replaced cluster
// needs no new route table. Safe for concurrent use.
type Handle struct {
	name    string
	missing *call.Reply // while it is empty
	cell    atomic.Pointer[Cluster]
}

var _ call.BackendSet = (*Handle)(nil)

// NewHandle returns an empty handle: calls to it get call.ReplyNoCluster
// with the name.
func NewHandle(name string) *Handle {
	return &Handle{name: name, missing: call.ReplyNoCluster.Naming(name)}
}

// Name returns the cluster's name.
func (h *Handle) Name() string { return h.name }

// Set makes c the cluster of the handle; nil empties it. It returns the cluster
// that was there before, which the caller closes when it is replaced.
func (h *Handle) Set(c *Cluster) (old *Cluster) { return h.cell.Swap(c) }

// Get returns the cluster, nil if there is none.
func (h *Handle) Get() *Cluster { return h.cell.Load() }

// Scope returns where the present cluster is counted: nowhere if there is none.
func (h *Handle) Scope() call.Scope {
	if c := h.cell.Load(); c != nil {
		return c.Scope()
	}
	return call.Scope{}
}

// Pick chooses a host of the present cluster.
func (h *Handle) Pick(c *call.Call, attempt int) (call.Host, error) {
	cl := h.cell.Load()
	if cl == nil {
		return nil, h.missing
	}
	return cl.Pick(c, attempt)
}

// Done reports to the cluster that picked host, which need not be the present
// one.
func (h *Handle) Done(host call.Host, o *call.Outcome) {
	done(host, o)
}

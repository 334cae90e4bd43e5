package route

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Action says what becomes of a request that took a route: exactly one of
// Clusters, ClusterHeader and Reply is set.
type Action struct {
	Name string // Route.name; for Explain

	Clusters      []WeightedCluster // RouteAction.cluster (one entry) or weighted_clusters
	ClusterHeader *ClusterHeader    // RouteAction.cluster_header
	Reply         *call.Reply       // direct_response, non_forwarding_action

	Route *call.Route // the policy of a Reply; clusters bring their own
	// NoCluster answers if a ClusterHeader names no cluster
	// (cluster_not_found_response_code); nil: call.ReplyNoCluster.
	NoCluster *call.Reply
}

// WeightedCluster is one destination of an Action. Its Backends are a cluster
// handle, bound for the call's life.
type WeightedCluster struct {
	Weight   uint32 // share of the sum of all weights; ignored if alone
	Backends call.BackendSet
	Route    *call.Route
	Header   *ClusterHeader // ClusterWeight.cluster_header, instead of Backends
}

// ClusterHeader takes the cluster's name from a request header, the first
// value if it occurs more than once.
type ClusterHeader struct {
	Name string
	// Lookup returns the handle of the cluster of that name and the policy of
	// the route with it; no Backends, but the policy, if there is no such
	// cluster. Called with "" if there is no such header. Called per
	// request by all workers; must neither block, nor allocate for a known
	// name, nor keep the string, which dies with the call.
	Lookup func(cluster string) (call.BackendSet, *call.Route)
}

// action is a compiled Action. The destination of an action with one cluster
// lies in it; everything else is behind more.
type action struct {
	backends call.BackendSet
	route    *call.Route
	more     *choice
}

// choice is what an action needs that does not simply name one cluster.
type choice struct {
	clusters  []WeightedCluster
	ends      []uint32 // running sum of the weights; as long as clusters
	header    *ClusterHeader
	noCluster *call.Reply
	reply     *call.Reply
}

// decide makes the decision for a call. What it returns never leads back to
// the table: only the destination's handle and its policy.
func (a *action) decide(c *call.Call) (call.Decision, error) {
	if a.more == nil {
		return call.Decision{Backends: a.backends, Route: a.route}, nil
	}
	m := a.more
	switch {
	case m.reply != nil:
		return call.Decision{Reply: m.reply, Route: a.route}, nil
	case m.header != nil:
		return m.byHeader(c, m.header)
	}
	// The draw, scaled from 32 bits to the sum of the weights, lies in
	// [0, sum): 2^31 of a sum of 100 is 50, and with weights 50 and 50 (ends
	// 50 and 100) the second cluster's.
	draw := uint32(c.Rand & math.MaxUint32 * uint64(m.ends[len(m.ends)-1]) >> 32)
	i, _ := slices.BinarySearch(m.ends, draw+1)
	cl := &m.clusters[i]
	if cl.Header != nil {
		return m.byHeader(c, cl.Header)
	}
	return call.Decision{Backends: cl.Backends, Route: cl.Route}, nil
}

func (m *choice) byHeader(c *call.Call, h *ClusterHeader) (call.Decision, error) {
	name, n := headerValue(c, h.Name)
	set, rt := h.Lookup(name)
	if n > 0 && set != nil {
		return call.Decision{Backends: set, Route: rt}, nil
	}
	missing := call.ReplyNoCluster
	if m.noCluster != nil {
		missing = m.noCluster
	}
	if n > 0 {
		missing = missing.Naming(name)
	}
	return call.Decision{Route: rt}, missing
}

func compileAction(a *Action) (action, error) {
	kinds := 0
	for _, set := range [...]bool{len(a.Clusters) > 0, a.ClusterHeader != nil, a.Reply != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return action{}, errors.New("action: want exactly one of clusters, cluster header and reply")
	}
	if len(a.Clusters) == 1 && a.Clusters[0].Header == nil && a.Clusters[0].Backends != nil {
		return action{backends: a.Clusters[0].Backends, route: a.Clusters[0].Route}, nil
	}
	m := &choice{reply: a.Reply, noCluster: a.NoCluster}
	var errs []error
	if a.ClusterHeader != nil {
		var err error
		m.header, err = compileClusterHeader(a.ClusterHeader)
		errs = append(errs, err)
	}
	var sum uint64
	for i, cl := range a.Clusters {
		switch {
		case (cl.Header == nil) == (cl.Backends == nil):
			errs = append(errs, fmt.Errorf("action: clusters[%d]: want either backends or a cluster header", i))
		case cl.Header != nil:
			var err error
			cl.Header, err = compileClusterHeader(cl.Header)
			errs = append(errs, err)
		}
		if len(a.Clusters) == 1 {
			cl.Weight = 1
		}
		sum += uint64(cl.Weight)
		m.clusters = append(m.clusters, cl)
		m.ends = append(m.ends, uint32(min(sum, math.MaxUint32)))
	}
	// WeightedCluster: the sum must be positive and fit 32 bits.
	switch {
	case len(a.Clusters) > 0 && sum == 0:
		errs = append(errs, errors.New("action: the weights' sum must be greater than 0"))
	case sum > math.MaxUint32:
		errs = append(errs, fmt.Errorf("action: the weights' sum %d exceeds %d", sum, uint32(math.MaxUint32)))
	}
	if err := errors.Join(errs...); err != nil {
		return action{}, err
	}
	return action{route: a.Route, more: m}, nil
}

func compileClusterHeader(h *ClusterHeader) (*ClusterHeader, error) {
	if h.Name == "" || h.Lookup == nil {
		return nil, errors.New("action: cluster header without name or lookup")
	}
	c := *h
	c.Name = lower(c.Name)
	if c.Name == "host" {
		c.Name = ":authority"
	}
	return &c, nil
}

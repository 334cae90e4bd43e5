package controlplane

import (
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// state is one state of a group's resources on its way to the proxies, with
// what is derived from it. Immutable and shared by all nodes of the group.
type state struct {
	res      Resources
	versions map[string]string // by type URL
	snapshot *cachev3.Snapshot
}

func newState(r Resources) *state {
	s := &state{res: r, versions: map[string]string{}, snapshot: r.cacheSnapshot()}
	for _, url := range typeURLs {
		s.versions[url] = s.snapshot.GetVersion(url)
	}
	return s
}

func (s *state) same(o *state) bool { return maps.Equal(s.versions, o.versions) }

// step is one part of a change: publish a state, then wait until the node has
// taken in what the next step builds on.
type step struct {
	*state
	wait []waitFor
}

// waitFor is a version of a type to be accepted and, if any, the names that
// must be among what was accepted.
type waitFor struct {
	url, version string
	names        []string
}

// What a proxy must have before it is told of something that uses it, and what
// it must have dropped before that goes away.
var (
	usedTypes  = []string{resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.SecretType, resourcev3.ExtensionConfigType, resourcev3.RuntimeType}
	usingTypes = []string{resourcev3.ListenerType, resourcev3.RouteType, resourcev3.ScopedRouteType, resourcev3.VirtualHostType}
)

// plan returns the steps that lead from one state to another without a moment
// in which a route names a cluster that the proxy has not got: make, swap,
// break. A step that changes nothing is left out, so most changes are one.
func plan(from, to *state) []step {
	if from == nil {
		return []step{{state: to}}
	}
	make1 := maps.Clone(from.res)
	for _, url := range usedTypes {
		make1[url] = union(from.res[url], to.res[url])
	}
	made := newState(make1)
	swapped := newState(made.res.with(to.res, usingTypes...))

	var steps []step
	last := from
	add := func(s *state, wait ...waitFor) {
		if !s.same(last) {
			steps = append(steps, step{s, wait})
			last = s
		}
	}
	// Waiting is for the sake of the next step only.
	var wait []waitFor
	if !swapped.same(made) {
		for _, url := range usedTypes[:2] { // clusters and endpoints
			if made.versions[url] != from.versions[url] {
				wait = append(wait, waitFor{url: url, version: made.versions[url]})
			}
		}
		if names := newAssignments(from.res, to.res); len(names) > 0 && len(wait) > 0 {
			wait = append(wait, waitFor{resourcev3.EndpointType, made.versions[resourcev3.EndpointType], names})
		}
	}
	add(made, wait...)
	wait = nil
	if !to.same(swapped) {
		for _, url := range usingTypes[:2] { // listeners and routes
			if swapped.versions[url] != made.versions[url] {
				wait = append(wait, waitFor{url: url, version: swapped.versions[url]})
			}
		}
	}
	add(swapped, wait...)
	add(to)
	if n := len(steps); n > 0 {
		steps[n-1] = step{state: to} // the very state, so that the next plan starts from it
	}
	return steps
}

// newAssignments returns the sorted names of the endpoint resources that
// clusters of to need and clusters of from do not.
func newAssignments(from, to Resources) []string {
	var out []string
	for name, r := range to[resourcev3.ClusterType] {
		if _, old := from[resourcev3.ClusterType][name]; old {
			continue
		}
		cl, ok := r.Message.(*clusterv3.Cluster)
		if !ok || cl.GetType() != clusterv3.Cluster_EDS {
			continue
		}
		eds := cl.GetEdsClusterConfig().GetServiceName()
		if eds == "" {
			eds = name
		}
		if _, ok := to[resourcev3.EndpointType][eds]; ok && !slices.Contains(out, eds) {
			out = append(out, eds)
		}
	}
	slices.Sort(out)
	return out
}

package route

import "github.com/sluice-proxy/sluice/dataplane/call"

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

// ClusterHeader takes the cluster's name from a request header.
type ClusterHeader struct {
	Name string
	// Lookup returns the handle of the cluster of that name and the policy of
	// the route with it; no Backends if there is no such cluster. Called per
	// request by all workers; must neither block nor allocate for a known name.
	Lookup func(cluster string) (call.BackendSet, *call.Route)
}

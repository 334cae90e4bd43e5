// Package grpcclient makes grpc-go channels to our own clusters: for the xDS
// streams that the bootstrap says go to a cluster.
//
// A channel has at most one connection. For each attempt to connect it asks the
// cluster's call.BackendSet for a host, and it reports the fate of the
// connection back, so that the cluster's load balancing and outlier detection
// count these hosts as they count those of proxied calls.
//
// It does not balance single RPCs over hosts, and a connection to a host that
// has left the cluster lives until it ends of itself.
package grpcclient

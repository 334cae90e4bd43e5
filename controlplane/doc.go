// Package controlplane is Sluice's companion control plane: it reads xDS
// resources from a directory, checks each by compiling it as the data plane
// would, and publishes them to the proxies over ADS.
//
// The way of a change:
//
//	directory ──Load──▶ Config ──check──▶ Store (revisions) ──publish──▶ go-control-plane cache ──▶ xDS server
//	                                                         ▲                                        │
//	                                                         └───────────── ACKs (nodes) ◀────────────┘
//
// A group whose files are bad keeps its last good revision, and the error says
// which file, resource and field is at fault. A change reaches each proxy in
// the order that loses no call: new clusters and their endpoints first, routes
// and listeners once the proxy has taken those in, removals last.
//
// Reading order: dir.go and parse.go (from files to groups of resources),
// check.go, store.go (the last good revisions), state.go (what is served),
// plan.go (the steps of a change), publisher.go (which proxy gets which step),
// nodes.go and track.go (what proxies have confirmed), known.go (what they are
// not sent again), callbacks.go and server.go (the xDS server), watcher.go.
//
// Goroutines: Serve owns the publisher's, the watcher's, which also loads, and
// those of the gRPC server, whose callbacks write into the node table.
//
// It does not discover services and does not talk to Kubernetes; it is driven
// by files.
package controlplane

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
// It does not discover services and does not talk to Kubernetes; it is driven
// by files.
package controlplane

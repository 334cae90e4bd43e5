// Package cluster chooses hosts. A Cluster is what routes point to: it takes
// Assignments (from EDS, DNS or a static list) on the configuration goroutine
// and answers Pick on every worker.
//
// # Who owns what
//
// Update turns an Assignment into an immutable set of pickers and publishes it
// behind one atomic pointer, so that a Pick sees exactly one set: never the
// hosts of one update with the weights of another. What outlives an update is
// in Host and Cluster and is atomic: request counts, cursors, retirement.
//
// A Host is known by its network and address. While an address stays in the
// assignment its Host stays the same value, with its connections and counters,
// whatever its weight, health, priority, locality or metadata become. A Host
// that leaves is retired for good: when its address comes back it is a new
// Host. Retirement therefore changes only once, from false to true, and a
// worker that has seen it may close the host's connections without asking
// again.
//
// # How a host is chosen
//
// As Envoy does: a priority level and its healthy or degraded hosts by the
// load that health gives them (load.go); then, if locality_weighted_lb is
// configured, a locality by weight (set.go); then a host by the policy
// (picker.go). An unhealthy level may panic and use all its hosts.
//
// # What this package does not do
//
// It opens no sockets, reads no clock, starts no goroutines and takes no
// locks. Names are resolved by package discovery; pools of connections belong
// to the workers, which count against max_connections and max_pending_requests
// in the call.Limits that all hosts of a cluster's versions share.
package cluster

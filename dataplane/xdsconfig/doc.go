// Package xdsconfig turns Envoy's configuration protobufs into the runtime
// objects of the data plane, and applies what a control plane sends.
//
// # Compile
//
// [CompileListener], [CompileRoutes], [CompileCluster] and [CompileEndpoints]
// go from the protobuf straight to what the workers use; there is no model in
// between. They touch nothing: no socket, no shared state but counter scopes
// and cluster handles that [Env] hands out. A control plane calls them before
// it publishes. All errors are returned, each with the resource's name and the
// field's path; a field this version does nothing with is honoured, ignored
// with a warning or refused as support_table.go says.
//
// # Manager
//
// [Attach] starts a [Manager]: the owner of the configuration of one server.
// It compiles and starts what the bootstrap has, subscribes to a control plane,
// and applies what comes: make (bind, warm), swap (one atomic store), break
// (drain what nothing refers to any more).
//
// One goroutine, Manager.run, owns all of it. Four others compile, one per
// resource type, so that endpoints never wait behind a large route table; what
// they make is handed to run, which only joins and swaps. Reading order:
// manager.go, intake.go (from a response to compiled resources), clusters.go,
// endpoint_updates.go, listeners.go, route_updates.go, gate.go (what waits for
// what at the start), dump.go.
//
// # What this package does not do
//
// It does not speak the xDS protocol (package xdsclient), choose routes or
// hosts (packages route and cluster), open listening sockets (the Server that
// it is attached to) or resolve names (package discovery).
package xdsconfig

// Package dataplane is the embeddable proxy: a Server that takes compiled
// listeners, accepts their connections and relays the calls that come in on
// them. Read this page first.
//
// # What is where
//
// A Server owns sockets that listen and a worker.Group. Everything else of a
// call's way has a package of its own:
//
//	listener  what a listener is, and which filter chain a connection gets
//	worker    the connections: sockets, timers, buffers, upstream pools
//	h2        HTTP/2 itself, without I/O
//	relay     one call: the downstream stream and its upstream attempts
//	call      the two doors to whoever steers: Director (where does a call
//	          go) and BackendSet (which host serves this attempt)
//	route     route tables, a Director         cluster   hosts, a BackendSet
//
// Package xdsconfig drives a Server from a control plane. An embedder can do
// without it: a Director and a BackendSet of one's own, a call.Manager, one
// listener.Chain and one listener.Listener make a proxy (see the example).
//
// # How a change becomes visible
//
// Make, swap, break. Bind reserves the addresses of a listener, so that an
// address that is taken refuses the configuration before anything has changed.
// Serve listens on what is not listening yet and swaps the filter chains in
// atomically: a connection is bound to its filter chain for life, but a chain
// whose Key stands picks up its new Manager with the next call, on all its
// connections and without draining one. Chains whose Key is gone drain: their
// connections get GOAWAY, finish the calls they carry, and close. Remove stops
// listening and drains what is left.
//
// # What a connection's way is
//
// The goroutine of its address accepts it and asks the listener's table for
// its filter chain; the least loaded worker then has it for its life, on one
// goroutine of its own that sleeps in the runtime's poller. Calls need no
// goroutine.
//
// If some chain has TLS, or asks what the client says first, a goroutine looks
// at the first bytes, lets the TLS ClientHello choose the chain, and shakes
// hands, before a worker gets the connection. Those goroutines are bounded in
// number and time, and share tokens for computing (package worker).
//
// # What it does not do
//
// It reads no configuration, speaks no xDS and knows no protobuf. It speaks HTTP/2 with prior knowledge only; HTTP/1.1 clients
// get an error. It handles no signals, and writes nothing but to the logger it
// is given.
package dataplane

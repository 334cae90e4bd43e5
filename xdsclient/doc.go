// Package xdsclient speaks the xDS transport protocol: it keeps a stream to a
// control plane, tells it what the proxy wants, hands over what comes, and
// answers each response with the ACK or NACK that its taker gives.
//
// It knows no resource type. A [Handler] gets resources as unparsed Any
// messages and ends each [Response] with Done; what a resource means, what
// refers to what and when something is warm is decided elsewhere. Only the
// order of first requests looks at type URLs (types.go).
//
// A [Client] is one stream: the aggregated one (ADS), or the stream of a
// single type. The variants of the protocol hide behind the interface protocol;
// state-of-the-world is in sotw.go. [GRPC] is the transport; another one can be
// plugged in. Resources in files (path_config_source) need no stream: their
// reader makes a [Response] with [NewResponse].
//
// The package does not speak REST, and does not honour a resource's time to
// live: a resource stays until the control plane takes it back.
//
// The protocol is described in
// https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol.
package xdsclient

// Package transport is TLS as configuration describes it: contexts for the
// server and the client side, the secrets they use, and how a peer's
// certificate is judged. It follows Envoy: what its TLS contexts mean, which
// certificate a server name gets, and which peers are refused.
//
// A context is immutable but for its secrets, which are cells (Secret): a new
// certificate or trust bundle is stored, the handshakes that follow use it, and
// connections that exist are not touched. Sessions are resumed only within the
// context, and the generation of its secrets, that they were made in.
//
// The package makes *tls.Config values and runs no handshake itself: package
// worker does. It reads files (Files), opens no socket, and knows no protobufs:
// package xdsconfig compiles them into the options here.
package transport

// Package grpcproxy is a transparent gRPC proxy for programs that have a
// grpc.Server of their own: it relays calls without knowing their messages.
// Read this page first.
//
// # What is where
//
//	Frame, Codec                  a message as it was on the wire
//	StreamDirector, Backend       where a call goes (director.go)
//	TransparentHandler            relays what the server does not know itself
//	RegisterService               relays named methods
//	One2One                       one backend (one.go)
//	One2Many                      several, responses merged (many.go, merge.go)
//	Replicated                    several, the first one's response (replicate.go)
//	PeekHandler, Peek             the first message decides (peek.go)
//	RegisterStreamHandlers        methods answered here
//	NewXDSDirector                routes, endpoints and filters from xDS (xds*.go)
//	NewServer, Middleware         a proxy with listener and lifecycle (server.go)
//	Forwarder, ConnectionCache    backends by address, one connection each
//	Pool                          several connections per address
//	ServerOptions, DialOptions    what makes grpc-go cheaper as a proxy (tuning.go)
//
// Package grpcproxy/proxy has the shape of mwitkow/grpc-proxy, and package
// grpcproxy/sidero/proxy is this one under the name of siderolabs/grpc-proxy.
// The migration pages in docs/migration say what became of each function of the
// family.
//
// # What the backend and the client see
//
// What each sent: messages byte by byte, metadata, the content-subtype, the
// deadline; the response's headers as soon as they are there, its trailers and
// its status with details. A call ends for both sides when it ends for one. An
// error says whose it is: the backend's status as it was, UNAVAILABLE if it
// could not be reached, the client's own cancellation or deadline.
//
// # What it does not do
//
// grpc-go terminates compression, user-agent and :authority at each hop,
// buffers whole messages, and fails a call with INTERNAL whose metadata, of the
// request or the response's headers, is not printable ASCII (in -bin all is
// well). Where that matters, or CPU time does, embed package
// dataplane instead: it relays HTTP/2 frames.
package grpcproxy

// Package h2 is an HTTP/2 endpoint without I/O: the server role faces
// downstream clients, the client role faces upstream hosts.
//
// A Conn is fed the bytes that arrived (Feed), calls its Handler inline for
// what they mean, and appends what must be sent to a chunk list (Output) which
// a driver writes. Time comes in as an argument. The package knows no sockets,
// clocks, goroutines or locks: everything about one Conn happens under its
// worker's lock, and the same machine runs in the proxy, in frame scripts, in
// fuzzers and in deterministic simulations. Two runs with the same input
// produce the same bytes.
//
// What it enforces: RFC 9113 (states, flow control, message validation), the
// abuse limits of limits.go, and bounded output. What it does not do: gRPC
// (package relay), sockets and TLS (package worker), choosing a connection for
// a stream (the pool), server push (refused), RFC 7540 priorities (ignored).
//
// # Contract with the driver
//
// After every call that may have produced output the Handler's Pending was
// called; the driver then, at the end of its batch, calls Deliver, writes
// Output and reports what the socket took with Wrote, also when it took
// nothing. When Dead reports true the driver writes what is left of Output
// once, closes the socket and calls Close, which frees the rest. It calls Tick
// at NextTick.
package h2

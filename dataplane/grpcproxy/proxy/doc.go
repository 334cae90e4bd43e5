// Package proxy has the shape of the oldest of the gRPC proxies for Go: a
// director gives a context and a connection, and one call makes a server of a
// connection. A program written for it changes its import path; see
// docs/migration/mwitkow.md.
//
// It is a thin layer over package grpcproxy, which has everything else:
// several backends for a call, middlewares, pools, xDS.
package proxy

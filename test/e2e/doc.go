// Package e2e tests the two real binaries with real sockets and real grpc-go
// peers. It counts every call: none may be lost in an update, a restart of the
// control plane or a bad resource.
package e2e

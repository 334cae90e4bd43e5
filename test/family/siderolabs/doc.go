// Package proxy is where siderolabs/grpc-proxy's own tests appear while they
// run; see ../main.go. Its name is the one that their files have.
package proxy

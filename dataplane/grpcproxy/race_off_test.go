//go:build !race

package grpcproxy_test

// concurrentCalls is how many of the calls are in progress at once: all.
const concurrentCalls = 10_000

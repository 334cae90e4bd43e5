//go:build race

package grpcproxy_test

// concurrentCalls is what fits: the race detector ends a program that has more
// than 8,128 goroutines at once, and a call here has up to twenty.
const concurrentCalls = 250

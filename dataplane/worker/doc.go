// Package worker owns connections: their sockets (through a Driver), timers,
// buffers, upstream pools and the exchanges that run on them.
//
// A Group has N workers. Everything a worker owns is touched only under its
// one mutex, in batches: take the lock, read the clock once, feed what was
// read, drain the inbox, run due timers, write what the batch produced, give
// the lock back. Two workers never touch one object; what other goroutines
// want of a worker they post to its inbox.
//
// The package does not know HTTP/2 (package h2 does), nor what happens to a
// call (package relay), nor how calls are routed (call.Director).
package worker

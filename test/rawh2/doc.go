// Package rawh2 is a bare HTTP/2 client and server for tests: it sends the
// frames it is told to, in that order, and keeps what came back as it came.
//
// Nothing is checked, retried, reordered or hidden: header fields keep order,
// duplicates, empty values and the never-indexed mark; resets keep their code;
// 1xx blocks, trailers and zero-length DATA are entries of a stream's log. What
// both ends do by themselves can be switched off: acknowledging SETTINGS and
// PING, and giving credit for DATA.
//
// It is no server for load and no general client.
package rawh2

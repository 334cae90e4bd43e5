// Package route is the compiled route table: which virtual host and which
// route a request takes, and so which cluster it goes to.
//
// A Builder takes virtual hosts and their routes in configuration order and
// makes a Table. A Table answers exactly what Envoy's linear first-match scan
// over the same configuration answers, but looks only at the few routes whose
// path can match (index.go, cursor.go) and, where many have the same path, at
// those that the request's headers and parameters point to (split.go). It is
// immutable, implements call.Director for any number of workers at once, and
// does not allocate.
//
// What stays linear: among routes that the index cannot tell apart, each is
// tried. Those are routes with the same path condition and no matcher for the
// exact value of a header or parameter (prefixes, ranges, presence, inverted
// matchers, any case, fractions), routes whose prefixes all begin the same
// path, and regexes without a text of their own (literal.go). docs/adr/0008
// has figures.
//
// Reading order: match.go (what a route asks of a request), action.go (where
// it sends it), table.go (how one is found), explain.go (why).
//
// The package is pure: it knows no protobufs (package xdsconfig fills the
// Builder), no cluster (only call.BackendSet), no socket and no clock. Random
// draws and runtime values are arguments of a match, never baked in.
package route

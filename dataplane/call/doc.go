// Package call is the vocabulary between the streaming core and everything
// that steers it: what a call looks like (Call), who chooses its route
// (Director) and its host (BackendSet), what was decided (Decision, Route,
// Reply), and how it ended (Outcome, Flags).
//
// It is a leaf: it imports nothing of ours but the header types of h2 and the
// clock's instants, and it knows neither sockets nor xDS. Routing tables
// (package route), clusters (package cluster) and an embedder's own code all
// meet the core here, and only here.
package call

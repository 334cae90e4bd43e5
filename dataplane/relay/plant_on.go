//go:build plant

package relay

// Planted is the fault planted now; a test of the simulation sets it.
var Planted Plant

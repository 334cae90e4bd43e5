//go:build race

package e2e

// raceEnabled: the race detector slows the process under test about tenfold.
const raceEnabled = true

//go:build race

package route

// raceEnabled: package regexp allocates then, for the pool of its machines
// drops some on purpose.
const raceEnabled = true

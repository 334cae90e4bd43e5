//go:build !plant

package relay

// Planted is the fault planted in this build: none.
const Planted = PlantNone

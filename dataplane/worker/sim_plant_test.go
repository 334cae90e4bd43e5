//go:build plant

package worker

import (
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/relay"
)

// TestSimulationFindsPlanted tests the test: every fault that can be planted
// must fail one of 50 worlds. Run it with -tags plant.
func TestSimulationFindsPlanted(t *testing.T) {
	defer func() { relay.Planted = relay.PlantNone }()
	for p := relay.PlantNone + 1; p < relay.Plants; p++ {
		relay.Planted = p
		found := uint64(0)
		for seed := uint64(1); seed <= 50 && found == 0; seed++ {
			if failure := plantedWorld(t, seed); failure != "" {
				found = seed
				t.Logf("fault %d: world %d: %.150s", p, seed, failure)
			}
		}
		if found == 0 {
			t.Errorf("fault %d was not found in 50 worlds", p)
		}
	}
}

// plantedWorld runs a world in which a panic counts as found.
func plantedWorld(t *testing.T, seed uint64) (failure string) {
	defer func() {
		if r := recover(); r != nil {
			failure = "panic"
		}
	}()
	_, failure = runWorld(t, seed)
	return failure
}

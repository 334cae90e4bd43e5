package cluster

import (
	"testing"
)

// of100 is a priority level of 100 hosts.
func of100(healthy, degraded int) level {
	return level{
		hosts: 100, healthy: healthy, degraded: degraded,
		weight: 100, healthyWght: uint64(healthy), degradedW: uint64(degraded),
	}
}

// The examples that Envoy's documentation publishes, "Priority levels",
// "Degraded endpoints" and "Panic threshold". Some of them are rounded by hand:
// 5 % and 65 % are said to give 7 and 93, and Envoy's integers give 8 and 92.
// So one percent is tolerated here; TestDistributeExact has the integers.
func TestDistributeDocumented(t *testing.T) {
	for _, test := range []struct {
		name     string
		levels   []level
		healthy  []uint32
		degraded []uint32 // nil: all zero
		panics   []bool   // nil: none
	}{
		{name: "100, 100", levels: []level{of100(100, 0), of100(100, 0)}, healthy: []uint32{100, 0}},
		{name: "72, 100", levels: []level{of100(72, 0), of100(100, 0)}, healthy: []uint32{100, 0}},
		{name: "71, 100", levels: []level{of100(71, 0), of100(100, 0)}, healthy: []uint32{99, 1}},
		{name: "50, 100", levels: []level{of100(50, 0), of100(100, 0)}, healthy: []uint32{70, 30}},
		{name: "25, 100", levels: []level{of100(25, 0), of100(100, 0)}, healthy: []uint32{35, 65}},
		{name: "0, 100", levels: []level{of100(0, 0), of100(100, 0)}, healthy: []uint32{0, 100}},

		{name: "72, 72", levels: []level{of100(72, 0), of100(72, 0)}, healthy: []uint32{100, 0}},
		{name: "71, 71", levels: []level{of100(71, 0), of100(71, 0)}, healthy: []uint32{99, 1}},
		{name: "50, 50", levels: []level{of100(50, 0), of100(50, 0)}, healthy: []uint32{70, 30}},
		{name: "25, 25", levels: []level{of100(25, 0), of100(25, 0)}, healthy: []uint32{50, 50}, panics: []bool{true, true}},
		{name: "5, 65", levels: []level{of100(5, 0), of100(65, 0)}, healthy: []uint32{7, 93}, panics: []bool{true, false}},

		{name: "100, 100, 100", levels: []level{of100(100, 0), of100(100, 0), of100(100, 0)}, healthy: []uint32{100, 0, 0}},
		{name: "72, 72, 100", levels: []level{of100(72, 0), of100(72, 0), of100(100, 0)}, healthy: []uint32{100, 0, 0}},
		{name: "71, 71, 100", levels: []level{of100(71, 0), of100(71, 0), of100(100, 0)}, healthy: []uint32{99, 1, 0}},
		{name: "50, 50, 100", levels: []level{of100(50, 0), of100(50, 0), of100(100, 0)}, healthy: []uint32{70, 30, 0}},
		{name: "25, 100, 100", levels: []level{of100(25, 0), of100(100, 0), of100(100, 0)}, healthy: []uint32{35, 65, 0}},
		{name: "25, 25, 100", levels: []level{of100(25, 0), of100(25, 0), of100(100, 0)}, healthy: []uint32{35, 35, 30}},

		{name: "100/0/0", levels: []level{of100(100, 0)}, healthy: []uint32{100}},
		{name: "71/0/29", levels: []level{of100(71, 0)}, healthy: []uint32{100}},
		{name: "71/29/0", levels: []level{of100(71, 29)}, healthy: []uint32{99}, degraded: []uint32{1}},
		{name: "25/65/10", levels: []level{of100(25, 65)}, healthy: []uint32{35}, degraded: []uint32{65}},
		{name: "5/0/95", levels: []level{of100(5, 0)}, healthy: []uint32{100}, panics: []bool{true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i, got := range distribute(test.levels, 140, 50, false) {
				var degraded uint32
				if test.degraded != nil {
					degraded = test.degraded[i]
				}
				if near(got.healthy, test.healthy[i]) > 1 || near(got.degraded, degraded) > 1 {
					t.Errorf("level %d: %d healthy, %d degraded, want %d, %d", i, got.healthy, got.degraded, test.healthy[i], degraded)
				}
				if want := test.panics != nil && test.panics[i]; got.panic != want {
					t.Errorf("level %d: panic %v, want %v", i, got.panic, want)
				}
			}
		})
	}
}

func near(a, b uint32) uint32 { return max(a, b) - min(a, b) }

// Envoy's integer arithmetic, and what its documentation says in words.
func TestDistributeExact(t *testing.T) {
	small := level{hosts: 1, healthy: 0, weight: 1}
	for _, test := range []struct {
		name          string
		levels        []level
		overprovision uint32
		threshold     uint32
		byWeight      bool
		want          []load
	}{
		{"the first available level gets the remainder", []level{of100(25, 0), of100(25, 0), of100(20, 0)}, 140, 0, false,
			[]load{{healthy: 37}, {healthy: 35}, {healthy: 28}}},
		{"not a level that is down", []level{of100(0, 0), of100(25, 0), of100(25, 0), of100(20, 0)}, 140, 0, false,
			[]load{{}, {healthy: 37}, {healthy: 35}, {healthy: 28}}},
		{"5 % and 65 %", []level{of100(5, 0), of100(65, 0)}, 140, 50, false,
			[]load{{healthy: 8, panic: true}, {healthy: 92}}},
		{"Envoy's example of health 10/20/10 and degraded 20/10/0", []level{of100(10, 20), of100(20, 10), of100(10, 0)}, 100, 0, false,
			[]load{{healthy: 16, degraded: 28}, {healthy: 28, degraded: 14}, {healthy: 14}}},
		{"degraded hosts of P=0 come after healthy ones of P=1", []level{of100(0, 100), of100(50, 0)}, 140, 50, false,
			[]load{{degraded: 30}, {healthy: 70}}},
		{"only degraded", []level{of100(0, 30)}, 140, 0, false, []load{{degraded: 100}}},
		{"degraded hosts keep a level from panic", []level{of100(10, 40)}, 140, 50, false, []load{{healthy: 20, degraded: 80}}},
		{"all down: by hosts", []level{of100(0, 0), {hosts: 300}}, 140, 50, false,
			[]load{{healthy: 25, panic: true}, {healthy: 75, panic: true}}},
		{"all in panic: by hosts, the remainder to the first", []level{{hosts: 1}, {hosts: 1}, {hosts: 1}}, 140, 50, false,
			[]load{{healthy: 34, panic: true}, {healthy: 33, panic: true}, {healthy: 33, panic: true}}},
		{"panic disabled, all down", []level{of100(0, 0), of100(0, 0)}, 140, 0, false, []load{{healthy: 100}, {}}},
		{"panic disabled", []level{of100(5, 0)}, 140, 0, false, []load{{healthy: 100}}},
		{"a threshold of 100", []level{of100(71, 0)}, 140, 100, false, []load{{healthy: 100, panic: true}}},
		{"at the threshold", []level{of100(50, 0)}, 140, 50, false, []load{{healthy: 100}}},
		{"below the threshold", []level{of100(49, 0)}, 140, 50, false, []load{{healthy: 100, panic: true}}},
		{"enough in all together: no panic", []level{of100(10, 0), of100(100, 0)}, 140, 50, false, []load{{healthy: 14}, {healthy: 86}}},
		{"no overprovisioning", []level{of100(72, 0), of100(100, 0)}, 100, 50, false, []load{{healthy: 72}, {healthy: 28}}},
		{"one host down", []level{small}, 140, 50, false, []load{{healthy: 100, panic: true}}},
		{"by weight", []level{{hosts: 2, healthy: 1, weight: 100, healthyWght: 10}, of100(100, 0)}, 140, 50, true,
			[]load{{healthy: 14}, {healthy: 86}}},
		{"the same by number", []level{{hosts: 2, healthy: 1, weight: 100, healthyWght: 10}, of100(100, 0)}, 140, 50, false,
			[]load{{healthy: 70}, {healthy: 30}}},
		{"health rounds to nothing", []level{{hosts: 1000, healthy: 0}, {hosts: 1000, healthy: 30}}, 1, 1, false,
			[]load{{healthy: 100, panic: true}, {}}},
		{"none", nil, 140, 50, false, []load{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := distribute(test.levels, test.overprovision, test.threshold, test.byWeight)
			if len(got) != len(test.want) {
				t.Fatalf("%d loads, want %d", len(got), len(test.want))
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("level %d: %+v, want %+v", i, got[i], test.want[i])
				}
			}
		})
	}
}

// Whatever the levels, all of the load is given out.
func TestDistributeAll(t *testing.T) {
	rnd := random(1)
	for range 20_000 {
		levels := make([]level, 1+rnd.IntN(5))
		for i := range levels {
			l := level{hosts: 1 + rnd.IntN(300)}
			l.healthy = rnd.IntN(l.hosts + 1)
			l.degraded = rnd.IntN(l.hosts - l.healthy + 1)
			l.weight, l.healthyWght, l.degradedW = uint64(l.hosts)*7, uint64(l.healthy), uint64(l.degraded)*6
			levels[i] = l
		}
		over, threshold, byWeight := uint32(1+rnd.IntN(300)), uint32(rnd.IntN(120)), rnd.IntN(2) == 0
		var sum uint32
		loads := distribute(levels, over, threshold, byWeight)
		for _, l := range loads {
			sum += l.healthy + l.degraded
		}
		if sum != 100 {
			t.Fatalf("loads %+v add up to %d for %+v, %d %%, threshold %d", loads, sum, levels, over, threshold)
		}
	}
}

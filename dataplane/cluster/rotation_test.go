package cluster

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// take returns the next n indices of r from step 0 of its sequence on.
func take(r *rotation, n int) []int {
	r.cursor.Store(math.MaxUint64)
	out := make([]int, n)
	for i := range out {
		out[i] = r.next(0)
	}
	return out
}

func TestRotationCycles(t *testing.T) {
	for _, test := range []struct {
		name    string
		weights []uint64
		want    []int
	}{
		{"one", []uint64{9}, []int{0, 0, 0}},
		{"equal", []uint64{5, 5, 5}, []int{0, 1, 2, 0, 1, 2}},
		{"3 to 1", []uint64{3, 1}, []int{0, 0, 1, 0, 0, 0, 1, 0}},
		{"the same in percent", []uint64{75, 25}, []int{0, 0, 1, 0, 0, 0, 1, 0}},
		{"5, 1, 1", []uint64{5, 1, 1}, []int{0, 0, 0, 1, 2, 0, 0}},
		{"1, 2, 3", []uint64{1, 2, 3}, []int{2, 1, 0, 2, 1, 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, take(newRotation(test.weights), len(test.want))); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

// Long cycles follow the golden ratio: after any number of steps each index has
// had its share, give or take a few, and never waits long.
func TestRotationLongCycle(t *testing.T) {
	rnd := random(3)
	weights := make([]uint64, 50)
	var sum uint64
	for i := range weights {
		weights[i] = 1000 + rnd.Uint64N(50_000)
		sum += weights[i]
	}
	r := newRotation(weights)
	if r.schedule != nil || r.weights == nil {
		t.Fatal("the cycle is not a long one")
	}
	const steps = 20_000
	count := make([]int, len(weights))
	last := make([]int, len(weights))
	for step, i := range take(r, steps) {
		count[i]++
		share := float64(weights[i]) / float64(sum)
		if off := float64(count[i]) - share*float64(step+1); math.Abs(off) > 4 {
			t.Fatalf("step %d: index %d had %d turns, %.1f off", step, i, count[i], off)
		}
		// The gaps of an interval of share p are below 1/p·(1+φ²).
		if gap := float64(step - last[i]); last[i] > 0 && gap*share > 3.62 {
			t.Fatalf("step %d: index %d waited %v steps with a share of %v", step, i, gap, share)
		}
		last[i] = step
	}
}

// Rotations of the same weights begin at places that the draw chooses.
func TestRotationStart(t *testing.T) {
	rnd := random(4)
	starts := make([]int, 10)
	for range 10_000 {
		r := newRotation(slices.Repeat([]uint64{1}, len(starts)))
		starts[r.next(rnd.Uint64())]++
	}
	for i, n := range starts {
		if n < 850 || n > 1150 { // 5 standard deviations
			t.Errorf("%d of 10,000 began with %d", n, i)
		}
	}
	a, b := newRotation([]uint64{1, 1, 1}), newRotation([]uint64{1, 1, 1})
	if a.next(77<<32) != b.next(77<<32) {
		t.Error("the same draw began at different places")
	}
}

// find agrees with a scan, at every boundary and for any skew.
func TestPrefixFind(t *testing.T) {
	rnd := random(5)
	for _, weights := range [][]uint64{
		{1}, {1, 1}, {1, 1 << 32}, {1 << 32, 1}, {3, 1, 4, 1, 5, 9, 2, 6},
		append(slices.Repeat([]uint64{1}, 5000), math.MaxUint32), // all but one in the guide's first part
		append([]uint64{math.MaxUint32}, slices.Repeat([]uint64{1}, 5000)...),
		slices.Repeat([]uint64{math.MaxUint32}, 3000),
	} {
		p := newPrefix(weights)
		check := func(x uint64) {
			point := below(x, p.total)
			want := slices.IndexFunc(p.ends, func(end uint64) bool { return end > point })
			if got := p.find(x); got != want {
				t.Fatalf("%d weights: find(%#x) = %d, want %d", len(weights), x, got, want)
			}
		}
		check(0)
		check(math.MaxUint64)
		for range 2000 {
			check(rnd.Uint64())
			// Around the end of a random index.
			end := float64(p.ends[rnd.IntN(len(weights))]) / float64(p.total)
			x := uint64(min(end*math.Exp2(64), math.Exp2(64)-2048))
			check(x - min(x, 1))
			check(x)
			check(x + 1)
		}
	}
}

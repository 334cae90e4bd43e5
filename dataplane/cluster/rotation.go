package cluster

import (
	"cmp"
	"math/bits"
	"slices"
	"sort"
	"sync/atomic"
)

// rotation takes indices in turn, each as often as its weight says, spread as
// evenly as can be. It is a fixed sequence and an atomic cursor, so that any
// number of workers share one rotation without a lock, and together see the
// sequence.
//
// Equal weights: 0, 1, 2, …. A short cycle (Σ weights / gcd ≤ maxSchedule) is
// precomputed: weights 3 and 1 give 0 0 1 0. A longer one follows the golden
// ratio instead: step k stands at the fraction k·φ of the weights laid end to
// end, which visits an interval of share p after gaps of at most three
// different lengths, all about 1/p (the three-distance theorem), and after n
// steps n·p ± O(log n) times.
type rotation struct {
	n        uint64
	schedule []uint16 // nil, or one cycle
	weights  *prefix  // nil, or for long cycles

	_      [88]byte // the cursor is written by every worker
	cursor atomic.Uint64
	_      [56]byte
}

const (
	maxSchedule = 4096
	golden      = 0x9E3779B97F4A7C15 // 2^64/φ
)

// newRotation returns a rotation for weights, which must be positive.
func newRotation(weights []uint64) *rotation {
	r := &rotation{n: uint64(len(weights))}
	var divisor, sum uint64
	equal := true
	for _, w := range weights {
		divisor = gcd(w, divisor)
		sum += w
		equal = equal && w == weights[0]
	}
	switch {
	case equal:
	case sum/divisor <= maxSchedule:
		r.schedule = newSchedule(weights, divisor, sum/divisor)
	default:
		r.weights = newPrefix(weights)
	}
	return r
}

// next returns the next index. The first call jumps to a random place, so that
// many proxies that got the same hosts at the same time do not start with the
// same one.
func (r *rotation) next(draw uint64) int {
	if r.n == 1 {
		return 0
	}
	k := r.cursor.Add(1)
	if k == 1 {
		k = r.cursor.Add(draw >> 32)
	}
	switch {
	case r.schedule != nil:
		return int(r.schedule[k%uint64(len(r.schedule))])
	case r.weights != nil:
		return r.weights.find(k * golden)
	}
	return int(k % r.n)
}

// newSchedule returns a cycle of the given length in which i comes
// weights[i]/divisor times: its j-th turn is due at (j+1/2)/weight of the
// cycle, and turns come in the order they are due.
func newSchedule(weights []uint64, divisor, length uint64) []uint16 {
	type turn struct{ at, weight, index uint64 } // due at at/weight
	turns := make([]turn, 0, length)
	for i, w := range weights {
		w /= divisor
		for j := range w {
			turns = append(turns, turn{2*j + 1, w, uint64(i)})
		}
	}
	slices.SortFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.at*b.weight, b.at*a.weight), cmp.Compare(a.index, b.index))
	})
	out := make([]uint16, len(turns))
	for i, t := range turns {
		out[i] = uint16(t.index)
	}
	return out
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// prefix finds the index that a point of the weights laid end to end falls on.
// Immutable.
type prefix struct {
	ends  []uint64 // ends[i] = Σ weights[0..i]
	total uint64
	// guide[b] is the first index whose end lies beyond the b-th of n equal
	// parts of the total: the search for a point of that part is between
	// guide[b] and guide[b+1], about one step on average.
	guide []uint32
}

func newPrefix(weights []uint64) *prefix {
	n := uint64(len(weights))
	p := &prefix{ends: make([]uint64, n), guide: make([]uint32, n+1)}
	for i, w := range weights {
		p.total += w
		p.ends[i] = p.total
	}
	i := uint64(0)
	for b := range n {
		hi, lo := bits.Mul64(b, p.total)
		start, _ := bits.Div64(hi, lo, n)
		for p.ends[i] <= start {
			i++
		}
		p.guide[b] = uint32(i)
	}
	p.guide[n] = uint32(n - 1)
	return p
}

// find returns the index at the fraction x/2^64 of the total.
func (p *prefix) find(x uint64) int {
	point := below(x, p.total)
	part := below(x, uint64(len(p.ends)))
	lo, hi := int(p.guide[part]), int(p.guide[part+1])
	if hi-lo <= 8 {
		for lo < hi && p.ends[lo] <= point {
			lo++
		}
		return lo
	}
	return lo + sort.Search(hi-lo, func(i int) bool { return p.ends[lo+i] > point })
}

// weight returns the weight of index i.
func (p *prefix) weight(i int) uint64 {
	if i == 0 {
		return p.ends[0]
	}
	return p.ends[i] - p.ends[i-1]
}

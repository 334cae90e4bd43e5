package telemetry

import (
	"fmt"
	"math"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// Histogram counts whole numbers by their magnitude: bucket i those below 2^i
// that are in no lower one, the last bucket all others.
type Histogram struct {
	Buckets []uint64
	Sum     uint64
}

// Count returns how many numbers were counted.
func (h *Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// most is the largest number that bucket i counts.
func (h *Histogram) most(i int) uint64 {
	if i >= len(h.Buckets)-1 {
		return math.MaxUint64
	}
	return 1<<i - 1
}

// quantiles are those that the text shows.
var quantiles = [...]float64{50, 90, 99, 99.9, 100}

// String tells the quantiles in Envoy's notation. Each is an upper bound: the
// largest number of the bucket it falls into, less than twice what it is.
func (h *Histogram) String() string {
	n := h.Count()
	if n == 0 {
		return "No recorded values"
	}
	var b strings.Builder
	for i, q := range quantiles {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "P%g(%d)", q, h.quantile(q, n))
	}
	return b.String()
}

func (h *Histogram) quantile(q float64, n uint64) uint64 {
	rank := uint64(math.Ceil(q / 100 * float64(n)))
	for i, b := range h.Buckets {
		if b >= rank {
			return h.most(i)
		}
		rank -= b
	}
	return h.most(len(h.Buckets))
}

func (h *Histogram) prometheus() *dto.Histogram {
	n := h.Count()
	out := &dto.Histogram{SampleCount: proto.Uint64(n), SampleSum: proto.Float64(float64(h.Sum))}
	below := uint64(0)
	for i, b := range h.Buckets[:len(h.Buckets)-1] {
		below += b
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: proto.Float64(float64(h.most(i))), CumulativeCount: proto.Uint64(below)})
	}
	return out
}

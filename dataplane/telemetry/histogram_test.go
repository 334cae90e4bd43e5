package telemetry

import (
	"strings"
	"testing"
)

// TestHistogram: quantiles are the upper bounds of their buckets, and
// Prometheus gets cumulative buckets.
func TestHistogram(t *testing.T) {
	h := &Histogram{Buckets: []uint64{10, 0, 80, 9, 0, 1}, Sum: 300} // 0, 1, 2-3, 4-7, 8-15, more
	if got, want := h.String(), "P50(3) P90(3) P99(7) P99.9(18446744073709551615) P100(18446744073709551615)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := (&Histogram{Buckets: make([]uint64, 3)}).String(); got != "No recorded values" {
		t.Errorf("empty: %s", got)
	}
	var b strings.Builder
	r := NewRegistry()
	r.Func(func(add func(Stat)) { add(Stat{Name: "x.us", Base: "x.us", Value: h.Count(), Histogram: h}) })
	if err := r.Read(nil, nil).WritePrometheus(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# TYPE envoy_x_us histogram\n", `envoy_x_us_bucket{le="0"} 10` + "\n", `envoy_x_us_bucket{le="7"} 99` + "\n",
		`envoy_x_us_bucket{le="+Inf"} 100` + "\n", "envoy_x_us_sum 300\n", "envoy_x_us_count 100\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

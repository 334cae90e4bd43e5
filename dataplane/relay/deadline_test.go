package relay

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestParseTimeout(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
	}{
		{"1n", 1},
		{"99999999n", 99999999},
		{"20u", 20 * time.Microsecond},
		{"100m", 100 * time.Millisecond},
		{"15S", 15 * time.Second},
		{"3M", 3 * time.Minute},
		{"2H", 2 * time.Hour},
		{"0S", 0},
		{"00000007m", 7 * time.Millisecond},
		{"99999999H", maxTimeout},
		{"", -1},
		{"5", -1},
		{"m", -1},
		{"123456789m", -1}, // nine digits
		{"-1S", -1},
		{"1s", -1},
		{"1.5S", -1},
		{" 1S", -1},
	}
	for _, tt := range tests {
		if got := parseTimeout(tt.in); got != int64(tt.want) {
			t.Errorf("parseTimeout(%q) = %d, want %d", tt.in, got, tt.want)
		}
	}
}

// TestAppendTimeout: what is written can be read, is never longer than what was
// meant, and loses less than one part in 10^5.
func TestAppendTimeout(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 10_000 {
		d := time.Duration(math.Exp(rnd.Float64() * math.Log(float64(maxTimeout))))
		s := string(appendTimeout(nil, d))
		got := time.Duration(parseTimeout(s))
		if got < 0 || got > d || float64(d-got) > float64(d)/1e5 {
			t.Fatalf("%v became %q, which is %v", d, s, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0n", -5: "0n", 99999999: "99999999n", 100 * time.Millisecond: "100000u", 100 * time.Second: "100000m", 365 * 24 * time.Hour: "31536000S"} {
		if got := string(appendTimeout(nil, d)); got != want {
			t.Errorf("appendTimeout(%d) = %q, want %q", d, got, want)
		}
	}
}

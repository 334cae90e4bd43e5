package xdsclient

import (
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait between attempts: exponentially from Base to Max,
// with jitter (ApiConfigSource's grpc_services.retry_policy.retry_back_off).
type Backoff struct {
	Base time.Duration // 0: 500 ms, Envoy's default
	Max  time.Duration // 0: 30 s, Envoy's default; with only Base set, 10 * Base as in Envoy, if more
}

func (b Backoff) withDefaults() Backoff {
	const base, most = 500 * time.Millisecond, 30 * time.Second
	if b.Max <= 0 {
		b.Max = max(most, 10*b.Base)
	}
	if b.Base <= 0 {
		b.Base = min(base, b.Max)
	}
	b.Max = max(b.Max, b.Base)
	return b
}

// delay is the wait after n attempts before this one failed: uniform in
// [d/2, d] with d = min(Base * 2^n, Max), e.g. with the defaults 250..500 ms,
// 500 ms..1 s, 1..2 s, and from n = 6 on 15..30 s.
func (b Backoff) delay(n int) time.Duration {
	d := b.Max
	if n < 32 && b.Base<<n > 0 {
		d = min(b.Base<<n, b.Max)
	}
	return d/2 + rand.N(d/2+1)
}

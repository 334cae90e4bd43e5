package discovery

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// result is what one round of look-ups of a name gave.
type result struct {
	name  string
	addrs []netip.Addr
	ttl   time.Duration
	err   error
}

// follow looks a name up until ctx ends.
func (r *Resolver) follow(ctx context.Context, name string, results chan<- result) {
	failures := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		res := r.resolve(ctx, name)
		if ctx.Err() != nil {
			return // the failure is our own end
		}
		select {
		case <-ctx.Done():
			return
		case results <- res:
		}
		if res.err != nil {
			failures++
			timer.Reset(r.backoff(failures))
		} else {
			failures = 0
			timer.Reset(r.refresh(res))
		}
	}
}

// refresh returns the time to the next look-up after a success.
func (r *Resolver) refresh(res result) time.Duration {
	d := r.cfg.RefreshRate
	if r.cfg.RespectTTL && len(res.addrs) > 0 && res.ttl > 0 {
		d = max(res.ttl, r.cfg.MinRefreshRate)
	}
	return d + r.random(r.cfg.Jitter)
}

// backoff returns the time to the next look-up after the n-th failure in a row.
func (r *Resolver) backoff(n int) time.Duration {
	if r.cfg.FailureBase <= 0 {
		return r.cfg.RefreshRate
	}
	d := r.cfg.FailureBase
	for ; n > 1 && d < r.cfg.FailureMax; n-- {
		d *= 2
	}
	d = min(d, r.cfg.FailureMax)
	return d/2 + r.random(d-d/2)
}

// random returns a duration in [0, d).
func (r *Resolver) random(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.cfg.Rand() % uint64(d))
}

// resolve asks for the families that are configured.
func (r *Resolver) resolve(ctx context.Context, name string) result {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	res := result{name: name}
	var failure error
	ask := func(v6 bool) {
		answer, err := r.cfg.Lookup.Lookup(ctx, name, v6)
		if err != nil {
			failure = fmt.Errorf("resolve %q: %w", name, err)
			return
		}
		for _, a := range answer.Addrs {
			res.addrs = append(res.addrs, a.Unmap())
		}
		if answer.TTL > 0 && (res.ttl == 0 || answer.TTL < res.ttl) {
			res.ttl = answer.TTL
		}
	}
	switch r.cfg.Family {
	case V4Only:
		ask(false)
	case V6Only:
		ask(true)
	case All:
		ask(false)
		ask(true)
	default:
		v6first := r.cfg.Family == Auto
		ask(v6first)
		if len(res.addrs) == 0 {
			ask(!v6first)
		}
	}
	// With the addresses of one family the failure of the other does no harm.
	if len(res.addrs) == 0 {
		res.err = failure
	}
	return res
}

package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// ep returns an endpoint.
func ep(address string, weight uint32, health Health) Endpoint {
	return Endpoint{Address: address, Weight: weight, Health: health}
}

// level0 returns an assignment with one locality of priority 0.
func level0(endpoints ...Endpoint) *Assignment {
	return &Assignment{Localities: []Locality{{Endpoints: endpoints}}}
}

// weighted returns endpoints h0, h1, … with the given weights, all healthy.
func weighted(weights ...uint32) *Assignment {
	var l Locality
	for i, w := range weights {
		l.Endpoints = append(l.Endpoints, ep(fmt.Sprintf("h%d:1", i), w, HealthHealthy))
	}
	return &Assignment{Localities: []Locality{l}}
}

// equalHosts returns n endpoints of weight 1.
func equalHosts(n int) *Assignment {
	w := make([]uint32, n)
	for i := range w {
		w[i] = 1
	}
	return weighted(w...)
}

// unlimited is a config whose circuit breakers never open.
func unlimited(p Policy) Config {
	return Config{Name: "c", Policy: p, Breakers: Breakers{Default: &Thresholds{MaxRequests: 1 << 30, MaxRetries: 1 << 30}}}
}

func newCluster(t testing.TB, cfg Config, a *Assignment) *Cluster {
	t.Helper()
	c := New(cfg)
	c.Update(a)
	return c
}

// random returns a generator with a fixed seed.
func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 42)) }

// picks makes n first attempts, done at once, and counts them by address.
func picks(t testing.TB, c *Cluster, n int, rnd *rand.Rand) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for range n {
		h, err := c.Pick(&call.Call{Draw: rnd.Uint64()}, 0)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Target().Address]++
		c.Done(h, nil)
	}
	return got
}

// host returns the host of an address, nil if there is none.
func (c *Cluster) host(address string) *Host { return c.byKey[hostKey{"tcp", address}] }

package cluster

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// hostsOfSet returns the hosts by address.
func hostsOfSet(c *Cluster) map[string]*Host {
	out := make(map[string]*Host)
	for _, h := range c.set.Load().hosts {
		out[h.key.address] = h
	}
	return out
}

// A version of a cluster with another policy, other circuit breakers and partly
// other endpoints:
//
//  1. hosts of both are the same, with the new attributes;
//  2. those that only the old one had are retired, when it is closed;
//  3. a call of the old version is still counted, and ends in the new one;
//  4. the new limits hold;
//  5. updates go on as if nothing had happened.
func TestAdopt(t *testing.T) {
	options := &call.UpstreamOptions{ConnectTimeout: time.Second}
	limits := func(requests uint32) Breakers {
		return Breakers{Default: &Thresholds{MaxRequests: requests, MaxRetries: 1}}
	}
	h := NewHandle("c")
	old := New(Config{Name: "c", Options: options, Breakers: limits(10)})
	old.Update(level0(ep("a", 1, HealthHealthy), ep("b", 1, HealthHealthy), ep("gone", 1, HealthHealthy)))
	h.Set(old)
	before := hostsOfSet(old)
	running, err := h.Pick(&call.Call{}, 0)
	if err != nil {
		t.Fatal(err)
	}

	equal := *options
	c := New(Config{Name: "c", Options: &equal, Breakers: limits(2), Policy: Policy{Kind: LeastRequest}})
	for range 7 { // so that the counts of updates differ
		c.Update(level0(ep("x", 1, HealthHealthy)))
		c.Update(level0(ep("new", 1, HealthHealthy), ep("a", 5, HealthDegraded), ep("b", 1, HealthHealthy)))
	}
	c.Adopt(old)
	h.Set(c)
	old.Close()

	after := hostsOfSet(c)
	if len(after) != 3 || after["a"] != before["a"] || after["b"] != before["b"] {
		t.Errorf("hosts %v, before %v", after, before)
	}
	if got := c.Hosts()[1]; got.Weight != 5 || got.Health != HealthDegraded {
		t.Errorf("a has the old attributes: %+v", got)
	}
	for address, want := range map[string]bool{"a": false, "b": false, "gone": true} {
		if got := before[address].Retired(); got != want {
			t.Errorf("%s: retired %v, want %v", address, got, want)
		}
	}

	if n := c.Counts().Requests; n != 1 {
		t.Errorf("%d requests, want the one that runs", n)
	}
	second, err := h.Pick(&call.Call{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Pick(&call.Call{}, 0); !errors.Is(err, call.ReplyOverflow) {
		t.Errorf("the third request of two: %v", err)
	}
	h.Done(running, nil)
	h.Done(second, nil)
	if n := c.Counts().Requests; n != 0 {
		t.Errorf("%d requests are left", n)
	}

	if !c.Update(level0(ep("b", 1, HealthHealthy), ep("a", 1, HealthHealthy))) {
		t.Error("an update changed nothing")
	}
	if got := hostsOfSet(c); len(got) != 2 || got["a"] != before["a"] || got["b"] != before["b"] || !after["new"].Retired() {
		t.Errorf("hosts %v after an update", got)
	}
}

// Hosts that are connected to in another way are others.
func TestAdoptOtherOptions(t *testing.T) {
	base := call.UpstreamOptions{ConnectTimeout: time.Second}
	for name, change := range map[string]func(o *call.UpstreamOptions){
		"timeout": func(o *call.UpstreamOptions) { o.ConnectTimeout++ },
		"http2":   func(o *call.UpstreamOptions) { o.HTTP2.InitialStreamWindowSize = 1 << 20 },
		"scope":   func(o *call.UpstreamOptions) { o.Cluster.Index++ },
	} {
		old := newCluster(t, Config{Options: &base}, equalHosts(3))
		before := old.set.Load().hosts
		o := base
		change(&o)
		c := newCluster(t, Config{Options: &o}, equalHosts(3))
		own := slices.Clone(c.set.Load().hosts)
		c.Adopt(old)
		old.Close()
		if !slices.Equal(c.set.Load().hosts, own) {
			t.Errorf("%s: hosts changed", name)
		}
		for _, h := range before {
			if !h.Retired() {
				t.Errorf("%s: %s is not retired", name, h.key.address)
			}
		}
	}
}

// Versions follow one another while workers pick: no count is lost.
func TestAdoptConcurrently(t *testing.T) {
	h := NewHandle("c")
	version := func(kind PolicyKind) *Cluster {
		cfg := unlimited(Policy{Kind: kind})
		cfg.Options = &call.UpstreamOptions{}
		return newCluster(t, cfg, equalHosts(5))
	}
	present := version(RoundRobin)
	h.Set(present)
	first := hostsOfSet(present)
	var stop atomic.Bool
	var loops sync.WaitGroup
	for w := range 3 {
		loops.Go(func() {
			rnd := random(uint64(w))
			for !stop.Load() {
				if host, err := h.Pick(&call.Call{Draw: rnd.Uint64()}, 0); err == nil {
					h.Done(host, &call.Outcome{})
				}
			}
		})
	}
	for i := range 200 {
		next := version(PolicyKind(i % 3))
		next.Adopt(present)
		h.Set(next)
		present.Close()
		present = next
	}
	stop.Store(true)
	loops.Wait()
	if n := present.Counts().Requests; n != 0 {
		t.Errorf("%d requests are left", n)
	}
	for address, host := range hostsOfSet(present) {
		if host != first[address] || host.Retired() || host.Active() != 0 {
			t.Errorf("%s: another host, retired or with %d calls", address, host.Active())
		}
	}
}

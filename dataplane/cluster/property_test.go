package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// expected returns the share of the calls that each address should get. It is
// written from the rules alone: endpoints without duplicates, levels, loads,
// localities, weights.
func expected(a *Assignment, panicThreshold uint32, localityWeighted bool) map[string]float64 {
	type member struct {
		Endpoint
		zone string
	}
	seen := make(map[string]bool)
	byPriority := make(map[uint32][]member)
	localityWeight := make(map[string]float64) // by priority and zone
	localityHosts := make(map[string]float64)
	for _, l := range a.Localities {
		zone := fmt.Sprint(l.Priority, l.Zone)
		if l.Weight > 0 {
			localityWeight[zone] = float64(l.Weight)
		}
		for _, e := range l.Endpoints {
			if !seen[e.Address] {
				seen[e.Address] = true
				e.Weight = max(e.Weight, 1)
				byPriority[l.Priority] = append(byPriority[l.Priority], member{e, zone})
				localityHosts[zone]++
			}
		}
	}
	var priorities []uint32
	for p := range byPriority {
		priorities = append(priorities, p)
	}
	slices.Sort(priorities)

	only := func(in []member, keep func(Health) bool) (out []member) {
		for _, m := range in {
			if keep(m.Health) {
				out = append(out, m)
			}
		}
		return out
	}
	healthy := func(h Health) bool { return h == HealthUnknown || h == HealthHealthy }
	degraded := func(h Health) bool { return h == HealthDegraded }
	var levels []level
	for _, p := range priorities {
		in := byPriority[p]
		levels = append(levels, level{hosts: len(in), healthy: len(only(in, healthy)), degraded: len(only(in, degraded))})
	}

	shares := make(map[string]float64)
	byWeight := func(in []member, share float64) {
		var sum float64
		for _, m := range in {
			sum += float64(m.Weight)
		}
		for _, m := range in {
			shares[m.Address] += share * float64(m.Weight) / sum
		}
	}
	give := func(in []member, share float64, localities bool) {
		zones := make(map[string][]member)
		for _, m := range in {
			zones[m.zone] = append(zones[m.zone], m)
		}
		effective := make(map[string]float64)
		var sum float64
		for zone, in := range zones {
			effective[zone] = localityWeight[zone] * min(1, 1.4*float64(len(in))/localityHosts[zone])
			sum += effective[zone]
		}
		if !localities || sum == 0 {
			byWeight(in, share)
			return
		}
		for zone, in := range zones {
			byWeight(in, share*effective[zone]/sum)
		}
	}
	for i, ld := range distribute(levels, 140, panicThreshold, false) {
		in := byPriority[priorities[i]]
		if ld.panic {
			give(in, float64(ld.healthy+ld.degraded)/100, false)
			continue
		}
		if ld.healthy > 0 {
			give(only(in, healthy), float64(ld.healthy)/100, localityWeighted)
		}
		if ld.degraded > 0 {
			give(only(in, degraded), float64(ld.degraded)/100, localityWeighted)
		}
	}
	return shares
}

func randomAssignment(rnd *rand.Rand) *Assignment {
	a := new(Assignment)
	sick := rnd.IntN(3) // how many of three hosts are anything but healthy
	for range 1 + rnd.IntN(6) {
		l := Locality{Zone: fmt.Sprint(rnd.IntN(3)), Priority: uint32(rnd.IntN(3)), Weight: uint32(rnd.IntN(4))}
		for range rnd.IntN(8) {
			e := ep(fmt.Sprint(rnd.IntN(40)), 1, HealthHealthy)
			if rnd.IntN(3) < sick {
				e.Health = Health(rnd.IntN(6))
			}
			switch rnd.IntN(4) {
			case 0:
				e.Weight = uint32(rnd.IntN(10))
			case 1:
				e.Weight = 1 + rnd.Uint32N(1_000_000)
			}
			l.Endpoints = append(l.Endpoints, e)
		}
		a.Localities = append(a.Localities, l)
	}
	return a
}

// Over random assignments, policies and settings only hosts with a share are
// picked, and each as often as its share, within five standard deviations.
// Each cluster lives through several assignments.
func TestRandomAssignments(t *testing.T) {
	const n = 8000
	rnd := random(11)
	for round := range 90 {
		threshold := uint32(rnd.IntN(2) * 50)
		cfg := unlimited(Policy{Kind: PolicyKind(round % 3)})
		cfg.PanicThreshold = &threshold
		cfg.LocalityWeighted = rnd.IntN(2) == 0
		c := New(cfg)
		for range 3 {
			a := randomAssignment(rnd)
			c.Update(a)
			want := expected(a, threshold, cfg.LocalityWeighted)
			if len(want) == 0 {
				continue // nothing may be picked: TestHealthDecides
			}
			got := picks(t, c, n, rnd)
			for address, count := range got {
				if want[address] == 0 {
					t.Fatalf("round %d: %s was picked and is not eligible in %+v", round, address, a)
				}
				if c.host(address).Retired() {
					t.Fatalf("round %d: %s was picked and is retired", round, address)
				}
				p := want[address]
				if off := math.Abs(float64(count) - n*p); off > 5*math.Sqrt(n*p*(1-p))+5 {
					t.Fatalf("round %d, %v, threshold %d, localities %v: %s had %d picks, want %.0f in %+v",
						round, cfg.Policy.Kind, threshold, cfg.LocalityWeighted, address, count, n*p, a)
				}
			}
		}
	}
}

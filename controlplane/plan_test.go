package controlplane

import (
	"fmt"
	"math/rand/v2"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// randomState has some of six EDS clusters with their endpoints, and routes to
// those that it has. Everything exists in two contents.
func randomState(t testing.TB, r *rand.Rand) *state {
	var list []proto.Message
	var clusters []string
	for i := range 6 {
		if name := fmt.Sprintf("c%d", i); r.IntN(2) == 0 {
			clusters = append(clusters, name)
			list = append(list, edsCluster(name, 1+r.IntN(2)), assignment(name, r.IntN(2)))
		}
	}
	for i := range 3 {
		if len(clusters) > 0 && r.IntN(3) > 0 {
			list = append(list, routeTo(fmt.Sprintf("r%d", i), clusters[r.IntN(len(clusters))], clusters[r.IntN(len(clusters))]))
		}
	}
	return newState(resources(t, list...))
}

// uses returns the clusters that a state's routes name.
func uses(s *state) map[string]bool {
	out := map[string]bool{}
	for _, r := range (*s)[resourcev3.RouteType].byName {
		for _, to := range references(r.Message) {
			out[to.name] = true
		}
	}
	return out
}

// From random states to random others, with the aim sometimes changing on the
// way: no step has a route to a cluster that the step before has not, no step
// drops a cluster that a route of the step before uses, and the aim is reached
// in three steps.
func TestPlanLosesNoCluster(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 3000 {
		at, to := randomState(t, r), randomState(t, r)
		swapping := r.IntN(4) == 0
		for steps := 0; at != to; {
			if r.IntN(8) == 0 {
				to, steps = randomState(t, r), 0
			}
			if steps++; steps > 3 {
				t.Fatalf("seed %d round %d: not there after 3 steps", seed, round)
			}
			st, kind := nextStep(at, to, swapping)
			before, after := (*at)[resourcev3.ClusterType].byName, (*st)[resourcev3.ClusterType].byName
			for c := range uses(st) {
				if before[c] == nil && kind != stepMake || after[c] == nil {
					t.Fatalf("seed %d round %d: step %d has a route to %s, which was not there before", seed, round, kind, c)
				}
			}
			if kind == stepMake && !st.same(at, usingTypes...) {
				t.Fatalf("seed %d round %d: a step that waits for nothing changes routes", seed, round)
			}
			for c := range uses(at) {
				if after[c] == nil {
					t.Fatalf("seed %d round %d: step %d drops %s, to which there was a route", seed, round, kind, c)
				}
			}
			for c := range before {
				if swapping && after[c] == nil && kind != stepBreak {
					t.Fatalf("seed %d round %d: step %d drops %s before the swap is confirmed", seed, round, kind, c)
				}
			}
			switch kind {
			case stepSwap:
				swapping = true
			case stepBreak:
				swapping = false
			}
			at = st
		}
	}
}

// Changes of one kind are one step, and the state that is published is the aim
// itself.
func TestPlanOfOneStep(t *testing.T) {
	base := []proto.Message{edsCluster("a", 1), edsCluster("b", 1), assignment("a", 0), assignment("b", 0), routeTo("r", "a", "b"), listener("l")}
	with := func(i int, m ...proto.Message) *state {
		list := append([]proto.Message{}, base...)
		return newState(resources(t, append(append(list[:i:i], m...), base[i+1:]...)...))
	}
	from := newState(resources(t, base...))
	tests := []struct {
		name string
		to   *state
		kind stepKind
	}{
		{"weights of endpoints", with(2, assignment("a", 1)), stepMake},
		{"weights of routes", with(4, routeTo("r", "b", "a")), stepSwap},
		{"a cluster changes", with(0, edsCluster("a", 2)), stepMake},
		{"a cluster comes", with(5, base[5], edsCluster("c", 1), assignment("c", 1)), stepMake},
		{"a cluster that nothing uses goes", with(1), stepMake},
		{"a listener goes", with(5), stepSwap},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if st, kind := nextStep(from, tt.to, false); st != tt.to || kind != tt.kind {
				t.Errorf("step of kind %d, the aim itself: %v; want kind %d", kind, st == tt.to, tt.kind)
			}
		})
	}
}

// Content that is the same is the same version, whatever made it; a state is
// shared, so nothing may be written when it is served.
func TestStateVersions(t *testing.T) {
	a := newState(resources(t, edsCluster("a", 1), assignment("a", 0)))
	b := newState(resources(t, assignment("a", 0), edsCluster("a", 1)))
	if !a.same(b, typeURLs...) {
		t.Error("same content, other version")
	}
	c := newState(resources(t, edsCluster("a", 2), assignment("a", 0)))
	if a.same(c, resourcev3.ClusterType) || !a.same(c, resourcev3.EndpointType) {
		t.Error("the version of clusters alone should differ")
	}
	rc := routeTo("r", "a")
	r := newState(resources(t, rc))
	var back routev3.RouteConfiguration
	enc, err := proto.Marshal(r.GetResources(resourcev3.RouteType)["r"])
	if err == nil {
		err = proto.Unmarshal(enc, &back)
	}
	if err != nil || !proto.Equal(rc, &back) {
		t.Errorf("an encoded resource came back as %v, error %v", &back, err)
	}
}

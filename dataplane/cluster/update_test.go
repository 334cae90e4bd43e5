package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Each case changes one thing of an assignment, and either that has a meaning
// or the set stays what it is.
func TestUpdateComparesMeaning(t *testing.T) {
	base := func() *Assignment {
		return &Assignment{
			Localities: []Locality{
				{Zone: "a", Weight: 1, Endpoints: []Endpoint{
					{Address: "1:1", Health: HealthHealthy, Metadata: Metadata{"envoy.lb": {"v": "1"}}},
					{Address: "2:1", Hostname: "two"},
				}},
				{Zone: "b", Weight: 2, Priority: 1, Endpoints: []Endpoint{ep("3:1", 5, HealthDegraded)}},
			},
			DropOverloads: []DropOverload{{"throttle", 10}},
		}
	}
	for _, test := range []struct {
		name    string
		change  func(a *Assignment)
		changed bool
	}{
		{"nothing", func(*Assignment) {}, false},
		{"defaults spelled out", func(a *Assignment) {
			a.Overprovisioning = 140
			a.Localities[0].Endpoints[0].Weight = 1
			a.Localities[0].Endpoints[0].Network = "tcp"
		}, false},
		{"order of endpoints", func(a *Assignment) {
			e := a.Localities[0].Endpoints
			e[0], e[1] = e[1], e[0]
		}, false},
		{"order of localities", func(a *Assignment) {
			l := a.Localities
			l[0], l[1] = l[1], l[0]
		}, false},
		{"an empty locality", func(a *Assignment) { a.Localities = append(a.Localities, Locality{Zone: "c", Weight: 3}) }, false},
		{"a duplicate", func(a *Assignment) {
			a.Localities[1].Endpoints = append(a.Localities[1].Endpoints, ep("1:1", 9, HealthUnhealthy))
		}, false},
		{"a locality in two parts", func(a *Assignment) {
			rest := a.Localities[0]
			rest.Weight, rest.Endpoints = 0, rest.Endpoints[1:]
			a.Localities[0].Endpoints = a.Localities[0].Endpoints[:1]
			a.Localities = append(a.Localities, rest)
		}, false},

		{"weight", func(a *Assignment) { a.Localities[0].Endpoints[0].Weight = 2 }, true},
		{"health", func(a *Assignment) { a.Localities[0].Endpoints[0].Health = HealthDraining }, true},
		{"hostname", func(a *Assignment) { a.Localities[0].Endpoints[1].Hostname = "deux" }, true},
		{"metadata", func(a *Assignment) { a.Localities[0].Endpoints[0].Metadata = Metadata{"envoy.lb": {"v": "2"}} }, true},
		{"metadata gone", func(a *Assignment) { a.Localities[0].Endpoints[0].Metadata = nil }, true},
		{"priority", func(a *Assignment) { a.Localities[1].Priority = 2 }, true},
		{"zone", func(a *Assignment) { a.Localities[0].Zone = "z" }, true},
		{"locality weight", func(a *Assignment) { a.Localities[0].Weight = 9 }, true},
		{"overprovisioning", func(a *Assignment) { a.Overprovisioning = 141 }, true},
		{"health by weight", func(a *Assignment) { a.WeightedPriorityHealth = true }, true},
		{"drops", func(a *Assignment) { a.DropOverloads = nil }, true},
		{"one more", func(a *Assignment) {
			a.Localities[0].Endpoints = append(a.Localities[0].Endpoints, ep("4:1", 1, HealthHealthy))
		}, true},
		{"one less", func(a *Assignment) { a.Localities[0].Endpoints = a.Localities[0].Endpoints[:1] }, true},
		{"network", func(a *Assignment) { a.Localities[0].Endpoints[0].Network = "unix" }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, Config{LocalityWeighted: true}, base())
			before := c.set.Load()
			next := base()
			test.change(next)
			if got := c.Update(next); got != test.changed {
				t.Errorf("Update = %v, want %v", got, test.changed)
			}
			if same := c.set.Load() == before; same == test.changed {
				t.Errorf("the set is the same: %v", same)
			}
		})
	}
}

// Without locality-weighted load balancing a locality's weight has no meaning.
func TestUpdateIgnoresLocalityWeights(t *testing.T) {
	a := equalHosts(2)
	c := newCluster(t, Config{}, a)
	b := equalHosts(2)
	b.Localities[0].Weight = 7
	if c.Update(b) {
		t.Error("a locality's weight changed the set")
	}
}

func TestUpdateKeepsHosts(t *testing.T) {
	c := newCluster(t, Config{Options: &call.UpstreamOptions{MaxConnections: 7}}, level0(ep("a:1", 1, HealthHealthy), ep("b:1", 1, HealthHealthy)))
	a, b := c.host("a:1"), c.host("b:1")
	a.total.Add(3)
	target := *a.Target()

	moved := ep("a:1", 9, HealthDegraded)
	moved.Hostname, moved.Metadata = "name", Metadata{"n": {"k": 1.0}}
	c.Update(&Assignment{Localities: []Locality{{Zone: "z", Priority: 3, Endpoints: []Endpoint{moved}}}})
	if got := c.host("a:1"); got != a || a.Retired() {
		t.Errorf("the host that stayed is %p (retired %v), want %p", got, a.Retired(), a)
	}
	if !b.Retired() {
		t.Error("the host that left is not retired")
	}
	want := []HostStatus{{
		Network: "tcp", Address: "a:1", Hostname: "name", Zone: "z", Priority: 3,
		Health: HealthDegraded, Weight: 9, Metadata: Metadata{"n": {"k": 1.0}}, Total: 3,
	}}
	if diff := cmp.Diff(want, c.Hosts()); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	if got := *a.Target(); got != target || got.Options.MaxConnections != 7 {
		t.Errorf("the target changed: %+v, want %+v", got, target)
	}

	c.Update(level0(ep("b:1", 1, HealthHealthy)))
	if again := c.host("b:1"); again == b || again.Retired() || !b.Retired() {
		t.Error("a host that came back is not a new one")
	}
	last := c.host("b:1")
	c.Close()
	if !last.Retired() || c.Len() != 0 {
		t.Error("Close left a host")
	}
	if _, err := c.Pick(&call.Call{}, 0); !errors.Is(err, call.ReplyNoHealthy) {
		t.Errorf("Pick of a closed cluster: %v", err)
	}
}

// The first of two endpoints with one address counts, in whatever locality or
// priority the second is (Envoy's EDS).
func TestDuplicateAddress(t *testing.T) {
	c := newCluster(t, Config{}, &Assignment{Localities: []Locality{
		{Zone: "a", Endpoints: []Endpoint{ep("1:1", 2, HealthHealthy), ep("1:1", 3, HealthUnhealthy)}},
		{Zone: "b", Priority: 1, Endpoints: []Endpoint{ep("1:1", 4, HealthHealthy), {Network: "unix", Address: "1:1"}}},
	}})
	want := []HostStatus{
		{Network: "tcp", Address: "1:1", Zone: "a", Health: HealthHealthy, Weight: 2},
		{Network: "unix", Address: "1:1", Zone: "b", Priority: 1, Weight: 1},
	}
	if diff := cmp.Diff(want, c.Hosts()); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

// Over random sequences of updates: a host stays the same value as long as its
// address stays and never otherwise, and retirement tells which.
func TestUpdateSequences(t *testing.T) {
	rnd := random(2)
	for range 50 {
		c := New(unlimited(Policy{}))
		live := make(map[string]*Host)
		for range 40 {
			a := new(Assignment)
			for range rnd.IntN(4) {
				l := Locality{Zone: fmt.Sprint(rnd.IntN(3)), Priority: uint32(rnd.IntN(3))}
				for range rnd.IntN(8) {
					l.Endpoints = append(l.Endpoints, ep(fmt.Sprint(rnd.IntN(20)), uint32(rnd.IntN(3)), Health(rnd.IntN(6))))
				}
				a.Localities = append(a.Localities, l)
			}
			c.Update(a)

			next := make(map[string]*Host)
			for _, l := range a.Localities {
				for _, e := range l.Endpoints {
					next[e.Address] = c.host(e.Address)
				}
			}
			if len(next) != c.Len() || len(next) != len(c.byKey) {
				t.Fatalf("%d hosts in the set and %d known, want %d", c.Len(), len(c.byKey), len(next))
			}
			for address, h := range next {
				if old := live[address]; h == nil || h.Retired() || old != nil && old != h {
					t.Fatalf("%s: host %p, was %p", address, h, old)
				}
			}
			for address, h := range live {
				if (next[address] == nil) != h.Retired() {
					t.Fatalf("%s: retired %v, in the assignment %v", address, h.Retired(), next[address] != nil)
				}
			}
			live = next
		}
	}
}

func TestHandle(t *testing.T) {
	h := NewHandle("c")
	if _, err := h.Pick(&call.Call{}, 0); !errors.Is(err, call.ReplyNoCluster) {
		t.Errorf("Pick of an empty handle: %v", err)
	}
	one := newCluster(t, Config{Name: "c"}, equalHosts(1))
	two := newCluster(t, Config{Name: "c"}, equalHosts(1))
	h.Set(one)
	host, err := h.Pick(&call.Call{}, 0)
	if err != nil || one.Counts().Requests != 1 {
		t.Fatal(host, err, one.Counts())
	}
	if old := h.Set(two); old != one || h.Get() != two {
		t.Errorf("Set returned %p, want %p", old, one)
	}
	// The call began in the old cluster and ends there.
	h.Done(host, &call.Outcome{})
	if got := []int64{one.Counts().Requests, two.Counts().Requests}; got[0] != 0 || got[1] != 0 {
		t.Errorf("active requests %v, want none", got)
	}
}

// The reply of an empty handle says which cluster there is not, and costs
// nothing.
func TestEmptyHandleNamesItsCluster(t *testing.T) {
	h, c := NewHandle("web"), &call.Call{}
	_, err := h.Pick(c, 0)
	var r *call.Reply
	if !errors.As(err, &r) || r.Message != `no cluster "web"` || !errors.Is(err, call.ReplyNoCluster) {
		t.Errorf("reply %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = h.Pick(c, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

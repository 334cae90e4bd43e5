package route

import (
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

func one(t *testing.T, m Match, a Action) *Table {
	t.Helper()
	b := NewBuilder("test")
	vh, _ := b.AddVirtualHost("all", []string{"*"})
	_ = vh.Add(m, a)
	tbl, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

func weighted(cluster string, weight uint32) WeightedCluster {
	cl := to(cluster).Clusters[0]
	cl.Weight = weight
	return cl
}

// TestWeightedClusters checks the shares over many draws, and exactly at the
// ends of the range.
func TestWeightedClusters(t *testing.T) {
	tbl := one(t, Match{}, Action{Clusters: []WeightedCluster{
		weighted("never", 0), weighted("a", 10), weighted("b", 60), weighted("never too", 0), weighted("c", 30), weighted("nor this", 0),
	}})
	got := map[string]int{}
	g := newGen(1)
	for range 100_000 {
		c := post("/")
		c.Rand = g.Uint64()
		d, err := tbl.Direct(c)
		if d.Route.Cluster != went(d, err) {
			t.Fatalf("cluster %s with the route of %s", went(d, err), d.Route.Cluster)
		}
		got[went(d, err)]++
	}
	for name, want := range map[string]int{"a": 10_000, "b": 60_000, "c": 30_000} {
		if d := got[name] - want; d < -600 || d > 600 {
			t.Errorf("got %v", got)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("clusters of weight 0 got %v", got)
	}
	for rand, want := range map[uint64]string{0: "a", 0xffffffff: "c", 0xffffffff_00000000: "a", 0x7fffffff: "b"} {
		c := post("/")
		c.Rand = rand
		if got := went(tbl.Direct(c)); got != want {
			t.Errorf("draw %#x: got %s, want %s", rand, got, want)
		}
	}
}

func TestWeightsUpToTheLimit(t *testing.T) {
	tbl := one(t, Match{}, Action{Clusters: []WeightedCluster{weighted("a", 1<<31), weighted("b", 1<<31-1)}})
	for rand, want := range map[uint64]string{0: "a", 1 << 31: "a", 1<<31 + 1: "b", 0xffffffff: "b"} {
		c := post("/")
		c.Rand = rand
		if got := went(tbl.Direct(c)); got != want {
			t.Errorf("draw %#x: got %s, want %s", rand, got, want)
		}
	}
}

// TestFractionLeavesWeights: inside a 10 % fraction each cluster still gets its
// half.
func TestFractionLeavesWeights(t *testing.T) {
	tbl := one(t, Match{Fraction: &Fraction{Numerator: 10, Denominator: 100}},
		Action{Clusters: []WeightedCluster{weighted("a", 1), weighted("b", 1)}})
	got := map[string]int{}
	g := newGen(1)
	for range 100_000 {
		c := post("/")
		c.Rand = g.Uint64()
		got[went(tbl.Direct(c))]++
	}
	if got["a"] < 4_700 || got["a"] > 5_300 || got["b"] < 4_700 || got["b"] > 5_300 {
		t.Errorf("got %v", got)
	}
}

func TestClusterHeader(t *testing.T) {
	known := to("blue").Clusters[0]
	header := &ClusterHeader{Name: "X-Cluster", Lookup: func(name string) (call.BackendSet, *call.Route) {
		if name != "blue" {
			return nil, nil
		}
		return known.Backends, known.Route
	}}
	gone := &call.Reply{Detail: "gone"}
	for _, tt := range []struct {
		name   string
		action Action
		c      *call.Call
		want   string
	}{
		{"known", Action{ClusterHeader: header}, post("/", "x-cluster", "blue", "x-cluster", "red"), "blue"},
		{"unknown", Action{ClusterHeader: header}, post("/", "x-cluster", "red"), "cluster_not_found"},
		{"missing", Action{ClusterHeader: header}, post("/"), "cluster_not_found"},
		{"its own reply", Action{ClusterHeader: header, NoCluster: gone}, post("/"), "gone"},
		{"in a weighted cluster", Action{Clusters: []WeightedCluster{{Header: header}}}, post("/", "x-cluster", "blue"), "blue"},
		{"weighted with others", Action{Clusters: []WeightedCluster{{Weight: 1, Header: header}, weighted("b", 0)}}, post("/", "x-cluster", "blue"), "blue"},
	} {
		if got := went(one(t, Match{}, tt.action).Direct(tt.c)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestReply(t *testing.T) {
	reply, policy := &call.Reply{HTTP: 403, Detail: "direct_response"}, &call.Route{Name: "denied"}
	d, err := one(t, Match{}, Action{Reply: reply, Route: policy}).Direct(post("/"))
	if err != nil || d.Reply != reply || d.Route != policy || d.Backends != nil {
		t.Errorf("got %+v, %v", d, err)
	}
}

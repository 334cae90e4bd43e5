package controlplane

import (
	"errors"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
)

func group(t *testing.T, name string, m NodeMatch, list ...proto.Message) *Group {
	r := resources(t, list...)
	return &Group{Name: name, Nodes: m, Resources: r, state: newState(r)}
}

// Each step is a load; a group keeps its revision while its content is the
// same or faulty, and is gone when its folder is.
func TestStoreApply(t *testing.T) {
	s := NewStore()
	a := func(buffer int) *Group {
		return group(t, "a", NodeMatch{Clusters: []string{"a"}}, edsCluster("c", buffer))
	}
	b := func() *Group { return group(t, "b", NodeMatch{Clusters: []string{"b"}}) }
	steps := []struct {
		name    string
		groups  map[string]*Group
		faulty  map[string]error
		changed []string
		want    map[string]uint64 // revision numbers
	}{
		{"first", map[string]*Group{"a": a(1), "b": b()}, nil, []string{"a", "b"}, map[string]uint64{"a": 1, "b": 2}},
		{"the same", map[string]*Group{"a": a(1), "b": b()}, nil, nil, map[string]uint64{"a": 1, "b": 2}},
		{"one changes, one is faulty", map[string]*Group{"a": a(2)}, map[string]error{"b": errors.New("x")}, []string{"a"}, map[string]uint64{"a": 3, "b": 2}},
		{"faulty from the start", map[string]*Group{"a": a(2), "b": b()}, map[string]error{"c": errors.New("x")}, nil, map[string]uint64{"a": 3, "b": 2}},
		{"other nodes", map[string]*Group{"a": group(t, "a", NodeMatch{Clusters: []string{"z"}}, edsCluster("c", 2)), "b": b()}, nil, []string{"a"}, map[string]uint64{"a": 4, "b": 2}},
		{"one goes", map[string]*Group{"b": b()}, nil, []string{"a"}, map[string]uint64{"b": 2}},
	}
	for _, st := range steps {
		if changed := s.Apply(st.groups, st.faulty); !slices.Equal(changed, st.changed) {
			t.Errorf("%s: changed %q, want %q", st.name, changed, st.changed)
		}
		got := map[string]uint64{}
		for _, r := range s.Revisions() {
			got[r.Group.Name] = r.Number
		}
		if len(got) != len(st.want) || got["a"] != st.want["a"] || got["b"] != st.want["b"] {
			t.Errorf("%s: revisions %v, want %v", st.name, got, st.want)
		}
	}
}

// An id goes before a cluster, then the name of the group decides.
func TestStoreFor(t *testing.T) {
	s := NewStore()
	s.Apply(map[string]*Group{
		"canary": group(t, "canary", NodeMatch{IDs: []string{"canary-*"}}),
		"edge":   group(t, "edge", NodeMatch{Clusters: []string{"edge*"}}),
		"edge-2": group(t, "edge-2", NodeMatch{Clusters: []string{"edge-2"}}),
		"shop":   group(t, "shop", NodeMatch{IDs: []string{"shop/*"}}),
	}, nil)
	for _, tt := range []struct{ id, cluster, want string }{
		{"x", "edge", "edge"},
		{"x", "edge-2", "edge"},
		{"canary-7", "edge", "canary"},
		{"canary-7", "", "canary"},
		{"canary-7/a/b", "edge", "canary"},
		{"x", "edge/a", "edge"},
		{"shop/a/b", "other", "shop"},
		{"shop", "other", ""},
		{"x", "other", ""},
	} {
		got := ""
		if r := s.For(&corev3.Node{Id: tt.id, Cluster: tt.cluster}); r != nil {
			got = r.Group.Name
		}
		if got != tt.want {
			t.Errorf("node %q of %q: group %q, want %q", tt.id, tt.cluster, got, tt.want)
		}
	}
}

package controlplane

import (
	"maps"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/emptypb"
)

// state is one state of a group's resources on its way to the proxies, by type
// URL. Immutable. It is the snapshot that go-control-plane's cache serves, and
// shared by all nodes that are at it: unlike cachev3.Snapshot it has its
// version maps from the start, so nothing is written when a delta stream asks
// for them, and nothing is hashed per node.
type state map[string]*typeSet

var _ cachev3.ResourceSnapshot = (*state)(nil)

// typeSet is one type's resources in the forms that the cache wants. Immutable;
// states that have the same content of a type share it.
type typeSet struct {
	byName  map[string]*Resource
	version string
	items   map[string]types.ResourceWithTTL
	plain   map[string]types.Resource
	hashes  map[string]string
}

func newTypeSet(byName map[string]*Resource) *typeSet {
	t := &typeSet{
		byName:  byName,
		version: contentVersion(byName),
		items:   make(map[string]types.ResourceWithTTL, len(byName)),
		plain:   make(map[string]types.Resource, len(byName)),
		hashes:  make(map[string]string, len(byName)),
	}
	for name, r := range byName {
		m := encodedMessage(r.encoded)
		t.items[name] = types.ResourceWithTTL{Resource: m}
		t.plain[name] = m
		t.hashes[name] = r.hash
	}
	return t
}

// encodedMessage returns a message whose encoding is b. go-control-plane
// v0.14.0 encodes each resource again for each node that gets it; for this one
// that is a copy: bytes that a message does not know are kept as they are.
func encodedMessage(b []byte) types.Resource {
	m := new(emptypb.Empty)
	m.ProtoReflect().SetUnknown(b)
	return m
}

func newState(r Resources) *state {
	s := state{}
	for _, url := range typeURLs {
		s[url] = newTypeSet(r[url])
	}
	return &s
}

// with returns a copy of s that has other's resources of the types given.
func (s *state) with(other *state, urls ...string) *state {
	out := maps.Clone(*s)
	for _, u := range urls {
		out[u] = (*other)[u]
	}
	return &out
}

// plus returns a copy of s that has other's resources of the types given as
// well; where both have a name, other's wins.
func (s *state) plus(other *state, urls ...string) *state {
	out := maps.Clone(*s)
	for _, u := range urls {
		out[u] = union((*s)[u], (*other)[u])
	}
	return &out
}

func union(a, b *typeSet) *typeSet {
	missing := false
	for name := range a.byName {
		if b.byName[name] == nil {
			missing = true
			break
		}
	}
	if !missing {
		return b
	}
	all := make(map[string]*Resource, len(a.byName)+len(b.byName))
	maps.Copy(all, a.byName)
	maps.Copy(all, b.byName)
	u := newTypeSet(all)
	if u.version == a.version {
		return a
	}
	return u
}

// same reports whether s and o have the same content of the types given.
func (s *state) same(o *state, urls ...string) bool {
	for _, u := range urls {
		if (*s)[u].version != (*o)[u].version {
			return false
		}
	}
	return true
}

// newAssignments returns by name the clusters of s that need an endpoint
// resource which s has, and for which from had not both.
func (s *state) newAssignments(from *state) map[string]string {
	out := map[string]string{}
	clusters, endpoints := (*s)[resourcev3.ClusterType], (*s)[resourcev3.EndpointType]
	for name, r := range clusters.byName {
		eds := r.assignment()
		if eds == "" || endpoints.byName[eds] == nil {
			continue
		}
		if old := (*from)[resourcev3.ClusterType].byName[name]; old != nil && old.assignment() == eds && (*from)[resourcev3.EndpointType].byName[eds] != nil {
			continue
		}
		out[name] = eds
	}
	return out
}

// adds reports whether s has names of a type that from has not.
func (s *state) adds(from *state, url string) bool {
	for name := range (*s)[url].byName {
		if (*from)[url].byName[name] == nil {
			return true
		}
	}
	return false
}

func (s *state) set(url string) *typeSet {
	if t := (*s)[url]; t != nil {
		return t
	}
	return &typeSet{} // a type that is not published: nothing, for ever
}

// GetVersion implements cachev3.ResourceSnapshot.
func (s *state) GetVersion(url string) string { return s.set(url).version }

// GetResourcesAndTTL implements cachev3.ResourceSnapshot.
func (s *state) GetResourcesAndTTL(url string) map[string]types.ResourceWithTTL {
	return s.set(url).items
}

// GetResources implements cachev3.ResourceSnapshot.
func (s *state) GetResources(url string) map[string]types.Resource { return s.set(url).plain }

// ConstructVersionMap implements cachev3.ResourceSnapshot. The maps are there.
func (s *state) ConstructVersionMap() error { return nil }

// GetVersionMap implements cachev3.ResourceSnapshot.
func (s *state) GetVersionMap(url string) map[string]string { return s.set(url).hashes }

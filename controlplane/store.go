package controlplane

import (
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Revision is one published state of a group. Immutable.
type Revision struct {
	Number uint64 // of the store, counted from 1
	Group  *Group
}

// revisions are the good revisions of all groups, sorted by name. Immutable.
type revisions []*Revision

// Store keeps the last good revision of each group. Safe for concurrent use.
type Store struct {
	mu     sync.Mutex // guards all below
	number uint64
	groups revisions
}

// NewStore returns a store without groups.
func NewStore() *Store { return &Store{} }

// Apply takes in what was loaded: the groups given replace theirs, groups that
// are neither in it nor in keep are gone, groups in keep stay as they are. It
// returns the groups whose content changed.
func (s *Store) Apply(groups map[string]*Group, keep map[string]error) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]*Revision{}
	old := map[string]*Revision{}
	for _, rev := range s.groups {
		name := rev.Group.Name
		old[name] = rev
		if _, ok := keep[name]; ok {
			next[name] = rev
		} else if _, ok := groups[name]; !ok {
			changed = append(changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if rev := old[name]; rev != nil && rev.Group.equal(g) {
			next[name] = rev
			continue
		}
		s.number++
		next[name] = &Revision{Number: s.number, Group: g}
		changed = append(changed, name)
	}
	s.groups = nil
	for _, name := range slices.Sorted(maps.Keys(next)) {
		s.groups = append(s.groups, next[name])
	}
	slices.Sort(changed)
	return changed
}

// equal compares content, not origins.
func (g *Group) equal(o *Group) bool {
	return slices.Equal(g.Nodes.IDs, o.Nodes.IDs) && slices.Equal(g.Nodes.Clusters, o.Nodes.Clusters) &&
		g.state.same(o.state, typeURLs...)
}

// has reports whether there is a revision of the group of that name.
func (rs revisions) has(name string) bool {
	return slices.ContainsFunc(rs, func(r *Revision) bool { return r.Group.Name == name })
}

// Revisions returns the groups' revisions, sorted by name. Read-only.
func (s *Store) Revisions() []*Revision { return s.present() }

func (s *Store) present() revisions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups
}

// For returns the revision that a node gets, nil if it belongs to no group. A
// match of the id goes before one of the cluster, then the group's name
// decides, so that the answer does not depend on the order of files.
func (s *Store) For(n *corev3.Node) *Revision { return s.present().of(n) }

func (rs revisions) of(n *corev3.Node) *Revision {
	for _, r := range rs {
		if matchAny(r.Group.Nodes.IDs, n.GetId()) {
			return r
		}
	}
	for _, r := range rs {
		if matchAny(r.Group.Nodes.Clusters, n.GetCluster()) {
			return r
		}
	}
	return nil
}

// matchAny matches globs as path.Match does, but for slashes, which are usual in
// names of nodes ("namespace/name") and divide nothing there: "*" takes them.
func matchAny(globs []string, s string) bool {
	plain := strings.NewReplacer("/", "\x00")
	s = plain.Replace(s)
	for _, g := range globs {
		if ok, err := path.Match(plain.Replace(g), s); ok && err == nil {
			return true
		}
	}
	return false
}

package xdsconfig

import (
	"sync"
	"weak"
)

// names has one object per name for as long as anybody holds it: a route's
// cluster handle is the same as the cluster's own, whichever comes first, and
// names that are no longer spoken of are forgotten. Safe for concurrent use.
type names[T any] struct {
	make func(name string) *T

	mu     sync.Mutex // guards all below
	byName map[string]weak.Pointer[T]
	limit  int // entries that make get look for dead ones
}

func newNames[T any](make func(name string) *T) *names[T] {
	return &names[T]{make: make, byName: map[string]weak.Pointer[T]{}, limit: 64}
}

// get returns the object of that name.
func (n *names[T]) get(name string) *T {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v := n.byName[name].Value(); v != nil {
		return v
	}
	if len(n.byName) >= n.limit {
		for k, w := range n.byName {
			if w.Value() == nil {
				delete(n.byName, k)
			}
		}
		n.limit = max(64, 2*len(n.byName))
	}
	v := n.make(name)
	n.byName[name] = weak.Make(v)
	return v
}

// Package telemetry names the counters that the workers keep and reads them
// out in Envoy's stat names.
package telemetry

import (
	"slices"
	"sync"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Kind is what a scope belongs to; it decides the scope's prefix and counters.
type Kind uint8

// Kinds of scopes.
const (
	KindHTTP     Kind = iota + 1 // http.<stat_prefix>.
	KindCluster                  // cluster.<name>.
	KindListener                 // listener.<address>.
)

// Registry hands out scopes. A scope lives as long as the registry: a name
// that comes back finds its counters again, and a worker's arrays never move.
type Registry struct {
	mu     sync.Mutex // guards all below
	scopes []entry    // index 0 is the scope that counts nowhere
	byName map[key]call.Scope
}

type key struct {
	kind Kind
	name string
}

type entry struct {
	key
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{scopes: make([]entry, 1), byName: make(map[key]call.Scope)}
}

// Scope returns the scope of that kind and name, making it if there is none.
// Safe for concurrent use.
func (r *Registry) Scope(kind Kind, name string) call.Scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{kind, name}
	if s, ok := r.byName[k]; ok {
		return s
	}
	s := call.Scope{Index: uint32(len(r.scopes))}
	r.scopes = append(r.scopes, entry{k})
	r.byName[k] = s
	return s
}

// snapshot returns the scopes handed out so far.
func (r *Registry) snapshot() []entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.scopes)
}

// Package telemetry names the counters that the workers keep and reads them
// out under Envoy's stat names. It does no counting itself: workers count in
// plain arrays addressed by call.Scope, and a scrape sums them.
package telemetry

import (
	"slices"
	"sync"
	"sync/atomic"

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

// Registry hands out scopes and single stats. Both live as long as the
// registry: a name that comes back finds its counters again, and the workers'
// arrays never move. Safe for concurrent use.
type Registry struct {
	mu     sync.Mutex // guards all below
	scopes []scope    // by index; index 0 counts nowhere
	byName map[scope]call.Scope
	users  map[uint32]int // of the scopes that were ever held, by index
	single []single
	named  map[string]*Counter
	funcs  []func(add func(Stat))
	zero   map[string]uint64 // what counters had at the last Reset, by name
}

type scope struct {
	kind Kind
	name string
}

// single is a stat outside the workers' arrays.
type single struct {
	name  string
	gauge bool
	read  func() uint64
}

// Counter is a stat that other goroutines than workers count, e.g. config
// updates. Safe for concurrent use.
type Counter struct{ v atomic.Uint64 }

// Add adds n.
func (c *Counter) Add(n uint64) { c.v.Add(n) }

// Set sets the value of a gauge.
func (c *Counter) Set(n uint64) { c.v.Store(n) }

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{
		scopes: make([]scope, 1),
		byName: make(map[scope]call.Scope),
		users:  make(map[uint32]int),
		named:  make(map[string]*Counter),
	}
}

// Scope returns the scope of that kind and name, making it if there is none.
// Names that Sanitize makes the same have the same scope.
func (r *Registry) Scope(kind Kind, name string) call.Scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := scope{kind, Sanitize(name)}
	if s, ok := r.byName[k]; ok {
		return s
	}
	s := call.Scope{Index: uint32(len(r.scopes))}
	r.scopes = append(r.scopes, k)
	r.byName[k] = s
	return s
}

// Hold makes s one that is shown while somebody holds it: each Hold is followed
// by one Drop. Its counters stay, for calls that are not over and for its name
// to come back; a scope that nobody ever held is always shown.
func (r *Registry) Hold(s call.Scope) {
	if s == (call.Scope{}) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users[s.Index]++
}

// Drop undoes one Hold.
func (r *Registry) Drop(s call.Scope) {
	if s == (call.Scope{}) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users[s.Index]--
}

// hiddenLocked reports that nobody holds the scope any more.
func (r *Registry) hiddenLocked(index int) bool {
	n, held := r.users[uint32(index)]
	return held && n <= 0
}

// Counter returns the counter with Envoy's full stat name, e.g.
// "cluster_manager.cds.update_success", making it if there is none.
func (r *Registry) Counter(name string) *Counter { return r.counter(name, false) }

// Gauge is Counter for a value that goes up and down.
func (r *Registry) Gauge(name string) *Counter { return r.counter(name, true) }

func (r *Registry) counter(name string, gauge bool) *Counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.named[name]; ok {
		return c
	}
	c := new(Counter)
	r.named[name] = c
	r.single = append(r.single, single{name, gauge, c.v.Load})
	return c
}

// GaugeFunc adds a gauge that read answers at each scrape.
func (r *Registry) GaugeFunc(name string, read func() uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.single = append(r.single, single{name, true, read})
}

// Func adds stats that read hands to add at each scrape, for those whose names
// are not known before.
func (r *Registry) Func(read func(add func(Stat))) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.funcs = append(r.funcs, read)
}

// Within returns the stat of that name below a scope's prefix; false for the
// scope that counts nowhere and for those that are not shown.
func (r *Registry) Within(s call.Scope, name string, value uint64) (Stat, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if int(s.Index) >= len(r.scopes) || r.hiddenLocked(int(s.Index)) {
		return Stat{}, false
	}
	k := r.scopes[s.Index]
	l, ok := layouts[k.kind]
	return l.stat(name).in(l.prefix, k.name, name, value), ok
}

// Reset makes the counters that Collect returns begin at zero again. The
// workers' own arrays go on counting: nobody but them writes there.
func (r *Registry) Reset(src Source) {
	zero := map[string]uint64{}
	for _, s := range r.collect(src) {
		if s.counts() && s.Value > 0 {
			zero[s.Name] = s.Value
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.zero = zero
}

// snapshot returns copies of what there is. A scope that is not shown is empty.
func (r *Registry) snapshot() ([]scope, []single, []func(func(Stat))) {
	r.mu.Lock()
	defer r.mu.Unlock()
	scopes := slices.Clone(r.scopes)
	for i := range scopes {
		if r.hiddenLocked(i) {
			scopes[i] = scope{}
		}
	}
	return scopes, slices.Clone(r.single), slices.Clone(r.funcs)
}

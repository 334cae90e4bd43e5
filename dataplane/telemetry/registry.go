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
	byName map[scopeName]call.Scope
	users  map[uint32]int // of the scopes that were ever held, by index
	single []single
	named  map[string]*Counter
	tables []table
	funcs  []func(add func(Stat))
	zero   map[string]uint64 // what counters had at the last Reset, by name
}

type scopeName struct {
	kind Kind
	name string
}

type scope struct {
	kind         Kind
	prefix, name string // "cluster.web." and, the same memory, "web"
}

func newScope(n scopeName) scope {
	s := scope{kind: n.kind, prefix: layouts[n.kind].prefix + "." + n.name + "."}
	s.name = s.prefix[len(s.prefix)-1-len(n.name) : len(s.prefix)-1]
	return s
}

// single is a stat outside the workers' arrays.
type single struct {
	name  string
	gauge bool
	read  func() uint64
}

// Column is a stat of each scope in a Table.
type Column struct {
	Name  string // below the scope's prefix, e.g. "http2.rapid_reset"
	Gauge bool
}

type table struct {
	columns []Column
	read    func(add func(s call.Scope, values []uint64))
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
		byName: make(map[scopeName]call.Scope),
		users:  make(map[uint32]int),
		named:  make(map[string]*Counter),
	}
}

// Scope returns the scope of that kind and name, making it if there is none.
// Names that Sanitize makes the same have the same scope.
func (r *Registry) Scope(kind Kind, name string) call.Scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := scopeName{kind, Sanitize(name)}
	if s, ok := r.byName[k]; ok {
		return s
	}
	s := call.Scope{Index: uint32(len(r.scopes))}
	r.scopes = append(r.scopes, newScope(k))
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

// Table adds stats of scopes: at each scrape read hands the values of the
// columns to add, scope by scope; what is added twice to one is summed up. add
// copies. Scopes that are not shown are left out.
func (r *Registry) Table(columns []Column, read func(add func(s call.Scope, values []uint64))) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tables = append(r.tables, table{columns, read})
}

// Reset makes the counters that are read begin at zero again. The
// workers' own arrays go on counting: nobody but them writes there.
func (r *Registry) Reset(src Source) {
	zero := map[string]uint64{}
	has := r.snapshot()
	for name, s := range has.read(src).All() {
		if s.counts() && s.Value > 0 {
			zero[string(name)] = s.Value
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.zero = zero
}

// registered are copies of what a registry has. A scope that is not shown is
// empty.
type registered struct {
	scopes  []scope
	singles []single
	tables  []table
	funcs   []func(func(Stat))
	zero    map[string]uint64
}

func (r *Registry) snapshot() registered {
	r.mu.Lock()
	defer r.mu.Unlock()
	scopes := slices.Clone(r.scopes)
	for i := range scopes {
		if r.hiddenLocked(i) {
			scopes[i] = scope{}
		}
	}
	return registered{scopes, slices.Clone(r.single), slices.Clone(r.tables), slices.Clone(r.funcs), r.zero}
}

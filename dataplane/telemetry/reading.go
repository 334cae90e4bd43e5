package telemetry

import (
	"bytes"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Reading is what the stats of a registry were when it was made. Of scopes it
// has the numbers; each name is put together when its turn comes, so that a
// reading of 10,000 clusters takes a few megabytes. It is read-only, and whoever
// goes through it, however slowly, holds no lock.
type Reading struct {
	keep   func(name []byte, s *Stat) bool // nil: all
	scopes []scope                         // by index
	order  []uint32                        // indexes of those that are shown, by prefix
	setOf  []uint32                        // of the scopes, in that order
	sets   []columnSet
	blocks []block
	rest   []Stat            // what has no scope, by name
	zero   map[string]uint64 // what counters had at the last Reset, by name
}

// Read reads all stats; the reading shows those for which keep, which may be
// nil, says so (its arguments are those of All). src may be nil.
func (r *Registry) Read(src Source, keep func(name []byte, s *Stat) bool) *Reading {
	has := r.snapshot()
	x := has.read(src)
	x.keep, x.zero = keep, has.zero
	return x
}

// All goes through the stats by name, counters since the last Reset. The name
// is valid until the next, and so is the stat, whose own Name is empty.
func (x *Reading) All() iter.Seq2[[]byte, *Stat] {
	all := part{columns: make([][]int, len(x.sets))}
	for i := range x.sets {
		for k := range x.sets[i].stats {
			all.columns[i] = append(all.columns[i], k)
		}
	}
	for i := range x.rest {
		all.rest = append(all.rest, i)
	}
	return x.each(all)
}

// block are the numbers of a table or layout.
type block struct {
	columns []Column
	rows    []uint32 // by scope: 1 + its row; 0: it has none
	used    uint32   // rows
	values  []uint64 // row by row
}

// row returns the numbers of a scope, zeros at first.
func (b *block) row(scope int) []uint64 {
	if b.rows[scope] == 0 {
		b.used++
		b.rows[scope] = b.used
	}
	at := int(b.rows[scope]-1) * len(b.columns)
	return b.values[at : at+len(b.columns)]
}

func (b *block) add(scope int, values []uint64) {
	row := b.row(scope)
	for k, v := range values[:min(len(values), len(row))] {
		row[k] += v
	}
}

func (has *registered) read(src Source) *Reading {
	x := &Reading{scopes: has.scopes}
	kinds := map[Kind]int{}
	for i, s := range x.scopes {
		if _, ok := layouts[s.kind]; ok {
			kinds[s.kind]++
			x.order = append(x.order, uint32(i))
		}
	}
	slices.SortFunc(x.order, func(a, b uint32) int { return strings.Compare(x.scopes[a].prefix, x.scopes[b].prefix) })

	blocks := map[Kind]*block{}
	for kind, n := range kinds {
		c := layouts[kind].columns
		blocks[kind] = &block{columns: c, rows: make([]uint32, len(x.scopes)), values: make([]uint64, n*len(c))}
	}
	for _, i := range x.order {
		blocks[x.scopes[i].kind].row(int(i))
	}
	if src != nil {
		src.ReadCounters(func(_ int, arrays [][]uint64) {
			for i, a := range arrays[:min(len(arrays), len(x.scopes))] {
				if a == nil { // as most are, and a worker waits
					continue
				}
				if b := blocks[x.scopes[i].kind]; b != nil {
					b.add(i, a)
				}
			}
		})
	}
	for _, kind := range []Kind{KindHTTP, KindCluster, KindListener} {
		if b := blocks[kind]; b != nil {
			x.blocks = append(x.blocks, *b)
		}
	}
	for _, t := range has.tables {
		b := block{columns: t.columns}
		t.read(func(s call.Scope, values []uint64) {
			if int(s.Index) >= len(x.scopes) || blocks[x.scopes[s.Index].kind] == nil {
				return // not shown, or not yet there
			}
			if b.values == nil {
				b.rows, b.values = make([]uint32, len(x.scopes)), make([]uint64, len(x.order)*len(t.columns))
			}
			b.add(int(s.Index), values)
		})
		if b.used > 0 {
			x.blocks = append(x.blocks, b)
		}
	}
	x.arrange()

	x.rest = make([]Stat, 0, len(has.singles))
	for _, s := range has.singles {
		x.rest = append(x.rest, Stat{Name: s.name, Base: s.name, Gauge: s.gauge, Value: s.read()})
	}
	for _, read := range has.funcs {
		read(func(s Stat) { x.rest = append(x.rest, s) })
	}
	slices.SortStableFunc(x.rest, func(a, b Stat) int { return strings.Compare(a.Name, b.Name) })
	return x
}

// columnSet are the stats of the scopes that have rows in the same blocks, by
// name.
type columnSet struct {
	stats []columnStat
}

type columnStat struct {
	Stat          // Name is what follows the scope's prefix
	block, column int
}

// arrange finds the sets of the scopes.
func (x *Reading) arrange() {
	known := map[string]uint32{} // by kind and blocks
	var key []byte
	x.setOf = make([]uint32, len(x.order))
	for n, i := range x.order {
		kind := x.scopes[i].kind
		key = append(key[:0], byte(kind))
		for b := range x.blocks {
			if x.blocks[b].rows[i] != 0 {
				key = append(key, byte(b), byte(b>>8))
			}
		}
		set, ok := known[string(key)]
		if !ok {
			set = uint32(len(x.sets))
			known[string(key)] = set
			x.sets = append(x.sets, x.newSet(kind, int(i)))
		}
		x.setOf[n] = set
	}
}

func (x *Reading) newSet(kind Kind, scope int) (set columnSet) {
	l := layouts[kind]
	for b := range x.blocks {
		if x.blocks[b].rows[scope] == 0 {
			continue
		}
		for k, c := range x.blocks[b].columns {
			set.stats = append(set.stats, columnStat{l.stat(c), b, k})
		}
	}
	slices.SortStableFunc(set.stats, func(a, b columnStat) int { return strings.Compare(a.Name, b.Name) })
	return set
}

// part are some of the stats of a reading.
type part struct {
	columns [][]int // which of each set; nil: none of scopes
	rest    []int
}

// cursor goes through the stats of one scope, or those without.
type cursor struct {
	name  []byte // of the stat where it stands
	scope int    // noScope: without
	n     int    // of order
	left  []int  // of the set's stats, or of the rest; the first is where it stands
}

const noScope = math.MaxInt

// each goes through a part of the stats by name.
func (x *Reading) each(p part) iter.Seq2[[]byte, *Stat] {
	return func(yield func([]byte, *Stat) bool) {
		var open []cursor
		begin := func(c cursor) {
			if len(c.left) == 0 {
				return
			}
			if len(open) < cap(open) { // one that is over left its buffer
				c.name = open[:len(open)+1][len(open)].name
			}
			x.stand(&c)
			open = append(open, c)
		}
		begin(cursor{scope: noScope, left: p.rest})
		next := 0
		if p.columns == nil {
			next = len(x.order)
		}
		s := new(Stat)
		for {
			// The names of a scope come after its prefix. So it is begun when all
			// that are open stand behind that: these are few, the scopes whose
			// prefixes are prefixes of one another.
			at := first(open)
			for next < len(x.order) && (at < 0 || x.scopes[x.order[next]].prefix < string(open[at].name)) {
				begin(cursor{scope: int(x.order[next]), n: next, left: p.columns[x.setOf[next]]})
				next++
				at = first(open)
			}
			if at < 0 {
				return
			}
			c := &open[at]
			x.load(c, s)
			if (x.keep == nil || x.keep(c.name, s)) && !yield(c.name, s) {
				return
			}
			if c.left = c.left[1:]; len(c.left) > 0 {
				x.stand(c)
			} else {
				open[at], open[len(open)-1] = open[len(open)-1], open[at]
				open = open[:len(open)-1]
			}
		}
	}
}

// first returns which cursor stands at the lowest name; -1: none is open. Of
// the same names the first registered comes first.
func first(open []cursor) int {
	at := -1
	for i := range open {
		if at < 0 {
			at = i
			continue
		}
		if d := bytes.Compare(open[i].name, open[at].name); d < 0 || (d == 0 && open[i].scope < open[at].scope) {
			at = i
		}
	}
	return at
}

// stand names the stat that the cursor has come to.
func (x *Reading) stand(c *cursor) {
	if c.scope == noScope {
		c.name = append(c.name[:0], x.rest[c.left[0]].Name...)
		return
	}
	c.name = append(c.name[:0], x.scopes[c.scope].prefix...)
	c.name = append(c.name, x.sets[x.setOf[c.n]].stats[c.left[0]].Name...)
}

// load makes s the stat where the cursor stands.
func (x *Reading) load(c *cursor, s *Stat) {
	if c.scope == noScope {
		*s = x.rest[c.left[0]]
	} else {
		col := &x.sets[x.setOf[c.n]].stats[c.left[0]]
		*s = col.Stat
		s.LabelValue = x.scopes[c.scope].name
		s.Value = x.blocks[col.block].row(c.scope)[col.column]
	}
	s.Name = ""
	if len(x.zero) > 0 && s.counts() {
		if n := x.zero[string(c.name)]; n <= s.Value { // else it is new under an old name
			s.Value -= n
		}
	}
}

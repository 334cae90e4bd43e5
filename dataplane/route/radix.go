package route

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
)

// radix is a byte-wise radix tree over prefixes. Each prefix carries the
// orders of the routes that only paths beginning with it can match. All nodes
// lie in one slice, the children of a node next to each other.
type radix struct {
	fold   bool // prefixes are in lower case, and paths are read in lower case
	nodes  []node
	first  []byte   // first[i] is the first byte of nodes[i].label
	orders []uint32 // the candidates of all nodes
}

type node struct {
	label      string // what a path has here after what brought it to the parent
	child, end uint32 // the children are nodes[child:end]
	lo, hi     uint32 // the candidates are orders[lo:hi], ascending
	up         uint32 // the nearest node above that has candidates; noNode if none
	least      uint32 // the lowest of the orders here and above
}

const (
	noNode  = math.MaxUint32
	noOrder = math.MaxUint32
)

// keyed says that only paths that begin with key can match route order.
type keyed struct {
	key   string
	order uint32
}

// newRadix builds a tree. It sorts keys.
func newRadix(keys []keyed, fold bool) radix {
	t := radix{fold: fold}
	if len(keys) == 0 {
		return t
	}
	slices.SortFunc(keys, func(a, b keyed) int {
		return cmp.Or(strings.Compare(a.key, b.key), cmp.Compare(a.order, b.order))
	})
	t.orders = make([]uint32, 0, len(keys))
	t.nodes = []node{{up: noNode, least: noOrder}}
	t.first = []byte{0}
	// below[i] are the keys that go through nodes[i], which stands depth[i]
	// bytes from the root. Breadth first, so that siblings are neighbours.
	below, depth := [][]keyed{keys}, []int{0}
	for i := 0; i < len(t.nodes); i++ {
		rest, d := below[i], depth[i]
		below[i] = nil
		n := &t.nodes[i]
		n.lo = uint32(len(t.orders))
		for len(rest) > 0 && len(rest[0].key) == d {
			t.orders = append(t.orders, rest[0].order)
			rest = rest[1:]
		}
		n.hi = uint32(len(t.orders))
		up := n.up
		if n.lo < n.hi {
			n.least = min(n.least, t.orders[n.lo])
			up = uint32(i)
		}
		least := n.least
		n.child = uint32(len(t.nodes))
		n.end = n.child
		for len(rest) > 0 {
			first := rest[0].key
			size := 1
			for size < len(rest) && rest[size].key[d] == first[d] {
				size++
			}
			label := first[d : d+common(first[d:], rest[size-1].key[d:])]
			t.nodes[i].end++
			t.nodes = append(t.nodes, node{label: label, up: up, least: least})
			t.first = append(t.first, label[0])
			below, depth = append(below, rest[:size]), append(depth, d+len(label))
			rest = rest[size:]
		}
	}
	t.nodes, t.first = slices.Clip(t.nodes), slices.Clip(t.first)
	return t
}

// common returns the length of the common prefix of a and b. Of sorted keys,
// the first and the last have in common what all have.
func common(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// find returns the deepest node with candidates on path's way, noNode if there
// is none. The others on the way follow by up.
func (t *radix) find(path string) uint32 {
	if len(t.nodes) == 0 {
		return noNode
	}
	found := uint32(noNode)
	n := &t.nodes[0]
	if n.lo < n.hi {
		found = 0
	}
	for path != "" && n.child < n.end {
		c := path[0]
		if t.fold {
			c = lowerByte(c)
		}
		i := bytes.IndexByte(t.first[n.child:n.end], c)
		if i < 0 {
			break
		}
		at := n.child + uint32(i)
		n = &t.nodes[at]
		if !hasPrefix(path, n.label, t.fold) {
			break
		}
		path = path[len(n.label):]
		if n.lo < n.hi {
			found = at
		}
	}
	return found
}

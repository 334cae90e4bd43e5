package route

// index finds the few routes of a virtual host that a path can match:
//
//   - exact, case-sensitive paths by hash;
//   - prefixes, separated prefixes and regexes in a radix tree, under the
//     literal text that every path they match begins with (a regex may have
//     none: then it is at the root and a candidate for all);
//   - those that ignore case in a second tree of lower-case text;
//   - connect matchers in a list for the method CONNECT.
//
// It is a filter only: each candidate is then tried in full (entry.try). A
// list of candidates is in ascending order, so the first that matches is the
// list's best, and the lowest order among the lists' bests is what a linear
// scan would have found. Lists are asked from the longest prefix to the
// shortest, and a list ends where its orders exceed the best so far.
type index struct {
	exact   map[string][]uint32
	cased   radix
	folded  radix
	connect []uint32
}

func newIndex(routes []entry) index {
	var ix index
	var cased, folded []keyed
	exact := 0
	for i := range routes {
		p := &routes[i].path
		order := uint32(i)
		switch {
		case p.Kind == PathConnect:
			ix.connect = append(ix.connect, order)
		case p.Kind == PathRegex:
			cased = append(cased, keyed{p.Regex.prefix, order})
		case p.IgnoreCase:
			folded = append(folded, keyed{p.Value, order})
		case p.Kind == PathExact:
			exact++
		default:
			cased = append(cased, keyed{p.Value, order})
		}
	}
	ix.cased, ix.folded = newRadix(cased, false), newRadix(folded, true)
	if exact > 0 {
		ix.exact = make(map[string][]uint32, exact)
		ones := make([]uint32, 0, exact) // backs the lists, nearly all of one route
		for i := range routes {
			p := &routes[i].path
			if p.Kind != PathExact || p.IgnoreCase {
				continue
			}
			if list := ix.exact[p.Value]; list != nil {
				ix.exact[p.Value] = append(list, uint32(i))
				continue
			}
			ones = append(ones, uint32(i))
			ix.exact[p.Value] = ones[len(ones)-1 : len(ones) : len(ones)]
		}
	}
	return ix
}

// cursor walks the candidate lists of one request.
type cursor struct {
	ix    *index
	r     *request
	stage stage
	node  uint32
}

type stage uint8

const (
	stageExact stage = iota
	stageCased
	stageFolded
	stageConnect
	stageEnd
)

func (ix *index) candidates(r *request) cursor { return cursor{ix: ix, r: r} }

// next returns the next list that may hold an order below best, nil after the
// last one.
func (cu *cursor) next(best uint32) []uint32 {
	ix := cu.ix
	for {
		switch cu.stage {
		case stageExact:
			cu.stage = stageCased
			cu.node = ix.cased.find(cu.r.path)
			if len(ix.exact) > 0 {
				if list := ix.exact[cu.r.path]; list != nil {
					return list
				}
			}
		case stageCased:
			if list := cu.climb(&ix.cased, best); list != nil {
				return list
			}
			cu.stage = stageFolded
			cu.node = ix.folded.find(cu.r.path)
		case stageFolded:
			if list := cu.climb(&ix.folded, best); list != nil {
				return list
			}
			cu.stage = stageConnect
		case stageConnect:
			cu.stage = stageEnd
			if cu.r.call.Method == "CONNECT" && len(ix.connect) > 0 {
				return ix.connect
			}
		default:
			return nil
		}
	}
}

// climb returns the candidates of the cursor's node and goes up one.
func (cu *cursor) climb(t *radix, best uint32) []uint32 {
	if cu.node == noNode || t.nodes[cu.node].least >= best {
		return nil
	}
	n := &t.nodes[cu.node]
	cu.node = n.up
	return t.orders[n.lo:n.hi]
}

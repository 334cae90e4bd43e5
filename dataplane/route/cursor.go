package route

// cursor walks the candidate lists of one request.
type cursor struct {
	ix      *index
	path    string // by value: a pointer to the request would move it to the heap
	connect bool
	stage   stage
	node    uint32
	text    string // what an inner tree has yet to be searched for
	seen    seen
}

type stage uint8

const (
	stageExact stage = iota
	stageCased
	stageFolded
	stageInner
	stageInnerFolded
	stageConnect
	stageEnd
)

func (ix *index) candidates(r *request) cursor {
	return cursor{ix: ix, path: r.path, connect: r.call.Method == "CONNECT"}
}

// next returns the next list that may hold an order below best, nil after the
// last one. best must not rise from call to call.
func (cu *cursor) next(best uint32) []uint32 {
	ix := cu.ix
	for {
		switch cu.stage {
		case stageExact:
			cu.stage, cu.node = stageCased, ix.cased.find(cu.path)
			if len(ix.exact) > 0 {
				if list := ix.exact[cu.path]; list != nil {
					return list
				}
			}
		case stageCased:
			if list := cu.climb(&ix.cased, best); list != nil {
				return list
			}
			cu.stage, cu.node = stageFolded, ix.folded.find(cu.path)
		case stageFolded:
			if list := cu.climb(&ix.folded, best); list != nil {
				return list
			}
			cu.search(stageInner, &ix.inner, cu.path)
		case stageInner:
			if list := cu.inside(&ix.inner, best); list != nil {
				return list
			}
			cu.search(stageInnerFolded, &ix.innerFolded, cu.path)
		case stageInnerFolded:
			if list := cu.inside(&ix.innerFolded, best); list != nil {
				return list
			}
			cu.stage = stageConnect
		case stageConnect:
			cu.stage = stageEnd
			if cu.connect && len(ix.connect) > 0 {
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

// search makes ready for inside.
func (cu *cursor) search(s stage, t *inner, path string) {
	cu.stage, cu.node, cu.text, cu.seen.n = s, noNode, "", 0
	if len(t.nodes) > 0 {
		cu.text = path
	}
}

// inside returns the candidates of the next node that the path has the text
// of. A text may be there many times; its node is returned once. A path that
// has more different texts than seen holds gets all of the tree at once: it is
// never worse off than with a linear scan.
func (cu *cursor) inside(t *inner, best uint32) []uint32 {
	for {
		if cu.node != noNode && !cu.seen.has(cu.node) {
			at := cu.node
			list := cu.climb(&t.radix, best)
			if list != nil && !cu.seen.add(at) {
				cu.node, cu.text = noNode, ""
				return t.all
			}
			if list != nil {
				return list
			}
		}
		// If a node was seen, so were those above it.
		if cu.text == "" {
			return nil
		}
		cu.node = t.find(cu.text)
		cu.text = cu.text[1:]
	}
}

// seen are the nodes that inside has returned.
type seen struct {
	nodes [16]uint32
	n     int
}

func (s *seen) has(node uint32) bool {
	for _, have := range s.nodes[:s.n] {
		if have == node {
			return true
		}
	}
	return false
}

// add reports whether there was room.
func (s *seen) add(node uint32) bool {
	if s.n == len(s.nodes) {
		return false
	}
	s.nodes[s.n] = node
	s.n++
	return true
}

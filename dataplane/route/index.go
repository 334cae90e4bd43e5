package route

import "slices"

// index finds the few routes of a virtual host that a path can match:
//
//   - exact, case-sensitive paths by hash;
//   - prefixes, separated prefixes and regexes in a radix tree, under the
//     literal texts that every path they match begins with one of (a regex may
//     have none: then it is at the root and a candidate for all);
//   - regexes that are better known by a text inside (literal.go) in a tree
//     that is searched at every position of the path;
//   - those that ignore case in trees of lower-case text;
//   - connect matchers in a list for the method CONNECT.
//
// It is a filter only: each candidate is then tried in full (entry.try). A
// list of candidates is in ascending order, so the first that matches is the
// list's best, and the lowest order among the lists' bests is what a linear
// scan would have found. Lists are asked from the longest prefix to the
// shortest, and a list ends where its orders exceed the best so far. A long
// list is not walked but split by what its routes ask besides the path
// (split.go).
type index struct {
	exact       map[string][]uint32
	cased       radix
	folded      radix
	inner       inner
	innerFolded inner
	connect     []uint32
	splits      map[*uint32]*split // of long lists, by their first element
}

// inner is a radix tree whose keys are looked for at every position of a path.
type inner struct {
	radix
	all []uint32 // every route of the tree, ascending
}

func newIndex(routes []entry) index {
	var ix index
	var cased, folded []keyed
	var regexes []uint32
	exact := 0
	for i := range routes {
		p := &routes[i].path
		order := uint32(i)
		switch {
		case p.Kind == PathConnect:
			ix.connect = append(ix.connect, order)
		case p.Kind == PathRegex:
			regexes = append(regexes, order)
		case p.IgnoreCase:
			folded = append(folded, keyed{p.Value, order})
		case p.Kind == PathExact:
			exact++
		default:
			cased = append(cased, keyed{p.Value, order})
		}
	}
	rk := newRegexKeys(routes, regexes)
	ix.cased, ix.folded = newRadix(append(cased, rk.cased...), false), newRadix(append(folded, rk.folded...), true)
	ix.inner, ix.innerFolded = newInner(rk.inner, false), newInner(rk.innerFolded, true)
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
	ix.addSplits(routes)
	return ix
}

func newInner(keys []keyed, fold bool) inner {
	all := make([]uint32, 0, len(keys))
	for _, k := range keys {
		all = append(all, k.order)
	}
	slices.Sort(all)
	return inner{newRadix(keys, fold), slices.Compact(all)}
}

func (ix *index) addSplits(routes []entry) {
	add := func(list []uint32) {
		if s := newSplit(routes, list, nil); s != nil {
			if ix.splits == nil {
				ix.splits = make(map[*uint32]*split)
			}
			ix.splits[&list[0]] = s
		}
	}
	for _, list := range ix.exact {
		add(list)
	}
	for _, t := range []*radix{&ix.cased, &ix.folded, &ix.inner.radix, &ix.innerFolded.radix} {
		for i := range t.nodes {
			add(t.orders[t.nodes[i].lo:t.nodes[i].hi])
		}
	}
	add(ix.inner.all)
	add(ix.innerFolded.all)
	add(ix.connect)
}

// split returns the split of a list, nil if it has none.
func (ix *index) split(list []uint32) *split {
	if len(list) < splitMin {
		return nil
	}
	return ix.splits[&list[0]]
}

// regexKeys are the keys of the routes that match their path by regex.
type regexKeys struct{ cased, folded, inner, innerFolded []keyed }

// newRegexKeys takes for each regex the set of texts that fewer others need,
// its prefixes if that is the same.
func newRegexKeys(routes []entry, regexes []uint32) (rk regexKeys) {
	type text struct {
		text  string
		inner bool
	}
	shared := make(map[text]int)
	most := func(set []string, inner bool) int {
		n := 0
		for _, s := range set {
			if s == "" {
				return len(regexes)
			}
			n = max(n, shared[text{s, inner}])
		}
		return n
	}
	for _, order := range regexes {
		need := &routes[order].path.Regex.need
		for _, s := range need.prefixes {
			shared[text{s, false}]++
		}
		for _, s := range need.inner {
			shared[text{s, true}]++
		}
	}
	for _, order := range regexes {
		need := &routes[order].path.Regex.need
		to, set := &rk.cased, need.prefixes
		inside := most(need.inner, true) < most(need.prefixes, false)
		switch {
		case inside && need.fold:
			to, set = &rk.innerFolded, need.inner
		case inside:
			to, set = &rk.inner, need.inner
		case need.fold:
			to = &rk.folded
		}
		for _, s := range set {
			*to = append(*to, keyed{s, order})
		}
	}
	return rk
}

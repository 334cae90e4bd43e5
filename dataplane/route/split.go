package route

import "github.com/sluice-proxy/sluice/dataplane/call"

// split finds the few routes of a long list of candidates that a request's
// headers and query parameters allow. Each route with exact matchers stands
// under one of them, the one that it shares with the fewest routes of the
// list; the others, in rest, are for every request. What stands under one
// value is split again by the routes' other matchers.
//
// As the index, it is a filter only, and its lists are ascending.
type split struct {
	keys []key          // looked up in every request
	many map[string]key // if not nil: headers, looked up by the names a request has
	rest []uint32
}

// key is a header or query parameter and the routes under each of its values.
type key struct {
	field
	byValue map[string]branch
}

type field struct {
	query bool
	name  string
}

type branch struct {
	orders []uint32
	split  *split // nil: try them all
}

const (
	splitMin = 8 // shorter lists are tried in full
	maxKeys  = 8 // parameters at most, and headers that are looked up one by one
)

// exactly calls f with every field that must have one value.
func (c *conditions) exactly(f func(of field, value string)) {
	if c == nil {
		return
	}
	for i := range c.headers {
		h := &c.headers[i]
		plain := h.Kind == HeaderString && h.String.Kind == StringExact && !h.String.IgnoreCase && !h.Invert
		if plain && !(h.MissingAsEmpty && h.String.Value == "") {
			f(field{name: h.Name}, h.String.Value)
		}
	}
	for i := range c.query {
		q := &c.query[i]
		if q.Kind == QueryString && q.String.Kind == StringExact && !q.String.IgnoreCase {
			f(field{query: true, name: q.Name}, q.String.Value)
		}
	}
}

// splitter makes the split of one list.
type splitter struct {
	routes []entry
	above  []field // what the list is split by already
	shared map[condition]int
	using  map[field]int
	admit  map[field]bool // nil: all
}

type condition struct {
	field field
	value string
}

// newSplit returns nil if there is nothing to gain.
func newSplit(routes []entry, orders []uint32, above []field) *split {
	if len(orders) < splitMin {
		return nil
	}
	s := splitter{routes: routes, above: above, shared: make(map[condition]int), using: make(map[field]int)}
	for _, order := range orders {
		s.conditions(order, func(c condition) {
			s.shared[c]++
			s.using[c.field]++
		})
	}
	if len(s.shared) == 0 {
		return nil
	}
	s.limitParameters()
	return s.split(orders)
}

func (s *splitter) conditions(order uint32, f func(condition)) {
	s.routes[order].cond.exactly(func(of field, value string) {
		for _, a := range s.above {
			if a == of {
				return
			}
		}
		if s.admit == nil || !of.query || s.admit[of] {
			f(condition{of, value})
		}
	})
}

// limitParameters admits the parameters that most routes use. Unlike headers,
// there is no cheap way from a request's parameters to the routes.
func (s *splitter) limitParameters() {
	s.admit = make(map[field]bool)
	for len(s.admit) < maxKeys {
		var most field
		for f, n := range s.using {
			if f.query && !s.admit[f] && (n > s.using[most] || n == s.using[most] && f.name < most.name) {
				most = f
			}
		}
		if !most.query {
			break
		}
		s.admit[most] = true
	}
}

// choose returns the condition of a route that it is found by.
func (s *splitter) choose(order uint32) (best condition, ok bool) {
	s.conditions(order, func(c condition) {
		switch n, least := s.shared[c], s.shared[best]; {
		case !ok, n < least, n == least && s.using[c.field] > s.using[best.field]:
			best, ok = c, true
		}
	})
	return best, ok
}

func (s *splitter) split(orders []uint32) *split {
	out := &split{}
	lists := make(map[condition][]uint32)
	keys := make(map[field]key)
	headers := 0
	for _, order := range orders {
		c, ok := s.choose(order)
		if !ok {
			out.rest = append(out.rest, order)
			continue
		}
		if _, ok := keys[c.field]; !ok {
			keys[c.field] = key{field: c.field, byValue: make(map[string]branch)}
			if c.field.plain() {
				headers++
			}
		}
		lists[c] = append(lists[c], order)
	}
	for c, list := range lists {
		above := append(s.above[:len(s.above):len(s.above)], c.field)
		keys[c.field].byValue[c.value] = branch{list, newSplit(s.routes, list, above)}
	}
	if headers > maxKeys {
		out.many = make(map[string]key, headers)
	}
	for f, k := range keys {
		if out.many != nil && f.plain() {
			out.many[f.name] = k
		} else {
			out.keys = append(out.keys, k)
		}
	}
	return out
}

// plain reports whether a request's fields have it under its name.
func (f field) plain() bool { return !f.query && f.name[0] != ':' }

// scan returns the lowest order below best of a list that takes the request,
// best if none does.
func (v *vhost) scan(orders []uint32, s *split, r *request, best uint32) uint32 {
	if s != nil {
		for i := range s.keys {
			best = v.under(&s.keys[i], r, best)
		}
		if s.many != nil {
			best = v.underMany(s.many, r, best)
		}
		orders = s.rest
	}
	for _, order := range orders {
		if order >= best {
			break
		}
		if v.routes[order].try(r).step == matched {
			return order
		}
	}
	return best
}

// under scans what stands under the request's value of a key.
func (v *vhost) under(k *key, r *request, best uint32) uint32 {
	if !k.query {
		if _, n := headerValue(r.call, k.name); n > 1 && Separator(k.name) == "" {
			return v.underAll(k, r, best)
		}
	}
	if b, ok := k.find(r.call); ok && b.orders[0] < best {
		best = v.scan(b.orders, b.split, r, best)
	}
	return best
}

// underAll scans what stands under each value of a header.
func (v *vhost) underAll(k *key, r *request, best uint32) uint32 {
	fields := r.call.Headers.Fields
	for i := range fields {
		if fields[i].Name != k.name {
			continue
		}
		if b, ok := k.byValue[fields[i].Value]; ok && b.orders[0] < best {
			best = v.scan(b.orders, b.split, r, best)
		}
	}
	return best
}

func (v *vhost) underMany(many map[string]key, r *request, best uint32) uint32 {
	if r.call.Headers == nil {
		return best
	}
	fields := r.call.Headers.Fields
next:
	for i := range fields {
		k, ok := many[fields[i].Name]
		if !ok {
			continue
		}
		for j := range i {
			if fields[j].Name == k.name {
				continue next // all its values were looked up together
			}
		}
		best = v.under(&k, r, best)
	}
	return best
}

// find looks the request's value up; of a header that is a list, the joined
// one, as HeaderMatch sees it.
func (k *key) find(c *call.Call) (branch, bool) {
	if k.query {
		value, ok := queryValue(c.Path, k.name)
		if !ok {
			return branch{}, false
		}
		b, ok := k.byValue[value]
		return b, ok
	}
	value, n := headerValue(c, k.name)
	switch n {
	case 0:
		return branch{}, false
	case 1:
		b, ok := k.byValue[value]
		return b, ok
	}
	var buf [512]byte
	b, ok := k.byValue[string(appendValues(buf[:0], c, k.name))]
	return b, ok
}

package route

import (
	"errors"
	"fmt"
	"slices"
)

// entry is a compiled route. Its place in the virtual host's list is its
// order; it points to nothing of the table.
type entry struct {
	path   PathMatch
	cond   *conditions // nil: none but the path
	action action
	name   string
}

// conditions are what a route asks besides its path.
type conditions struct {
	grpc     bool
	headers  []HeaderMatch
	query    []QueryMatch
	cookies  []CookieMatch
	fraction *Fraction
}

// verdict is what came of trying a route: matched, or the first step that
// failed and the index of the header or parameter in it.
type verdict struct {
	step  step
	index int
}

type step uint8

const (
	matched step = iota
	failedPath
	failedGRPC
	failedHeader
	failedQuery
	failedCookie
	failedFraction
)

// try is the one place that decides whether a route takes a request; Direct
// and Explain both ask it. The order of the steps shows only in explanations.
func (e *entry) try(r *request) verdict {
	if !e.path.match(r) {
		return verdict{step: failedPath}
	}
	if e.cond == nil {
		return verdict{}
	}
	return e.cond.try(r)
}

func (c *conditions) try(r *request) verdict {
	if c.grpc && !r.call.GRPC {
		return verdict{step: failedGRPC}
	}
	for i := range c.headers {
		if !c.headers[i].match(r.call) {
			return verdict{failedHeader, i}
		}
	}
	for i := range c.query {
		if !c.query[i].match(r.call.Path) {
			return verdict{failedQuery, i}
		}
	}
	for i := range c.cookies {
		if !c.cookies[i].match(r.call) {
			return verdict{failedCookie, i}
		}
	}
	if c.fraction != nil && !c.fraction.match(r.call) {
		return verdict{step: failedFraction}
	}
	return verdict{}
}

func compileEntry(m *Match, a *Action) (entry, error) {
	e := entry{path: m.Path, name: a.Name}
	errs := []error{e.path.compile()}
	if m.GRPC || len(m.Headers) > 0 || len(m.Query) > 0 || len(m.Cookies) > 0 || m.Fraction != nil {
		c := &conditions{grpc: m.GRPC, headers: slices.Clone(m.Headers), query: slices.Clone(m.Query), cookies: slices.Clone(m.Cookies)}
		for i := range c.headers {
			errs = append(errs, c.headers[i].compile())
		}
		for i := range c.query {
			errs = append(errs, c.query[i].compile())
		}
		for i := range c.cookies {
			errs = append(errs, c.cookies[i].compile())
		}
		if m.Fraction != nil {
			f := *m.Fraction
			if f.Denominator == 0 {
				errs = append(errs, errors.New("fraction: the denominator is 0"))
			}
			c.fraction = &f
		}
		e.cond = c
	}
	var err error
	e.action, err = compileAction(a)
	if err := errors.Join(append(errs, err)...); err != nil {
		return entry{}, fmt.Errorf("route %q (%v): %w", a.Name, m.Path, err)
	}
	return e, nil
}

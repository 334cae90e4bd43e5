package xdsconfig

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is one fault of one resource. Compile returns all it found, joined.
type Error struct {
	Kind   string // message name: "Cluster", "RouteConfiguration"
	Name   string // the resource's name
	Path   string // the field: "virtual_hosts[0].routes[3].match"; empty: the resource itself
	Reason string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%s %q: %s", e.Kind, e.Name, e.Reason)
	}
	return fmt.Sprintf("%s %q: %s: %s", e.Kind, e.Name, e.Path, e.Reason)
}

// Warning is what works, but perhaps not as the author of the resource thinks.
type Warning Error

func (w Warning) String() string { return (*Error)(&w).Error() }

// maxErrors bounds a NACK: 100,000 bad routes are told by the first of them.
const maxErrors = 32

// report collects what one compilation finds wrong.
type report struct {
	kind, name string
	env        *Env
	errs       []error
	repeats    int              // errors that would only repeat those of the check
	more       int              // errors beyond maxErrors
	faulty     map[string]fault // places with errors and all above them; nil until the first
	warnings   []*repeated
	warned     map[string]*repeated // by what warnings of one kind have in common
}

// fault is how a place takes part in what is wrong.
type fault uint8

const (
	faultBelow   fault = 1 << iota // something below it is wrong
	faultHere                      // it is wrong itself
	faultChecked                   // it failed the check: what is compiled of it would only repeat that
)

// repeated is a warning and in how many more places it holds: a table of
// 100,000 routes gets one line, not one per route.
type repeated struct {
	first Warning
	more  int
}

// root returns the place of the resource itself.
func (r *report) root() *at { return &at{r: r, index: -1} }

// done tells the warnings and returns the errors, nil if there are none.
func (r *report) done() error {
	if r.env.Warn != nil {
		for _, w := range r.warnings {
			if w.more > 0 {
				w.first.Reason += fmt.Sprintf(" (and in %s)", plural(w.more, "more place"))
			}
			r.env.Warn(w.first)
		}
	}
	if len(r.errs) == 0 {
		return nil
	}
	if r.more > 0 {
		r.errs = append(r.errs, &Error{Kind: r.kind, Name: r.name, Reason: plural(r.more, "more error")})
	}
	return errors.Join(r.errs...)
}

// plural says n things.
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}

// faults counts the errors so far.
func (r *report) faults() int { return len(r.errs) + r.more + r.repeats }

// failed reports whether anything is wrong so far.
func (r *report) failed() bool { return len(r.errs) > 0 }

// at is a place in a resource. Its text is only made when something is said
// about it: a route table has hundreds of thousands of places.
type at struct {
	r     *report
	up    *at
	name  string
	index int // of a repeated field; -1: none
}

// field returns the place of a field below a.
func (a *at) field(name string) *at { return &at{r: a.r, up: a, name: name, index: -1} }

// item returns the place of the i-th element of a repeated field below a.
func (a *at) item(name string, i int) *at { return &at{r: a.r, up: a, name: name, index: i} }

func (a *at) String() string {
	var parts []string
	for ; a.up != nil; a = a.up {
		s := a.name
		if a.index >= 0 {
			s += "[" + strconv.Itoa(a.index) + "]"
		}
		parts = append(parts, s)
	}
	slices.Reverse(parts)
	return strings.Join(parts, ".")
}

// errorf says that a is wrong: the resource will be refused. It says nothing of
// what failed the check, or lies below that: it was told.
func (a *at) errorf(format string, args ...any) {
	if a.r.failed() {
		for p := a; p.up != nil; p = p.up {
			if a.r.faulty[p.String()]&faultChecked != 0 {
				a.r.repeats++
				return
			}
		}
	}
	a.fail(faultHere, fmt.Sprintf(format, args...))
}

// checkf is errorf for what the check finds.
func (a *at) checkf(format string, args ...any) {
	a.fail(faultHere|faultChecked, fmt.Sprintf(format, args...))
}

func (a *at) fail(kind fault, reason string) {
	if a.r.faulty == nil {
		a.r.faulty = make(map[string]fault)
	}
	a.r.faulty[a.String()] |= kind
	for p := a; p.up != nil; p = p.up {
		if p.index >= 0 {
			a.r.faulty[p.up.field(p.name).String()] |= faultBelow
		}
		a.r.faulty[p.up.String()] |= faultBelow
	}
	if len(a.r.errs) == maxErrors {
		a.r.more++
		return
	}
	a.r.errs = append(a.r.errs, &Error{Kind: a.r.kind, Name: a.r.name, Path: a.String(), Reason: reason})
}

// bad reports whether a, or anything above or below it but the resource as a
// whole, is wrong: what follows from a need not be looked for.
func (a *at) bad() bool {
	if !a.r.failed() {
		return false
	}
	if a.r.faulty[a.String()] != 0 {
		return true
	}
	for p := a.up; p != nil && p.up != nil; p = p.up {
		if a.r.faulty[p.String()]&faultHere != 0 {
			return true
		}
	}
	return false
}

// unsupported says that a is right, but nothing this version can do.
func (a *at) unsupported() { a.errorf("not supported by this version") }

// warnf says something about a to whoever watches the compilation.
func (a *at) warnf(format string, args ...any) {
	if a.r.env.Warn == nil {
		return
	}
	reason := fmt.Sprintf(format, args...)
	var key strings.Builder
	for p := a; p.up != nil; p = p.up {
		key.WriteString(p.name)
		key.WriteByte('<')
	}
	key.WriteString(reason)
	if w := a.r.warned[key.String()]; w != nil {
		w.more++
		return
	}
	w := &repeated{first: Warning{Kind: a.r.kind, Name: a.r.name, Path: a.String(), Reason: reason}}
	if a.r.warned == nil {
		a.r.warned = make(map[string]*repeated)
	}
	a.r.warned[key.String()] = w
	a.r.warnings = append(a.r.warnings, w)
}

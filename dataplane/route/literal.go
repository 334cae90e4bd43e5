package route

import (
	"math"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// literals are what every string that an expression matches has: one of
// prefixes at its beginning, and one of inner somewhere. An empty string among
// them says nothing. With fold they are in lower case and hold for what is
// matched in lower case.
//
//	/acme\.v1\.(Cart|Shop)/.*    prefixes /acme.v1.Cart/, /acme.v1.Shop/
//	/.*/(Get|List)Thing          inner /GetThing, /ListThing
//	(?i)/[a-z.]+/getthing        inner /getthing, folded
type literals struct {
	prefixes []string
	inner    []string
	fold     bool
}

// The sets stay small: an alternation of more, or a longer text, is cut to
// what is known before it.
const (
	maxLiterals = 16
	maxLiteral  = 64 // bytes
)

func literalsOf(re *syntax.Regexp) literals {
	x := extractor{fold: folds(re)}
	f := x.find(re)
	return literals{prefixes: shortest(f.prefixes, strings.HasPrefix), inner: shortest(f.inner, strings.Contains), fold: x.fold}
}

// folds reports whether some literal of re ignores case. The whole expression
// is then looked up as if it did.
func folds(re *syntax.Regexp) bool {
	return re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase != 0 || slices.ContainsFunc(re.Sub, folds)
}

// shortest returns the set without what another one of it implies: then no two
// of a set's prefixes lie on one path's way.
func shortest(set []string, implied func(s, by string) bool) []string {
	slices.SortFunc(set, func(a, b string) int { return len(a) - len(b) })
	var out []string
	for _, s := range set {
		if !slices.ContainsFunc(out, func(by string) bool { return implied(s, by) }) {
			out = append(out, s)
		}
	}
	return out
}

// found is what is known of an expression's matches. The sets are never empty.
type found struct {
	prefixes []string
	inner    []string
	exact    bool // the prefixes are the whole matches
}

var nothing = []string{""}

func unknown() found           { return found{prefixes: nothing, inner: nothing} }
func exactly(s []string) found { return found{prefixes: s, inner: s, exact: true} }

type extractor struct{ fold bool }

func (x extractor) find(re *syntax.Regexp) found {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return exactly(nothing)
	case syntax.OpLiteral:
		return x.literal(re.Rune)
	case syntax.OpCharClass:
		return x.class(re.Rune)
	case syntax.OpCapture:
		return x.find(re.Sub[0])
	case syntax.OpPlus:
		f := x.find(re.Sub[0])
		f.exact = false
		return f
	case syntax.OpQuest:
		f := x.find(re.Sub[0])
		if !f.exact {
			return unknown()
		}
		return exactly(union(nothing, f.prefixes))
	case syntax.OpAlternate:
		return x.alternate(re.Sub)
	case syntax.OpConcat:
		return x.concat(re.Sub)
	}
	return unknown()
}

func (x extractor) literal(runes []rune) found {
	var b []byte
	for _, c := range runes {
		text, ok := x.text(c)
		if !ok || len(b)+len(text) > maxLiteral {
			s := []string{string(b)}
			return found{prefixes: s, inner: s}
		}
		b = append(b, text...)
	}
	return exactly([]string{string(b)})
}

// text returns the byte that c stands for in the text that is searched. It
// fails for characters that are no bytes, and where folding needs tables beyond
// ASCII.
func (x extractor) text(c rune) (string, bool) {
	switch {
	case x.fold && c == kelvin:
		return "k", true
	case x.fold && c == longS:
		return "s", true
	case c > math.MaxUint8, x.fold && c >= utf8.RuneSelf:
		return "", false
	case x.fold:
		return string(rune(lowerByte(byte(c)))), true
	}
	return string([]byte{byte(c)}), true
}

func (x extractor) class(ranges []rune) found {
	var set []string
	for i := 0; i < len(ranges); i += 2 {
		for c := ranges[i]; c <= ranges[i+1]; c++ {
			text, ok := x.text(c)
			if !ok || len(set) == maxLiterals {
				return unknown()
			}
			set = append(set, text)
		}
	}
	if len(set) == 0 {
		return unknown() // matches nothing
	}
	return exactly(union(nil, set))
}

func (x extractor) alternate(subs []*syntax.Regexp) found {
	all := found{exact: true}
	for _, sub := range subs {
		f := x.find(sub)
		all.prefixes = union(all.prefixes, f.prefixes)
		all.inner = union(all.inner, f.inner)
		all.exact = all.exact && f.exact
	}
	if len(all.prefixes) > maxLiterals {
		all.prefixes, all.exact = nothing, false
	}
	if len(all.inner) > maxLiterals {
		all.inner = nothing
	}
	return all
}

// concat joins neighbours whose matches are known in full to longer texts
// ("runs"). The first run gives the prefixes, the best of the runs and of what
// lies between them the inner ones.
func (x extractor) concat(subs []*syntax.Regexp) found {
	out := found{inner: nothing, exact: true}
	run := nothing
	end := func() { // of a run
		if out.prefixes == nil {
			out.prefixes = run
		}
		out.inner = better(out.inner, run)
		run = nothing
	}
	for _, sub := range subs {
		f := x.find(sub)
		longer, whole := cross(run, f.prefixes)
		if whole && f.exact {
			run = longer
			continue
		}
		out.exact = false
		if whole {
			run = longer
		}
		end()
		out.inner = better(out.inner, f.inner)
		if f.exact {
			run = f.prefixes
		}
	}
	end()
	return out
}

// better returns the set whose shortest text is longer, of two equals the
// smaller one.
func better(a, b []string) []string {
	la, lb := shortestOf(a), shortestOf(b)
	if lb > la || lb == la && len(b) < len(a) {
		return b
	}
	return a
}

func shortestOf(set []string) int {
	n := len(set[0])
	for _, s := range set {
		n = min(n, len(s))
	}
	return n
}

// cross returns every text of a followed by every text of b, unless that is
// too much.
func cross(a, b []string) (set []string, ok bool) {
	if len(a)*len(b) > maxLiterals {
		return nil, false
	}
	for _, s := range a {
		for _, t := range b {
			if len(s)+len(t) > maxLiteral {
				return nil, false
			}
			set = append(set, s+t)
		}
	}
	return union(nil, set), true
}

// union returns what is in a or b, each once.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// The two characters beyond bytes that are equal to ASCII letters if case is
// ignored (unicode.SimpleFold): an expression may name them.
const (
	kelvin = '\u212a' // K
	longS  = '\u017f' // ſ
)

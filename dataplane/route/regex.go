package route

import (
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// Regex is an RE2 expression that must match all of its input, as Envoy's
// RegexMatcher does. Immutable; may be shared by many matchers and tables.
type Regex struct {
	expr   string
	re     *regexp.Regexp
	prefix string // every string it matches begins with it
}

// CompileRegex compiles expr for matching whole strings.
func CompileRegex(expr string) (*Regex, error) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err // of the expression as written, not as wrapped below
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, err
	}
	prefix, _ := literalPrefix(parsed.Simplify())
	return &Regex{expr: expr, re: re, prefix: prefix}, nil
}

// String returns the expression as it was written.
func (r *Regex) String() string { return r.expr }

func (r *Regex) match(s string) bool { return r.re.MatchString(s) }

// literalPrefix returns a string that all matches of re begin with, and
// whether that is all of re.
func literalPrefix(re *syntax.Regexp) (prefix string, all bool) {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText:
		return "", true
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return "", false
		}
		for i, c := range re.Rune {
			if c == utf8.RuneError { // also matches bytes that are not UTF-8
				return string(re.Rune[:i]), false
			}
		}
		return string(re.Rune), true
	case syntax.OpCapture:
		return literalPrefix(re.Sub[0])
	case syntax.OpPlus:
		prefix, _ = literalPrefix(re.Sub[0])
		return prefix, false
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			p, all := literalPrefix(sub)
			prefix += p
			if !all {
				return prefix, false
			}
		}
		return prefix, true
	}
	return "", false
}

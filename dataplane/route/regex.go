package route

import (
	"regexp"
	"regexp/syntax"
)

// Regex is an RE2 expression that must match all of its input, as Envoy's
// RegexMatcher does. Immutable; may be shared by many matchers and tables.
type Regex struct {
	expr string
	re   *regexp.Regexp
	need literals // what the index finds it by
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
	return &Regex{expr: expr, re: re, need: literalsOf(parsed.Simplify())}, nil
}

// String returns the expression as it was written.
func (r *Regex) String() string { return r.expr }

func (r *Regex) match(s string) bool { return r.re.MatchString(s) }

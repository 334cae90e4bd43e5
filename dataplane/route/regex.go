package route

import "regexp"

// Regex is an RE2 expression that must match all of its input, as Envoy's
// RegexMatcher does. Immutable; may be shared by many matchers and tables.
type Regex struct {
	expr   string
	re     *regexp.Regexp
	prefix string // every match begins with it
}

// CompileRegex compiles expr for matching whole strings.
func CompileRegex(expr string) (*Regex, error) {
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err // of the expression as written, not of our wrapping
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, err
	}
	return &Regex{expr: expr, re: re}, nil
}

// String returns the expression as it was written.
func (r *Regex) String() string { return r.expr }

package route

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// Regex is an RE2 expression that must match all of its input, as Envoy's
// RegexMatcher does. As in Envoy it knows bytes, not characters: "." takes one
// byte of any value, and \x{e9} the byte 0xe9 (RE2's Latin-1). Immutable; may be
// shared by many matchers and tables.
type Regex struct {
	expr string
	re   *regexp.Regexp
	need literals // what the index finds it by
}

// CompileRegex compiles expr for matching whole strings.
func CompileRegex(expr string) (*Regex, error) {
	wide := Widen(expr)
	parsed, err := syntax.Parse(wide, syntax.Perl)
	if err != nil {
		return nil, err // of the expression as written, not as wrapped below
	}
	re, err := regexp.Compile(`\A(?:` + wide + `)\z`)
	if err != nil {
		// A quotation may go on to the end of the expression: then it has taken
		// the closing parenthesis, too.
		if re, err = regexp.Compile(`\A(?:` + wide + `\E)\z`); err != nil {
			return nil, err
		}
	}
	return &Regex{expr: expr, re: re, need: literalsOf(parsed.Simplify())}, nil
}

// String returns the expression as it was written.
func (r *Regex) String() string { return r.expr }

// Match reports whether all of s matches.
func (r *Regex) Match(s string) bool { return r.re.MatchString(Widen(s)) }

// Widen returns s with the character of its number for each byte, so that
// package regexp, which reads UTF-8, sees bytes: s itself if it is ASCII.
func Widen(s string) string {
	i := 0
	for i < len(s) && s[i] < utf8.RuneSelf {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.Grow(2 * len(s))
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// Narrow undoes Widen.
func Narrow(s string) string {
	if wide := strings.IndexFunc(s, func(c rune) bool { return c >= utf8.RuneSelf }); wide < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, c := range s {
		b = append(b, byte(c))
	}
	return string(b)
}

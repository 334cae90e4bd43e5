package route

import (
	"errors"
	"fmt"
	"strings"
)

// StringKind is the kind of a StringMatch.
type StringKind uint8

// Kinds of string match, as StringMatcher.match_pattern names them.
const (
	StringExact StringKind = iota
	StringPrefix
	StringSuffix
	StringContains
	StringRegex // safe_regex: all of the value
)

// StringMatch is envoy.type.matcher.v3.StringMatcher.
type StringMatch struct {
	Kind       StringKind
	Value      string
	Regex      *Regex // for StringRegex
	IgnoreCase bool   // ASCII; not for regexes
}

func (m *StringMatch) match(s string) bool {
	if m.Kind == StringRegex {
		return m.Regex.Match(s)
	}
	return m.matchPlain(s)
}

// matchPlain is match for all kinds but regexes. It does not retain s, so s
// may be on the caller's stack.
func (m *StringMatch) matchPlain(s string) bool {
	switch m.Kind {
	case StringExact:
		return len(s) == len(m.Value) && hasPrefix(s, m.Value, m.IgnoreCase)
	case StringPrefix:
		return hasPrefix(s, m.Value, m.IgnoreCase)
	case StringSuffix:
		return len(s) >= len(m.Value) && hasPrefix(s[len(s)-len(m.Value):], m.Value, m.IgnoreCase)
	case StringContains:
		return contains(s, m.Value, m.IgnoreCase)
	}
	return false
}

func (m *StringMatch) compile() error {
	switch {
	case m.Kind > StringRegex:
		return fmt.Errorf("unknown kind of string match %d", m.Kind)
	case m.Kind == StringRegex && m.Regex == nil:
		return errors.New("a regex match without a regex")
	}
	if m.IgnoreCase {
		m.Value = lower(m.Value)
	}
	return nil
}

// String describes the match for people.
func (m StringMatch) String() string {
	if m.Kind == StringRegex {
		return fmt.Sprintf("regex %q", m.Regex)
	}
	s := [...]string{"exact", "prefix", "suffix", "contains"}[m.Kind]
	if m.IgnoreCase {
		s += " (any case)"
	}
	return fmt.Sprintf("%s %q", s, m.Value)
}

// hasPrefix reports whether s begins with prefix. If fold, prefix is lower
// case and ASCII case does not count in s (absl::StartsWithIgnoreCase).
func hasPrefix(s, prefix string, fold bool) bool {
	if !fold {
		return strings.HasPrefix(s, prefix)
	}
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if lowerByte(s[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func contains(s, sub string, fold bool) bool {
	if !fold {
		return strings.Contains(s, sub)
	}
	for ; len(s) >= len(sub); s = s[1:] {
		if hasPrefix(s, sub, true) {
			return true
		}
		if s == "" {
			break
		}
	}
	return false
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lower returns s with ASCII letters in lower case; s itself if it is.
func lower(s string) string {
	for i := range len(s) {
		if lowerByte(s[i]) != s[i] {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				b[j] = lowerByte(b[j])
			}
			return string(b)
		}
	}
	return s
}

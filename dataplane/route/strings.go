package route

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

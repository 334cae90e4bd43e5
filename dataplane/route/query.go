package route

// QueryKind is the kind of a QueryMatch.
type QueryKind uint8

// Kinds of query match, as QueryParameterMatcher names them.
const (
	QueryPresent QueryKind = iota // present_match, or no specifier at all
	QueryString                   // string_match
)

// QueryMatch is envoy.config.route.v3.QueryParameterMatcher. Of a parameter
// that occurs more than once the first value counts; nothing is decoded.
type QueryMatch struct {
	Name   string
	Kind   QueryKind
	String StringMatch // for QueryString
	Absent bool        // for QueryPresent: present_match is false
}

package route

// HeaderKind is the kind of a HeaderMatch.
type HeaderKind uint8

// Kinds of header match, as HeaderMatcher.header_match_specifier names them.
const (
	HeaderPresent HeaderKind = iota // present_match, or no specifier at all
	HeaderString                    // string_match
	HeaderRange                     // range_match: the whole value is a decimal number in [Start, End)
)

// HeaderMatch is envoy.config.route.v3.HeaderMatcher. Values of a header that
// occurs more than once are joined with "," first. A missing header matches
// nothing but HeaderPresent, inverted or not, unless MissingAsEmpty.
type HeaderMatch struct {
	Name           string // ":method", ":path", ":authority" and ":scheme" too
	Kind           HeaderKind
	String         StringMatch // for HeaderString
	Start, End     int64       // for HeaderRange
	Absent         bool        // for HeaderPresent: present_match is false
	Invert         bool        // invert_match
	MissingAsEmpty bool        // treat_missing_header_as_empty
}

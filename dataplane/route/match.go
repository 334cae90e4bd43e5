package route

// Match is envoy.config.route.v3.RouteMatch: all of it must hold. The zero
// Match is the prefix "" and takes every request.
type Match struct {
	Path     PathMatch
	GRPC     bool // RouteMatch.grpc: the request's content-type is gRPC's
	Headers  []HeaderMatch
	Query    []QueryMatch
	Fraction *Fraction // RouteMatch.runtime_fraction; nil: always
}

// PathKind is the kind of a PathMatch.
type PathKind uint8

// Kinds of path match, as RouteMatch.path_specifier names them.
const (
	PathPrefix          PathKind = iota // prefix
	PathExact                           // path
	PathSeparatedPrefix                 // path_separated_prefix: "/a" takes "/a" and "/a/b", not "/ab"
	PathRegex                           // safe_regex: all of the path
	PathConnect                         // connect_matcher: CONNECT requests, whatever their path
)

// PathMatch asks something of :path without its query.
type PathMatch struct {
	Kind       PathKind
	Value      string // for the prefix and exact kinds
	Regex      *Regex // for PathRegex
	IgnoreCase bool   // not case_sensitive; ASCII; not for regexes
}

// Fraction is RuntimeFractionalPercent: the share of requests a route takes.
type Fraction struct {
	Numerator   uint32 // default_value
	Denominator uint32 // 100, 10,000 or 1,000,000
	Key         string // runtime_key
	// Lookup returns the runtime's present value of Key, if it has one. Called
	// per request by all workers; nil: the default always holds.
	Lookup func(key string) (numerator, denominator uint32, ok bool)
}

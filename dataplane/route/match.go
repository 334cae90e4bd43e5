package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Match is envoy.config.route.v3.RouteMatch: all of it must hold. The zero
// Match is the prefix "" and takes every request.
type Match struct {
	Path     PathMatch
	GRPC     bool // RouteMatch.grpc: the request's content-type is gRPC's
	Headers  []HeaderMatch
	Query    []QueryMatch
	Cookies  []CookieMatch
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

// PathMatch asks something of :path without its query and fragment.
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

// request is a call as the matchers see it.
type request struct {
	call *call.Call
	path string // without query, fragment and, if configured, path parameters
}

func (p *PathMatch) match(r *request) bool {
	if p.Kind == PathConnect {
		return r.call.Method == "CONNECT"
	}
	if r.call.Path == "" {
		return false // CONNECT without :path; only connect_matcher takes it
	}
	path := r.path
	switch p.Kind {
	case PathExact:
		return len(path) == len(p.Value) && hasPrefix(path, p.Value, p.IgnoreCase)
	case PathSeparatedPrefix:
		return hasPrefix(path, p.Value, p.IgnoreCase) &&
			(len(path) == len(p.Value) || path[len(p.Value)] == '/')
	case PathRegex:
		return p.Regex.Match(path)
	}
	return hasPrefix(path, p.Value, p.IgnoreCase)
}

func (p *PathMatch) compile() error {
	switch {
	case p.Kind > PathConnect:
		return fmt.Errorf("path: unknown kind %d", p.Kind)
	case p.Kind == PathRegex && p.Regex == nil:
		return errors.New("path: a regex match without a regex")
	case p.Kind == PathSeparatedPrefix && p.Value == "":
		return errors.New("path: an empty path_separated_prefix")
	}
	if p.IgnoreCase {
		p.Value = lower(p.Value)
	}
	return nil
}

// String describes the match for people.
func (p PathMatch) String() string {
	var s string
	switch p.Kind {
	case PathConnect:
		return "connect"
	case PathRegex:
		return fmt.Sprintf("regex %q", p.Regex)
	case PathExact:
		s = "path"
	case PathSeparatedPrefix:
		s = "path_separated_prefix"
	default:
		s = "prefix"
	}
	if p.IgnoreCase {
		s += " (any case)"
	}
	return fmt.Sprintf("%s %q", s, p.Value)
}

// match draws from the high half of the request's random number, and all
// fractions from the same bits as in Envoy: of two routes in a row with 25 %
// and 50 %, the second takes those between 25 and 50. The weighted pick
// (action.go) uses the low half: within a fraction every cluster keeps its share.
func (f *Fraction) match(c *call.Call) bool {
	num, den := f.now()
	return f.draw(c, den) < num
}

func (f *Fraction) draw(c *call.Call, den uint32) uint32 { return uint32(c.Rand>>32) % den }

func (f *Fraction) now() (num, den uint32) {
	if f.Lookup != nil && f.Key != "" {
		if num, den, ok := f.Lookup(f.Key); ok && den > 0 {
			return num, den
		}
	}
	return f.Numerator, f.Denominator
}

// cutPath returns what of :path routes are matched against
// (Envoy: PathUtil::removeQueryAndFragment, sanitizePathBeforePathMatching).
func cutPath(path string, parameters bool) string {
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if i := strings.IndexByte(path, '#'); i >= 0 {
		path = path[:i]
	}
	if parameters {
		path = cutParameters(path)
	}
	return path
}

// cutParameters removes from each segment what follows a ";": "/a;x/b;y" is
// "/a/b". What it returns may be new text, or path.
func cutParameters(path string) string {
	i := strings.IndexByte(path, ';')
	if i < 0 {
		return path
	}
	b := append(make([]byte, 0, len(path)), path[:i]...)
	for keep := false; i < len(path); i++ {
		switch path[i] {
		case '/':
			keep = true
		case ';':
			keep = false
		}
		if keep {
			b = append(b, path[i])
		}
	}
	return string(b)
}

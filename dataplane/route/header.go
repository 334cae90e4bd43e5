package route

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// HeaderKind is the kind of a HeaderMatch.
type HeaderKind uint8

// Kinds of header match, as HeaderMatcher.header_match_specifier names them.
const (
	HeaderPresent HeaderKind = iota // present_match, or no specifier at all
	HeaderString                    // string_match
	HeaderRange                     // range_match: the whole value is a decimal number in [Start, End)
)

// HeaderMatch is envoy.config.route.v3.HeaderMatcher. Of a header that occurs
// more than once any value may match, and inverted none may; but some headers
// are one list for Envoy (Separator), whose parts are joined first. A missing
// header matches nothing but HeaderPresent, inverted or not, unless
// MissingAsEmpty.
type HeaderMatch struct {
	Name           string // ":method", ":path", ":authority" (or "host") and ":scheme" too
	Kind           HeaderKind
	String         StringMatch // for HeaderString
	Start, End     int64       // for HeaderRange
	Absent         bool        // for HeaderPresent: present_match is false
	Invert         bool        // invert_match
	MissingAsEmpty bool        // treat_missing_header_as_empty
}

// match follows Envoy's HeaderUtility::matchHeaders.
func (h *HeaderMatch) match(c *call.Call) bool {
	value, n := headerValue(c, h.Name)
	if h.Kind == HeaderPresent {
		present := n > 0 || h.MissingAsEmpty
		return present != h.Absent != h.Invert
	}
	switch {
	case n == 0 && !h.MissingAsEmpty:
		return false // even if inverted
	case n < 2:
		return h.matchValue(value) != h.Invert
	case Separator(h.Name) == "":
		return h.matchAny(c) != h.Invert
	case h.Kind == HeaderString && h.String.Kind == StringRegex:
		// The one case that allocates: package regexp would move a buffer of
		// ours to the heap for every call.
		return h.String.Regex.Match(headerText(c, h.Name)) != h.Invert
	}
	var buf [512]byte
	joined := appendValues(buf[:0], c, h.Name)
	return h.matchJoined(unsafe.String(unsafe.SliceData(joined), len(joined))) != h.Invert
}

func (h *HeaderMatch) matchAny(c *call.Call) bool {
	fields := c.Headers.Fields
	for i := range fields {
		if fields[i].Name == h.Name && h.matchValue(fields[i].Value) {
			return true
		}
	}
	return false
}

func (h *HeaderMatch) matchValue(v string) bool {
	if h.Kind == HeaderString && h.String.Kind == StringRegex {
		return h.String.Regex.Match(v)
	}
	return h.matchJoined(v)
}

// matchJoined does not retain v.
func (h *HeaderMatch) matchJoined(v string) bool {
	if h.Kind == HeaderString {
		return h.String.matchPlain(v)
	}
	n, ok := parseInt(v)
	return ok && h.Start <= n && n < h.End
}

func (h *HeaderMatch) compile() error {
	h.Name = lower(h.Name)
	if h.Name == "host" { // Envoy knows only :authority and maps host to it
		h.Name = ":authority"
	}
	switch {
	case h.Name == "":
		return errors.New("header match without a name")
	case h.Kind > HeaderRange:
		return fmt.Errorf("header %q: unknown kind %d", h.Name, h.Kind)
	case h.Kind == HeaderString:
		if err := h.String.compile(); err != nil {
			return fmt.Errorf("header %q: %w", h.Name, err)
		}
	}
	return nil
}

// describe says for people what the header must be.
func (h *HeaderMatch) describe() string {
	var s string
	switch h.Kind {
	case HeaderString:
		s = h.String.String()
	case HeaderRange:
		s = fmt.Sprintf("range [%d, %d)", h.Start, h.End)
	default:
		s = "present"
		if h.Absent {
			s = "absent"
		}
	}
	if h.Invert {
		s = "not " + s
	}
	return s
}

// headerValue returns the first value of a header and how many there are, or 2
// if more. The pseudo-headers that filters may rewrite come from the call.
func headerValue(c *call.Call, name string) (value string, n int) {
	if name[0] == ':' {
		switch name {
		case ":path":
			return single(c.Path)
		case ":authority":
			return single(c.Host)
		case ":method":
			return single(c.Method)
		}
	}
	if c.Headers == nil {
		return "", 0
	}
	fields := c.Headers.Fields
	for i := range fields {
		if fields[i].Name != name {
			continue
		}
		if n++; n == 2 {
			break
		}
		value = fields[i].Value
	}
	return value, n
}

func single(v string) (string, int) {
	if v == "" {
		return "", 0
	}
	return v, 1
}

// headerText returns all of a header as text.
func headerText(c *call.Call, name string) string {
	if value, n := headerValue(c, name); n < 2 {
		return value
	}
	return string(appendValues(nil, c, name))
}

// Separator returns what the values of a request header are joined with where
// Envoy keeps them as one (its inline headers); "" for other headers. HTTP/2
// splits cookies, which belong together with "; " (RFC 9113 §8.2.3).
func Separator(name string) string {
	switch name {
	case "cookie":
		return "; "
	case "accept", "accept-encoding", "access-control-request-headers", "access-control-request-method",
		"access-control-request-private-network", "authentication", "authorization", "cache-control", "content-encoding",
		"content-type", "expect", "grpc-accept-encoding", "grpc-timeout", "if-match", "if-modified-since", "if-none-match",
		"if-range", "if-unmodified-since", "origin", "pragma", "proxy-status", "referer", "te", "user-agent", "via",
		"x-client-trace-id", "x-request-id":
		return ","
	}
	if strings.HasPrefix(name, "x-forwarded-") || strings.HasPrefix(name, "x-envoy-") && name != "x-envoy-original-dst-host" {
		return ","
	}
	return ""
}

// appendValues appends all values of a header.
func appendValues(dst []byte, c *call.Call, name string) []byte {
	sep := cmp.Or(Separator(name), ",")
	first := true
	fields := c.Headers.Fields
	for i := range fields {
		if fields[i].Name != name {
			continue
		}
		if !first {
			dst = append(dst, sep...)
		}
		first = false
		dst = append(dst, fields[i].Value...)
	}
	return dst
}

// parseInt parses a whole decimal number as absl::SimpleAtoi does. It is
// strconv.ParseInt without an error that allocates.
func parseInt(s string) (int64, bool) {
	s = strings.Trim(s, " \t\n\v\f\r")
	neg := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		s = s[1:]
	}
	if s == "" {
		return 0, false
	}
	var n int64 // negative or zero, for there is one more negative number
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 {
			return 0, false
		}
		const least = -1 << 63
		if n < (least+d)/10 {
			return 0, false
		}
		n = n*10 - d
	}
	if neg {
		return n, true
	}
	return -n, n != -1<<63
}

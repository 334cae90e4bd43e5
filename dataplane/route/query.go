package route

import (
	"errors"
	"fmt"
	"strings"
)

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

func (q *QueryMatch) match(path string) bool {
	value, ok := queryValue(path, q.Name)
	if q.Kind == QueryPresent {
		return ok != q.Absent
	}
	return ok && q.String.match(value)
}

func (q *QueryMatch) compile() error {
	switch {
	case q.Name == "":
		return errors.New("query parameter match without a name")
	case q.Kind > QueryString:
		return fmt.Errorf("query parameter %q: unknown kind %d", q.Name, q.Kind)
	case q.Kind == QueryString:
		if err := q.String.compile(); err != nil {
			return fmt.Errorf("query parameter %q: %w", q.Name, err)
		}
	}
	return nil
}

// describe says for people what the parameter must be.
func (q *QueryMatch) describe() string {
	switch {
	case q.Kind == QueryString:
		return q.String.String()
	case q.Absent:
		return "absent"
	}
	return "present"
}

// queryValue returns the first value of a parameter of :path. A parameter
// without "=" is empty.
func queryValue(path, name string) (string, bool) {
	_, query, _ := strings.Cut(path, "?")
	for query != "" {
		var param string
		param, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(param, "="); key == name {
			return value, true
		}
	}
	return "", false
}

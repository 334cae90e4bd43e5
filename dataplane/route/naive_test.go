package route

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// This file is a second router, written from Envoy's API documentation
// (config.route.v3) with none of the package's code: it looks at every domain
// and every route in order. The property tests hold the Table to it.

type naiveTable struct {
	ignorePort, ignoreParameters bool
	vhosts                       []naiveVHost
}

type naiveVHost struct {
	domains []string
	routes  []Match
}

// direct returns the indexes of the virtual host and its route; -1: none.
func (t *naiveTable) direct(c *call.Call) (vhost, route int) {
	vhost = t.vhost(c.Host)
	if vhost < 0 {
		return -1, -1
	}
	for i, m := range t.vhosts[vhost].routes {
		if t.matches(m, c) {
			return vhost, i
		}
	}
	return vhost, -1
}

// "Domain search order: 1. Exact domain names. 2. Suffix domain wildcards:
// *.foo.com or *-bar.foo.com. 3. Prefix domain wildcards: foo.* or foo-*.
// 4. Special wildcard * matching any domain. The longest wildcards match first."
func (t *naiveTable) vhost(host string) int {
	only := true // a configuration with nothing but "*" does not look at the host
	for _, vh := range t.vhosts {
		for _, d := range vh.domains {
			only = only && d == "*"
		}
	}
	missing := host == ""
	if t.ignorePort {
		if m := regexp.MustCompile(`^(.*):[^:\]]*$`).FindStringSubmatch(host); m != nil {
			host = m[1]
		}
	}
	host = asciiLower(host)
	best, bestRank := -1, -1
	for i, vh := range t.vhosts {
		for _, d := range vh.domains {
			d = asciiLower(d)
			rank := -1
			switch {
			case d == "*":
				if !missing || only {
					rank = 0
				}
			case d[0] == '*':
				if strings.HasSuffix(host, d[1:]) && len(host) >= len(d) {
					rank = 2000 + len(d)
				}
			case d[len(d)-1] == '*':
				if strings.HasPrefix(host, d[:len(d)-1]) && len(host) >= len(d) {
					rank = 1000 + len(d)
				}
			case d == host:
				rank = 3000
			}
			if rank > bestRank {
				best, bestRank = i, rank
			}
		}
	}
	return best
}

func (t *naiveTable) matches(m Match, c *call.Call) bool {
	path, _, _ := strings.Cut(c.Path, "?")
	path, _, _ = strings.Cut(path, "#")
	if t.ignoreParameters {
		path = parameters.ReplaceAllString(path, "")
	}
	return naivePath(m.Path, c, path) &&
		(!m.GRPC || c.GRPC) &&
		!slices.ContainsFunc(m.Headers, func(h HeaderMatch) bool { return !naiveHeader(h, c) }) &&
		!slices.ContainsFunc(m.Query, func(q QueryMatch) bool { return !naiveQuery(q, c.Path) }) &&
		(m.Fraction == nil || c.Rand>>32%uint64(m.Fraction.Denominator) < uint64(m.Fraction.Numerator))
}

func naivePath(p PathMatch, c *call.Call, path string) bool {
	value := p.Value
	if p.IgnoreCase && p.Kind != PathRegex {
		value, path = asciiLower(value), asciiLower(path)
	}
	switch p.Kind {
	case PathConnect:
		return c.Method == "CONNECT"
	case PathExact:
		return c.Path != "" && path == value
	case PathSeparatedPrefix:
		return c.Path != "" && (path == value || strings.HasPrefix(path, value+"/"))
	case PathRegex:
		return c.Path != "" && naiveRegex(p.Regex, path)
	}
	return c.Path != "" && strings.HasPrefix(path, value)
}

var parameters = regexp.MustCompile(`;[^/]*`)

var naiveRegexes = make(map[string]*regexp.Regexp)

func naiveRegex(r *Regex, s string) bool {
	re := naiveRegexes[r.String()]
	if re == nil {
		re = regexp.MustCompile("^(?:" + naiveBytes(r.String()) + ")$")
		re.Longest()
		naiveRegexes[r.String()] = re
	}
	s = naiveBytes(s)
	loc := re.FindStringIndex(s)
	return loc != nil && loc[0] == 0 && loc[1] == len(s)
}

// "An expression knows bytes": each is a character of its own.
func naiveBytes(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

func naiveString(m StringMatch, s string) bool {
	v := m.Value
	if m.IgnoreCase && m.Kind != StringRegex {
		v, s = asciiLower(v), asciiLower(s)
	}
	switch m.Kind {
	case StringExact:
		return s == v
	case StringPrefix:
		return strings.HasPrefix(s, v)
	case StringSuffix:
		return strings.HasSuffix(s, v)
	case StringContains:
		return strings.Contains(s, v)
	}
	return naiveRegex(m.Regex, s)
}

// "If the header does not exist, the match fails even if inverted; with
// treat_missing_header_as_empty it is an empty header."
func naiveHeader(h HeaderMatch, c *call.Call) bool {
	var values []string
	name := asciiLower(h.Name)
	switch name {
	case ":authority", "host":
		values = []string{c.Host}
	case ":path":
		values = []string{c.Path}
	case ":method":
		values = []string{c.Method}
	default:
		for _, f := range c.Headers.Fields {
			if f.Name == name {
				values = append(values, f.Value)
			}
		}
	}
	if name[0] == ':' || name == "host" {
		values = slices.DeleteFunc(values, func(s string) bool { return s == "" })
	}
	// "Of a header that occurs more than once any value may match."
	exists := len(values) > 0 || h.MissingAsEmpty
	switch {
	case name == "cookie":
		values = []string{strings.Join(values, "; ")}
	case name == "via":
		values = []string{strings.Join(values, ",")}
	case len(values) == 0:
		values = []string{""}
	}
	var ok bool
	switch {
	case h.Kind == HeaderPresent:
		ok = exists != h.Absent
	case !exists:
		return false
	case h.Kind == HeaderString:
		ok = slices.ContainsFunc(values, func(v string) bool { return naiveString(h.String, v) })
	case h.Kind == HeaderRange:
		ok = slices.ContainsFunc(values, func(v string) bool {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return err == nil && n >= h.Start && n < h.End
		})
	}
	if h.Invert {
		return !ok
	}
	return ok
}

func naiveQuery(q QueryMatch, path string) bool {
	_, query, _ := strings.Cut(path, "?")
	value, exists := "", false
	for _, param := range slices.Backward(strings.Split(query, "&")) {
		k, v, _ := strings.Cut(param, "=")
		if k == q.Name {
			value, exists = v, true // the first one stays
		}
	}
	if q.Kind == QueryPresent {
		return exists != q.Absent
	}
	return exists && naiveString(q.String, value)
}

func asciiLower(s string) string {
	b := []byte(s)
	for i := range b {
		if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] |= 0x20
		}
	}
	return string(b)
}

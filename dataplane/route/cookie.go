package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// CookieMatch is envoy.config.route.v3.CookieMatcher. Of a cookie that occurs
// more than once the first counts. One that is missing matches only inverted.
type CookieMatch struct {
	Name   string
	String StringMatch
	Invert bool // invert_match
}

func (m *CookieMatch) match(c *call.Call) bool {
	value, ok := cookieValue(c, m.Name)
	return (ok && m.String.match(value)) != m.Invert
}

func (m *CookieMatch) compile() error {
	if m.Name == "" {
		return errors.New("cookie match without a name")
	}
	if err := m.String.compile(); err != nil {
		return fmt.Errorf("cookie %q: %w", m.Name, err)
	}
	return nil
}

// describe says for people what the cookie must be.
func (m *CookieMatch) describe() string {
	if m.Invert {
		return "not " + m.String.String()
	}
	return m.String.String()
}

// cookieValue returns the first cookie of that name, without quotes around it
// (RFC 6265 §4.2.1).
func cookieValue(c *call.Call, name string) (string, bool) {
	if c.Headers == nil {
		return "", false
	}
	for i := range c.Headers.Fields {
		f := &c.Headers.Fields[i]
		if f.ID != hdr.Cookie {
			continue
		}
		for rest := f.Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			key, value, ok := strings.Cut(strings.TrimLeft(pair, " "), "=")
			if !ok || key != name {
				continue
			}
			if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value, true
		}
	}
	return "", false
}

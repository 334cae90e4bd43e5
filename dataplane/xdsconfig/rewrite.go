package xdsconfig

import (
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/route"
)

// rewrites compiles what a RouteAction makes of :path and :authority.
func (rt *routeCompiler) rewrites(a *at, m *routev3.RouteAction) {
	rt.appendHost = m.GetAppendXForwardedHost()
	switch {
	case m.GetPrefixRewrite() != "" && m.GetRegexRewrite() != nil:
		a.errorf("prefix_rewrite and regex_rewrite are both set")
	case m.GetPrefixRewrite() != "":
		rt.rewritePath = prefixRewrite(rt.m.GetMatch(), m.GetPrefixRewrite())
	case m.GetRegexRewrite() != nil:
		rt.rewritePath = a.field("regex_rewrite").pathSubstitution(m.GetRegexRewrite())
	}
	switch s := m.GetHostRewriteSpecifier().(type) {
	case *routev3.RouteAction_HostRewriteLiteral:
		rt.rewriteHost = literalHost(s.HostRewriteLiteral)
	case *routev3.RouteAction_HostRewriteHeader:
		h := newHeaderName(s.HostRewriteHeader)
		rt.rewriteHost = func(c *call.Call, _ call.Host) string {
			v, _ := h.of(c)
			return v
		}
	case *routev3.RouteAction_HostRewritePathRegex:
		if replace := a.field("host_rewrite_path_regex").substitution(s.HostRewritePathRegex); replace != nil {
			rt.rewriteHost = func(c *call.Call, _ call.Host) string {
				path, _ := cutQuery(c.Path)
				return replace(path)
			}
		}
	case *routev3.RouteAction_AutoHostRewrite:
		if s.AutoHostRewrite.GetValue() {
			rt.rewriteHost = autoHost
		}
	}
}

// rewrite returns the rewrites for one cluster, whose own host_rewrite_literal
// comes before the route's.
func (rt *routeCompiler) rewrite(host string) *call.Rewrite {
	rw := call.Rewrite{Path: rt.rewritePath, Host: rt.rewriteHost, Base: host, AppendHost: rt.appendHost}
	if rw.Host == nil && host != "" {
		rw.Base = ""
		rw.Host, rw.Silent, rw.AppendHost = literalHost(host), true, false
	}
	if rw.Path == nil && rw.Host == nil {
		return nil
	}
	return &rw
}

func literalHost(host string) func(*call.Call, call.Host) string {
	return func(*call.Call, call.Host) string { return host }
}

// autoHost takes the chosen endpoint's hostname (auto_host_rewrite).
func autoHost(_ *call.Call, h call.Host) string {
	if n, ok := h.(interface{ Hostname() string }); ok {
		return n.Hostname()
	}
	return ""
}

// cutQuery splits a :path before its query, which keeps its question mark.
func cutQuery(path string) (before, query string) {
	if i := strings.IndexByte(path, '?'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// prefixRewrite replaces what the match took of the path: all of it for a
// regular expression. A path that has other parameters within that than the
// match knows (ignore_path_parameters_in_path_matching) stays, as in Envoy.
func prefixRewrite(m *routev3.RouteMatch, to string) func(*call.Call) string {
	var from string
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		from = p.Prefix
	case *routev3.RouteMatch_Path:
		from = p.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		from = p.PathSeparatedPrefix
	default:
		return func(c *call.Call) string {
			_, query := cutQuery(c.Path)
			return to + query
		}
	}
	fold := m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue()
	return func(c *call.Call) string {
		path, query := cutQuery(c.Path)
		if len(path) < len(from) || path[:len(from)] != from && !(fold && strings.EqualFold(path[:len(from)], from)) {
			return ""
		}
		return to + path[len(from):] + query
	}
}

// pathSubstitution compiles a regex_rewrite, which leaves the query alone; nil
// if a says why not. A path of which nothing would be left stays, as in Envoy:
// that is what "" means.
func (a *at) pathSubstitution(m *matcherv3.RegexMatchAndSubstitute) func(*call.Call) string {
	replace := a.substitution(m)
	if replace == nil {
		return nil
	}
	return func(c *call.Call) string {
		path, query := cutQuery(c.Path)
		if path = replace(path); path == "" {
			return ""
		}
		return path + query
	}
}

// substitution compiles a RegexMatchAndSubstitute: every match is replaced. A
// bad substitution does what RE2's GlobalReplace makes of it: of a group that
// there is not, nothing is replaced; a backslash before anything but a digit or
// a backslash ends the replacement.
func (a *at) substitution(m *matcherv3.RegexMatchAndSubstitute) func(string) string {
	re, err := regexp.Compile(route.Widen(m.GetPattern().GetRegex()))
	if err != nil {
		a.field("pattern").field("regex").errorf("%s", err)
		return nil
	}
	var to strings.Builder // RE2's \1 is Go's ${1}
	s := m.GetSubstitution()
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		i++
		if n := int(s[i]) - '0'; n >= 0 && n <= 9 && n > re.NumSubexp() {
			a.field("substitution").warnf("\\%d: the expression has %s: nothing is replaced, as in Envoy", n, plural(re.NumSubexp(), "group"))
			return func(s string) string { return s }
		}
	}
loop:
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			to.WriteString("$$")
		case s[i] != '\\':
			to.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			i++
			to.WriteString("${" + s[i:i+1] + "}")
		case i+1 < len(s) && s[i+1] == '\\':
			i++
			to.WriteByte('\\')
		default:
			a.field("substitution").warnf("%q: the replacement ends before the backslash at %d, as in Envoy", s, i)
			break loop
		}
	}
	repl := route.Widen(to.String())
	return func(s string) string { return route.Narrow(re.ReplaceAllString(route.Widen(s), repl)) }
}

package xdsconfig

import (
	"cmp"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/route"
)

// redirection is where an answer of 201 or 3xx leads. The zero redirection
// leads where the request came to.
type redirection struct {
	scheme, host string // "": the request's
	port         string // ":443"; "": the request's, unless host is set
	path         string // may have a query; "": the request's
	// rewrite makes the path of the request's; nil: it stays.
	rewrite func(*call.Call) string
	// stripQuery leaves the request's query out.
	stripQuery bool
	// keepPort leaves the request's host as it is, also with another scheme.
	keepPort bool
}

var redirectCodes = map[routev3.RedirectAction_RedirectResponseCode]int{
	routev3.RedirectAction_MOVED_PERMANENTLY:  301,
	routev3.RedirectAction_FOUND:              302,
	routev3.RedirectAction_SEE_OTHER:          303,
	routev3.RedirectAction_TEMPORARY_REDIRECT: 307,
	routev3.RedirectAction_PERMANENT_REDIRECT: 308,
}

// redirect compiles a RedirectAction.
func (rt *routeCompiler) redirect(a *at, m *routev3.RedirectAction, act *route.Action) {
	rd := redirection{host: m.GetHostRedirect(), path: m.GetPathRedirect(), scheme: m.GetSchemeRedirect(), stripQuery: m.GetStripQuery()}
	if m.GetHttpsRedirect() {
		rd.scheme = "https"
	}
	if p := m.GetPortRedirect(); p != 0 {
		rd.port = ":" + strconv.FormatUint(uint64(p), 10)
	}
	switch s := m.GetPathRewriteSpecifier().(type) {
	case *routev3.RedirectAction_PrefixRewrite:
		if s.PrefixRewrite != "" {
			rd.rewrite = prefixRewrite(rt.m.GetMatch(), s.PrefixRewrite)
		}
	case *routev3.RedirectAction_RegexRewrite:
		rd.rewrite = a.field("regex_rewrite").pathSubstitution(s.RegexRewrite)
	}
	status := redirectCodes[m.GetResponseCode()]
	act.Reply = &call.Reply{HTTP: status, GRPC: call.CodeFromHTTP(status), Detail: "direct_response"}
	act.Route = rt.replyPolicy()
	act.Route.ResponseOps = append([]call.HeaderOp{rd.location()}, act.Route.ResponseOps...)
}

// replyPolicy is the policy of a route that answers itself.
func (rt *routeCompiler) replyPolicy() *call.Route {
	p := &call.Route{Name: rt.m.GetName(), VirtualHost: rt.vhostCompiler.m.GetName()}
	_, p.ResponseOps = rt.headers(level{}, "")
	return p
}

// requireTLS redirects requests that did not come by TLS. As in Envoy that
// answer has none of the table's header mutations, and keeps a port.
func requireTLS(m *routev3.VirtualHost) *route.TLSRequirement {
	if m.GetRequireTls() == routev3.VirtualHost_NONE {
		return nil
	}
	rd := redirection{scheme: "https", keepPort: true}
	return &route.TLSRequirement{
		ExternalOnly: m.GetRequireTls() == routev3.VirtualHost_EXTERNAL_ONLY,
		Reply:        &call.Reply{HTTP: 301, GRPC: call.CodeFromHTTP(301), Detail: "direct_response"},
		Route:        &call.Route{ResponseOps: []call.HeaderOp{rd.location()}},
	}
}

// location is the header that tells.
func (rd redirection) location() call.HeaderOp {
	return call.HeaderOp{
		Action: call.HeaderOverwrite,
		Next:   true,
		Field:  hpack.NewField("location", ""),
		Value:  func(c *call.Call, _ *call.Outcome) string { return rd.uri(c) },
	}
}

// uri is Envoy's Http::Utility::newUri; "" if the request has no path.
func (rd redirection) uri(c *call.Call) string {
	if c.Path == "" {
		return ""
	}
	scheme := rd.scheme
	if scheme == "" {
		scheme, _ = c.Headers.Get(hdr.Scheme)
	}
	host := rd.host
	if host == "" {
		host = rd.requestHost(c, scheme)
	}
	path := rd.newPath(c)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // else it would be a part of the host
	}
	return scheme + "://" + host + rd.port + path
}

// newPath is the path with its query.
func (rd redirection) newPath(c *call.Call) string {
	path := c.Path
	if rd.rewrite != nil {
		path = cmp.Or(rd.rewrite(c), path)
	}
	if rd.path != "" {
		if strings.Contains(rd.path, "?") {
			return rd.path // its query stays, whatever stripQuery says
		}
		_, query := cutQuery(path)
		path = rd.path + query
	}
	if rd.stripQuery {
		path, _ = cutQuery(path)
	}
	return path
}

// requestHost is the request's host. It loses its port if there is another, or
// if that was the old scheme's and the scheme changes.
func (rd redirection) requestHost(c *call.Call, scheme string) string {
	host := c.Host
	if rd.keepPort {
		return host
	}
	i := strings.LastIndexByte(host, ':')
	if strings.HasPrefix(host, "[") {
		if i = strings.LastIndex(host, "]:"); i >= 0 {
			i++
		}
	}
	if i < 0 {
		return host
	}
	drop := rd.port != ""
	if was, _ := c.Headers.Get(hdr.XForwardedProto); was != scheme {
		drop = drop || was == "https" && host[i:] == ":443" || was == "http" && host[i:] == ":80"
	}
	if drop {
		return host[:i]
	}
	return host
}

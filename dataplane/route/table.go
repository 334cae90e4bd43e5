package route

import (
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// Table is a compiled route configuration. Immutable, safe for all workers at
// once. What Direct returns never points back to it: a long call must not keep
// old tables alive.
type Table struct {
	name           string
	hosts          hosts
	ignorePort     bool
	pathParameters bool // cut them off
}

// vhost is a virtual host: its routes in configuration order, and the index
// over them.
type vhost struct {
	name   string
	tls    *TLSRequirement // nil: none
	routes []entry
	index  index
}

// TLSRequirement is VirtualHost.require_tls: what answers requests that did not
// come by TLS, before any route is tried.
type TLSRequirement struct {
	ExternalOnly bool // requests of internal clients need no TLS
	Reply        *call.Reply
	Route        *call.Route // the policy of the Reply
}

// refuses reports whether c needs TLS and lacks it. As in Envoy it is
// x-forwarded-proto that says so, and x-envoy-internal who is internal; the
// connection manager has set both.
func (q *TLSRequirement) refuses(c *call.Call) bool {
	if q == nil {
		return false
	}
	proto, ok := c.Headers.Get(hdr.XForwardedProto)
	if proto == "https" || !ok && c.Conn != nil && c.Conn.TLS != nil {
		return false
	}
	if !q.ExternalOnly {
		return true
	}
	internal, _ := c.Headers.Get(hdr.XEnvoyInternal)
	return internal != "true"
}

var _ call.Director = (*Table)(nil)

// Name returns the route configuration's name.
func (t *Table) Name() string { return t.name }

// Direct implements call.Director: the virtual host by c.Host, then the first
// route that matches. call.ReplyNoRoute is the error if there is none.
func (t *Table) Direct(c *call.Call) (call.Decision, error) {
	d := t.hosts.find(c.Host, t.ignorePort)
	if d == nil {
		return call.Decision{}, call.ReplyNoRoute
	}
	if q := d.vhost.tls; q.refuses(c) {
		return call.Decision{Reply: q.Reply, Route: q.Route}, nil
	}
	r := request{call: c, path: cutPath(c.Path, t.pathParameters)}
	order := d.vhost.first(&r)
	if order == noOrder {
		return call.Decision{}, call.ReplyNoRoute
	}
	return d.vhost.routes[order].action.decide(c)
}

// first returns the order of the first route that takes the request, noOrder
// if none does.
func (v *vhost) first(r *request) uint32 {
	best := uint32(noOrder)
	cu := v.index.candidates(r)
	for list := cu.next(best); list != nil; list = cu.next(best) {
		best = v.scan(list, v.index.split(list), r, best)
	}
	return best
}

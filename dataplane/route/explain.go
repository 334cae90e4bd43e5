package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Explanation says which route a request takes and why.
type Explanation struct {
	Table       string
	VirtualHost string // empty: no domain takes the request's host
	Domain      string // the domain of the virtual host that took it
	Tried       []Tried
	Skipped     int  // routes before the winner that the index ruled out by their path
	NeedsTLS    bool // the virtual host's require_tls answers; no route is tried
	Winner      int  // order of the route that wins in its virtual host; -1: none
	Decision    call.Decision
	Err         error // what Direct returns with Decision
}

// Tried is a route whose path could match. The winner is the last one.
type Tried struct {
	Order int // place in the virtual host's list, from 0
	Name  string
	Path  string // what the route asks of the path
	Why   string // why it does not take the request; empty for the winner
}

// Explain answers as Direct does, and says why. It is for people: it allocates.
func (t *Table) Explain(c *call.Call) Explanation {
	x := Explanation{Table: t.name, Winner: -1, Err: call.ReplyNoRoute}
	d := t.hosts.find(c.Host, t.ignorePort)
	if d == nil {
		return x
	}
	x.VirtualHost, x.Domain = d.vhost.name, d.text
	if q := d.vhost.tls; q.refuses(c) {
		x.NeedsTLS, x.Err = true, nil
		x.Decision = call.Decision{Reply: q.Reply, Route: q.Route}
		return x
	}
	r := request{call: c, path: cutPath(c.Path, t.pathParameters)}
	orders := d.vhost.all(&r)
	last := len(d.vhost.routes) // one after the last route that counts
	for _, order := range orders {
		e := &d.vhost.routes[order]
		v := e.try(&r)
		x.Tried = append(x.Tried, Tried{Order: int(order), Name: e.name, Path: e.path.String(), Why: e.why(v, &r)})
		if v.step == matched {
			x.Winner, last = int(order), int(order)+1
			x.Decision, x.Err = e.action.decide(c)
			break
		}
	}
	x.Skipped = last - len(x.Tried)
	return x
}

// all returns the orders of all candidates, ascending.
func (v *vhost) all(r *request) []uint32 {
	var orders []uint32
	cu := v.index.candidates(r)
	for list := cu.next(noOrder); list != nil; list = cu.next(noOrder) {
		orders = append(orders, list...)
	}
	slices.Sort(orders)
	return slices.Compact(orders) // a regex may be found by several of its texts
}

// why puts a verdict into words.
func (e *entry) why(v verdict, r *request) string {
	switch v.step {
	case failedPath:
		return fmt.Sprintf("path: %q is not %v", r.path, e.path)
	case failedGRPC:
		return "grpc: the content-type is not gRPC's"
	case failedHeader:
		h := &e.cond.headers[v.index]
		if _, n := headerValue(r.call, h.Name); n == 0 {
			return fmt.Sprintf("header %q: want %s, is missing", h.Name, h.describe())
		}
		return fmt.Sprintf("header %q: want %s, is %q", h.Name, h.describe(), headerText(r.call, h.Name))
	case failedQuery:
		q := &e.cond.query[v.index]
		value, ok := queryValue(r.call.Path, q.Name)
		if !ok {
			return fmt.Sprintf("query parameter %q: want %s, is missing", q.Name, q.describe())
		}
		return fmt.Sprintf("query parameter %q: want %s, is %q", q.Name, q.describe(), value)
	case failedCookie:
		m := &e.cond.cookies[v.index]
		value, ok := cookieValue(r.call, m.Name)
		if !ok {
			return fmt.Sprintf("cookie %q: want %s, is missing", m.Name, m.describe())
		}
		return fmt.Sprintf("cookie %q: want %s, is %q", m.Name, m.describe(), value)
	case failedFraction:
		num, den := e.cond.fraction.now()
		return fmt.Sprintf("fraction: %d/%d, and this request drew %d", num, den, e.cond.fraction.draw(r.call, den))
	}
	return ""
}

// String is the explanation on one line per route.
func (x Explanation) String() string {
	var b strings.Builder
	if x.VirtualHost == "" && x.Domain == "" {
		fmt.Fprintf(&b, "route configuration %q: no virtual host takes the host", x.Table)
		return b.String()
	}
	fmt.Fprintf(&b, "route configuration %q, virtual host %q (domain %q)\n", x.Table, x.VirtualHost, x.Domain)
	if x.NeedsTLS {
		b.WriteString("  require_tls: redirected to https\n")
		return b.String()
	}
	for _, tr := range x.Tried {
		why := tr.Why
		if why == "" {
			why = "wins"
		}
		fmt.Fprintf(&b, "  %d %q (%s): %s\n", tr.Order, tr.Name, tr.Path, why)
	}
	fmt.Fprintf(&b, "  %d more ruled out by path\n", x.Skipped)
	if x.Winner < 0 {
		b.WriteString("  no route\n")
	}
	return b.String()
}

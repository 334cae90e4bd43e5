package xdsconfig

import (
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/route"
)

// routeCell follows a RouteConfiguration by name: it is the Director of every
// connection manager that names it. An update stores another table; neither
// listeners nor connections notice. A call loads the table once, and what it
// gets does not point back to the table.
type routeCell struct{ table atomic.Pointer[route.Table] }

// Direct implements call.Director. Without a table it is as in Envoy: no route.
func (c *routeCell) Direct(cl *call.Call) (call.Decision, error) {
	t := c.table.Load()
	if t == nil {
		return call.Decision{}, call.ReplyNoRoute
	}
	return t.Direct(cl)
}

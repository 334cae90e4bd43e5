package route

import "github.com/sluice-proxy/sluice/dataplane/call"

// Table is a compiled route configuration. Immutable, safe for all workers at
// once. What Direct returns never points back to it.
type Table struct {
	name string
}

var _ call.Director = (*Table)(nil)

// Name returns the route configuration's name.
func (t *Table) Name() string { return t.name }

// Direct implements call.Director: the virtual host by c.Host, then the first
// route that matches. call.ReplyNoRoute is the error if there is none.
func (t *Table) Direct(c *call.Call) (call.Decision, error) {
	return call.Decision{}, call.ReplyNoRoute
}

package route

import (
	"errors"
	"fmt"
	"slices"
)

// Builder makes a Table from virtual hosts and routes in configuration order.
// Not safe for concurrent use.
type Builder struct {
	// IgnorePort is RouteConfiguration.ignore_port_in_host_matching.
	IgnorePort bool
	// IgnorePathParameters is ignore_path_parameters_in_path_matching: what
	// follows a ";" in a segment of the path does not count.
	IgnorePathParameters bool

	name   string
	hosts  hosts
	vhosts []*vhost
	errs   []error
}

// NewBuilder returns a builder of the route configuration name.
func NewBuilder(name string) *Builder { return &Builder{name: name} }

// VHostBuilder takes the routes of one virtual host.
type VHostBuilder struct {
	b     *Builder
	vhost *vhost
}

// AddVirtualHost adds a virtual host for domains. The error names every domain
// that is already taken, and who took it. The VHostBuilder is never nil, so
// that the errors of the routes can be found too.
func (b *Builder) AddVirtualHost(name string, domains []string) (*VHostBuilder, error) {
	vh := &vhost{name: name}
	b.vhosts = append(b.vhosts, vh)
	err := b.hosts.claim(vh, domains)
	if err != nil {
		err = fmt.Errorf("virtual host %q: %w", name, err)
		b.errs = append(b.errs, err)
	}
	return &VHostBuilder{b: b, vhost: vh}, err
}

// RequireTLS sets the virtual host's require_tls; nil: none.
func (v *VHostBuilder) RequireTLS(q *TLSRequirement) { v.vhost.tls = q }

// Add appends a route. It copies what it keeps of m and a. The error names
// everything wrong with the route.
func (v *VHostBuilder) Add(m Match, a Action) error {
	e, err := compileEntry(&m, &a)
	if err != nil {
		v.b.errs = append(v.b.errs, fmt.Errorf("virtual host %q: %w", v.vhost.name, err))
		return err
	}
	v.vhost.routes = append(v.vhost.routes, e)
	return nil
}

// Build makes the table. It fails with all errors that AddVirtualHost and Add
// have returned. The builder must not be used again.
func (b *Builder) Build() (*Table, error) {
	if err := errors.Join(b.errs...); err != nil {
		return nil, fmt.Errorf("route configuration %q: %w", b.name, err)
	}
	for _, vh := range b.vhosts {
		vh.routes = slices.Clip(vh.routes)
		vh.index = newIndex(vh.routes)
	}
	return &Table{
		name:           b.name,
		hosts:          b.hosts,
		ignorePort:     b.IgnorePort,
		pathParameters: b.IgnorePathParameters,
	}, nil
}

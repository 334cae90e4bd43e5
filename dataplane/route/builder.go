package route

// Builder makes a Table from virtual hosts and routes in configuration order.
// Not safe for concurrent use.
type Builder struct {
	// IgnorePort is RouteConfiguration.ignore_port_in_host_matching.
	IgnorePort bool
	// IgnorePathParameters is ignore_path_parameters_in_path_matching: what
	// follows the first ";" of the path does not count.
	IgnorePathParameters bool

	name string
}

// NewBuilder returns a builder of the route configuration name.
func NewBuilder(name string) *Builder { return &Builder{name: name} }

// VHostBuilder takes the routes of one virtual host.
type VHostBuilder struct{}

// AddVirtualHost adds a virtual host for domains. The error names every domain
// that is malformed or already taken, and who took it.
func (b *Builder) AddVirtualHost(name string, domains []string) (*VHostBuilder, error) {
	return &VHostBuilder{}, nil
}

// Add appends a route. The error names everything wrong with it; the route is
// then left out.
func (v *VHostBuilder) Add(m Match, a Action) error { return nil }

// Build makes the table of all that was added without error. The builder must
// not be used again.
func (b *Builder) Build() (*Table, error) { return &Table{name: b.name}, nil }

package xdsconfig

import (
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/dataplane/route"
)

// CompileRoutes compiles a RouteConfiguration.
func CompileRoutes(m *routev3.RouteConfiguration, env *Env) (*route.Table, error) {
	r := &report{kind: "RouteConfiguration", name: m.GetName(), env: env}
	r.root().check(m)
	tbl := r.root().routeConfiguration(m)
	return tbl, r.done()
}

// routesCompiler holds what the routes of one RouteConfiguration share.
type routesCompiler struct {
	config  *routev3.RouteConfiguration
	level   level
	regexes map[string]*route.Regex
	maxBody int
}

// defaultMaxBody is Envoy's limit of a direct response's body.
const defaultMaxBody = 4096

// routeConfiguration compiles m, which has been checked, perhaps in vain; nil if
// a says why not.
func (a *at) routeConfiguration(m *routev3.RouteConfiguration) *route.Table {
	rc := &routesCompiler{config: m, regexes: make(map[string]*route.Regex), maxBody: defaultMaxBody}
	if v := m.GetMaxDirectResponseBodySizeBytes(); v != nil {
		rc.maxBody = int(v.GetValue())
	}
	a.perFilterConfig(m.GetTypedPerFilterConfig())
	rc.level = a.level(m, formatScope{})
	b := route.NewBuilder(m.GetName())
	b.IgnorePort = m.GetIgnorePortInHostMatching()
	b.IgnorePathParameters = m.GetIgnorePathParametersInPathMatching()
	for i, vh := range m.GetVirtualHosts() { // their domains are unique, not their names
		rc.virtualHost(a.item("virtual_hosts", i), b, vh)
	}
	if a.r.failed() {
		return nil
	}
	tbl, err := b.Build()
	if err != nil {
		a.errors(err)
		return nil
	}
	return tbl
}

func (rc *routesCompiler) virtualHost(a *at, b *route.Builder, m *routev3.VirtualHost) {
	a.perFilterConfig(m.GetTypedPerFilterConfig())
	vb, err := b.AddVirtualHost(m.GetName(), m.GetDomains())
	if err != nil {
		a.field("domains").errors(err)
	}
	vb.RequireTLS(requireTLS(m))
	vc := &vhostCompiler{routesCompiler: rc, m: m, level: a.level(m, formatScope{})}
	if m.GetRetryPolicy() != nil {
		vc.retry = a.field("retry_policy").retryPolicy(m.GetRetryPolicy())
	}
	for i, rt := range m.GetRoutes() {
		vc.route(a.item("routes", i), vb, rt)
	}
}

// errors reports err, each error that is joined in it by itself.
func (a *at) errors(err error) {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			a.errors(e)
		}
		return
	}
	a.errorf("%s", err)
}

// perFilterConfig checks the configurations of HTTP filters for a part of the
// routes.
func (a *at) perFilterConfig(configs map[string]*anypb.Any) {
	if len(configs) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		x := configs[name]
		here := a.field("typed_per_filter_config[" + name + "]")
		optional := false
		if typeName(x) == "envoy.config.route.v3.FilterConfig" {
			fc, ok := unpackAs[*routev3.FilterConfig](here, x)
			if !ok {
				continue
			}
			if optional = fc.GetIsOptional(); fc.GetConfig() == nil {
				continue // only switches a filter on or off
			}
			x = fc.GetConfig()
		}
		if t := typeName(x); !a.r.env.extensions().perRoute[t] && !optional {
			here.errorf("type %q: no such filter in this version", t)
		}
	}
}

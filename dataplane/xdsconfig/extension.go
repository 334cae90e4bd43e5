package xdsconfig

import (
	"sync"

	"google.golang.org/protobuf/proto"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// Extensions are the extensions that configurations may name. They are found
// by the type of their configuration, not by name, as in Envoy.
type Extensions struct {
	httpFilters map[string]httpFilter
	perRoute    map[string]bool // types of per-route configurations of HTTP filters
	// listenerFilters find out what this proxy knows without them.
	listenerFilters map[string]bool
}

// httpFilter is an HTTP filter. compile reads its configuration into the
// connection manager.
type httpFilter struct {
	terminal bool
	compile  func(a *at, m proto.Message, hc *managerCompiler)
}

const typeHCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

var builtin = sync.OnceValue(func() *Extensions {
	return &Extensions{
		httpFilters: map[string]httpFilter{
			"envoy.extensions.filters.http.router.v3.Router": {terminal: true, compile: compileRouter},
		},
		perRoute: map[string]bool{},
		listenerFilters: map[string]bool{
			"envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector":   true,
			"envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": true,
		},
	}
})

func compileRouter(_ *at, m proto.Message, hc *managerCompiler) {
	hc.out.EnvoyHeaders = !m.(*routerv3.Router).GetSuppressEnvoyHeaders()
}

// httpFilters compiles the filter chain of a connection manager.
func (hc *managerCompiler) httpFilters(a *at, filters []*hcmv3.HttpFilter) {
	terminal := false
	for i, f := range filters {
		here := a.item("http_filters", i)
		if f.GetDisabled() {
			continue
		}
		x := f.GetTypedConfig()
		if x == nil {
			if f.GetConfigDiscovery() == nil && !f.GetIsOptional() {
				here.field("typed_config").errorf("value is required")
			}
			continue
		}
		known, ok := a.r.env.extensions().httpFilters[typeName(x)]
		if !ok {
			if !f.GetIsOptional() {
				here.errorf("filter %q of type %q: no such filter in this version", f.GetName(), typeName(x))
			}
			continue
		}
		if terminal {
			here.errorf("filter %q stands behind the router, which must be the last", f.GetName())
			continue
		}
		terminal = known.terminal
		if m := here.field("typed_config").unpack(x); m != nil {
			known.compile(here.field("typed_config"), m, hc)
		}
	}
	if !terminal && !a.field("http_filters").bad() {
		a.field("http_filters").errorf("the last filter must be a router")
	}
}

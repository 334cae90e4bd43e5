package controlplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// Check compiles every resource of a group as the data plane would. The error
// names each faulty resource with its file and field; warnings are what works
// here but may not be meant, or what only a proxy can tell (its files, its
// environment).
func Check(g *Group) (warnings []string, err error) {
	var errs []error
	for _, url := range typeURLs {
		for _, name := range g.Resources.names(url) {
			r := g.Resources[url][name]
			env := &xdsconfig.Env{
				Warn: func(w xdsconfig.Warning) { warnings = append(warnings, r.Origin+": "+w.String()) },
			}
			if err := compile(r.Message, env); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", r.Origin, err))
			}
		}
	}
	warnings = append(warnings, dangling(g)...)
	return warnings, errors.Join(errs...)
}

func compile(m proto.Message, env *xdsconfig.Env) (err error) {
	switch m := m.(type) {
	case *listenerv3.Listener:
		_, err = xdsconfig.CompileListener(m, env)
	case *routev3.RouteConfiguration:
		_, err = xdsconfig.CompileRoutes(m, env)
	case *clusterv3.Cluster:
		_, err = xdsconfig.CompileCluster(m, env)
	case *endpointv3.ClusterLoadAssignment:
		_, err = xdsconfig.CompileEndpoints(m, env)
	case interface{ ValidateAll() error }:
		err = m.ValidateAll() // types the data plane does not compile yet
	}
	return err
}

// dangling warns of names that a group's clusters and listeners refer to and
// that no resource of the group has: the proxy would wait for them.
func dangling(g *Group) (warnings []string) {
	refs := cachev3.GetAllResourceReferences(g.Resources.cacheSnapshot().Resources)
	for _, url := range []string{resourcev3.EndpointType, resourcev3.RouteType} {
		for _, name := range slices.Sorted(maps.Keys(refs[url])) {
			if _, ok := g.Resources[url][name]; !ok {
				warnings = append(warnings, fmt.Sprintf("%s %q is referred to and not defined", shortType(url), name))
			}
		}
	}
	return warnings
}

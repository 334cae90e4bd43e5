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
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// Check compiles every resource of a group as the data plane would. The error
// joins one error for each fault, which names file, resource and field;
// warnings are what works here but may not be meant, or what only a proxy can
// tell (its files, its environment).
func Check(g *Group) (warnings []string, err error) {
	var errs []error
	for _, url := range typeURLs {
		for _, name := range g.Resources.names(url) {
			r := g.Resources[url][name]
			r.check.once.Do(func() { r.check.warnings, r.check.err = checkResource(r) })
			warnings = append(warnings, r.check.warnings...)
			if r.check.err != nil {
				errs = append(errs, r.check.err)
			}
		}
	}
	warnings = append(warnings, dangling(g)...)
	return warnings, errors.Join(errs...)
}

func checkResource(r *Resource) (warnings []string, err error) {
	env := &xdsconfig.Env{
		RefuseUnknownFields: true,
		Warn:                func(w xdsconfig.Warning) { warnings = append(warnings, r.Origin+": "+w.String()) },
	}
	return warnings, errors.Join(at(r.Origin, compile(r.Message, env))...)
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
	case *tlsv3.Secret:
		_, err = xdsconfig.CompileSecret(m, env)
	default: // the data plane does not ask for it, another proxy may
		kind, name := string(m.ProtoReflect().Descriptor().Name()), cachev3.GetResourceName(m)
		if err := xdsconfig.Validate(m, kind, name, env); err != nil {
			return err
		}
		env.Warn(xdsconfig.Warning{Kind: kind, Name: name, Reason: "only its form is checked: this version's data plane does not take resources of this type"})
	}
	return err
}

// dangling warns of names that a group's resources refer to and that no
// resource of the group has: the proxy would wait for them, or answer that
// there is no such cluster.
func dangling(g *Group) (warnings []string) {
	var arrays [types.UnknownType]cachev3.Resources
	for _, url := range []string{resourcev3.ClusterType, resourcev3.ListenerType} {
		list := make([]types.Resource, 0, len(g.Resources[url]))
		for _, r := range g.Resources[url] {
			list = append(list, r.Message)
		}
		arrays[cachev3.GetResponseType(url)] = cachev3.NewResources("", list)
	}
	refs := cachev3.GetAllResourceReferences(arrays)
	refs[resourcev3.ClusterType] = clustersOfRoutes(g.Resources[resourcev3.RouteType])
	for _, url := range []string{resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.RouteType} {
		for _, name := range slices.Sorted(maps.Keys(refs[url])) {
			if _, ok := g.Resources[url][name]; !ok {
				warnings = append(warnings, fmt.Sprintf("%s %q is referred to and not defined", shortType(url), name))
			}
		}
	}
	return warnings
}

func clustersOfRoutes(routes map[string]*Resource) map[string]bool {
	out := map[string]bool{}
	for _, r := range routes {
		rc, ok := r.Message.(*routev3.RouteConfiguration)
		if !ok {
			continue
		}
		for _, vh := range rc.GetVirtualHosts() {
			for _, rt := range vh.GetRoutes() {
				if name := rt.GetRoute().GetCluster(); name != "" {
					out[name] = true
				}
				for _, w := range rt.GetRoute().GetWeightedClusters().GetClusters() {
					if w.GetName() != "" {
						out[w.GetName()] = true
					}
				}
			}
		}
	}
	return out
}

package controlplane

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
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
			r.check.once.Do(func() {
				r.check.warnings, r.check.err = checkResource(r)
				r.check.refs = references(r.Message)
			})
			warnings = append(warnings, r.check.warnings...)
			if r.check.err != nil {
				errs = append(errs, r.check.err)
			}
		}
	}
	errs = append(errs, sameAddress(g)...)
	warnings = append(warnings, dangling(g)...)
	return warnings, errors.Join(errs...)
}

func checkResource(r *Resource) (warnings []string, err error) {
	env := &xdsconfig.Env{
		RefuseUnknownFields: true,
		Warn:                func(w xdsconfig.Warning) { warnings = append(warnings, r.place.at(w.Path)+": "+w.String()) },
	}
	return warnings, errors.Join(r.place.faults(compile(r.Message, env))...)
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

// sameAddress finds listeners that want one address: a proxy binds it for the
// first and refuses the other.
func sameAddress(g *Group) (errs []error) {
	type holder struct {
		listener *Resource
		field    string
	}
	taken := map[string]holder{}
	for _, name := range g.Resources.names(resourcev3.ListenerType) {
		r := g.Resources[resourcev3.ListenerType][name]
		ln, ok := r.Message.(*listenerv3.Listener)
		if !ok {
			continue
		}
		take := func(field string, a *corev3.Address) {
			key := bindKey(a)
			if key == "" {
				return
			}
			switch prev, ok := taken[key]; {
			case !ok:
				taken[key] = holder{r, field}
			case prev.listener == r:
				errs = append(errs, fmt.Errorf("%s: Listener %q: %s: %s is %s, too", r.place.at(field), name, field, key, prev.field))
			default:
				errs = append(errs, fmt.Errorf("%s: Listener %q: %s: %s is the address of Listener %q, too (%s)",
					r.place.at(field), name, field, key, prev.listener.Name, prev.listener.place.at(prev.field)))
			}
		}
		take("address", ln.GetAddress())
		for i, a := range ln.GetAdditionalAddresses() {
			take(fmt.Sprintf("additional_addresses[%d].address", i), a.GetAddress())
		}
	}
	return errs
}

// bindKey is the same for addresses that cannot be bound both; empty if a can
// be bound any number of times, or is no address.
func bindKey(a *corev3.Address) string {
	if p := a.GetPipe().GetPath(); p != "" {
		return "unix:" + p
	}
	s := a.GetSocketAddress()
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil || s.GetPortValue() == 0 || s.GetPortValue() > math.MaxUint16 {
		return ""
	}
	return netip.AddrPortFrom(ip, uint16(s.GetPortValue())).String()
}

// dangling warns of names that a group's resources refer to and that no
// resource of the group has: the proxy would wait for them, or answer that
// there is no such cluster.
func dangling(g *Group) (warnings []string) {
	told := map[ref]bool{}
	for _, url := range typeURLs {
		for _, name := range g.Resources.names(url) {
			r := g.Resources[url][name]
			for _, to := range r.check.refs {
				if _, ok := g.Resources[to.url][to.name]; ok || told[to] {
					continue
				}
				told[to] = true
				warnings = append(warnings, fmt.Sprintf("%s %q is referred to by %s %q and not defined", shortType(to.url), to.name, r.kind(), r.Name))
			}
		}
	}
	slices.Sort(warnings)
	return warnings
}

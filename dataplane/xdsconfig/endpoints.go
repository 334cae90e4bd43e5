package xdsconfig

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// CompileEndpoints compiles a ClusterLoadAssignment.
func CompileEndpoints(m *endpointv3.ClusterLoadAssignment, env *Env) (*cluster.Assignment, error) {
	r := &report{kind: "ClusterLoadAssignment", name: m.GetClusterName(), env: env}
	a := r.root()
	a.check(m)
	out := a.assignment(m, false)
	if r.failed() {
		return nil, r.done()
	}
	return out, r.done()
}

// assignment compiles m, which has been checked, perhaps in vain. Names instead of addresses
// are for discovery only.
func (a *at) assignment(m *endpointv3.ClusterLoadAssignment, names bool) *cluster.Assignment {
	out := &cluster.Assignment{
		Overprovisioning:       m.GetPolicy().GetOverprovisioningFactor().GetValue(),
		WeightedPriorityHealth: m.GetPolicy().GetWeightedPriorityHealth(),
	}
	for _, d := range m.GetPolicy().GetDropOverloads() {
		p := d.GetDropPercentage()
		out.DropOverloads = append(out.DropOverloads, cluster.DropOverload{
			Category:   d.GetCategory(),
			PerMillion: uint32(min(uint64(p.GetNumerator())*1_000_000/uint64(denominator(p)), 1_000_000)),
		})
	}
	for i, l := range m.GetEndpoints() {
		here := a.item("endpoints", i)
		loc := cluster.Locality{
			Region:   l.GetLocality().GetRegion(),
			Zone:     l.GetLocality().GetZone(),
			SubZone:  l.GetLocality().GetSubZone(),
			Priority: l.GetPriority(),
		}
		if l.GetLocality() != nil { // as in Envoy, endpoints without a locality have no weight among those that have one
			loc.Weight = l.GetLoadBalancingWeight().GetValue()
		}
		eps, list := l.GetLbEndpoints(), here
		if x := l.GetLoadBalancerEndpoints(); x != nil {
			eps, list = x.GetLbEndpoints(), here.field("load_balancer_endpoints")
		}
		loc.Endpoints = make([]cluster.Endpoint, 0, len(eps))
		for j, e := range eps {
			if ep, ok := list.item("lb_endpoints", j).endpoint(e, names); ok {
				loc.Endpoints = append(loc.Endpoints, ep)
			}
		}
		out.Localities = append(out.Localities, loc)
	}
	return out
}

func (a *at) endpoint(m *endpointv3.LbEndpoint, names bool) (cluster.Endpoint, bool) {
	here := a.field("endpoint").field("address")
	if m.GetEndpoint().GetAddress() == nil {
		here.errorf("value is required")
		return cluster.Endpoint{}, false
	}
	ad, ok := here.address(m.GetEndpoint().GetAddress())
	if !ok {
		return cluster.Endpoint{}, false
	}
	if ad.name && !names {
		here.field("socket_address").field("address").errorf("%q is not an IP address; names are for clusters of type STRICT_DNS or LOGICAL_DNS", m.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		return cluster.Endpoint{}, false
	}
	return cluster.Endpoint{
		Network:  ad.network,
		Address:  ad.address,
		Hostname: m.GetEndpoint().GetHostname(),
		Health:   health(m.GetHealthStatus()),
		Weight:   m.GetLoadBalancingWeight().GetValue(),
		Metadata: endpointMetadata(m.GetMetadata()),
	}, true
}

// health maps a HealthStatus, whose numbers cluster.Health shares.
func health(s corev3.HealthStatus) cluster.Health {
	if s < 0 || s > corev3.HealthStatus_DEGRADED {
		return cluster.HealthUnhealthy
	}
	return cluster.Health(s)
}

func endpointMetadata(m *corev3.Metadata) cluster.Metadata {
	if len(m.GetFilterMetadata()) == 0 {
		return nil
	}
	out := make(cluster.Metadata, len(m.GetFilterMetadata()))
	for ns, s := range m.GetFilterMetadata() {
		out[ns] = s.AsMap()
	}
	return out
}

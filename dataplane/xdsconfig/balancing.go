package xdsconfig

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	lbcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// balancing compiles how a host is chosen.
func (a *at) balancing(m *clusterv3.Cluster, out *cluster.Config) {
	c := m.GetCommonLbConfig()
	if t := c.GetHealthyPanicThreshold(); t != nil {
		out.PanicThreshold = percent(t.GetValue())
	}
	if m.GetLoadBalancingPolicy() != nil {
		// It replaces lb_policy and what common_lb_config says of localities.
		a.field("load_balancing_policy").typedPolicy(m.GetLoadBalancingPolicy(), out)
		return
	}
	out.LocalityWeighted = c.GetLocalityWeightedLbConfig() != nil
	out.FailTrafficOnPanic = c.GetZoneAwareLbConfig().GetFailTrafficOnPanic()
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		out.Policy.Kind = cluster.RoundRobin
	case clusterv3.Cluster_RANDOM:
		out.Policy.Kind = cluster.Random
	case clusterv3.Cluster_LEAST_REQUEST:
		l := m.GetLeastRequestLbConfig()
		out.Policy = a.leastRequest(l.GetChoiceCount().GetValue(), l.GetActiveRequestBias())
	case clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG:
		a.field("load_balancing_policy").errorf("value is required")
	default:
		a.field("lb_policy").errorf("%s: not supported by this version", m.GetLbPolicy())
	}
}

func (a *at) leastRequest(choices uint32, bias *corev3.RuntimeDouble) cluster.Policy {
	p := cluster.Policy{Kind: cluster.LeastRequest, ChoiceCount: choices}
	if bias != nil {
		v := bias.GetDefaultValue()
		if v < 0 {
			a.field("active_request_bias").errorf("%g: must not be negative", v)
		}
		p.Bias = &v
	}
	return p
}

// typedPolicy takes the first policy of the list that this version has.
func (a *at) typedPolicy(m *clusterv3.LoadBalancingPolicy, out *cluster.Config) {
	var types []string
	for i, p := range m.GetPolicies() {
		x := p.GetTypedExtensionConfig().GetTypedConfig()
		here := a.item("policies", i).field("typed_extension_config").field("typed_config")
		var local *lbcommonv3.LocalityLbConfig
		switch t := typeName(x); t {
		case "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin":
			c, _ := unpackAs[*roundv3.RoundRobin](here, x)
			out.Policy.Kind, local = cluster.RoundRobin, c.GetLocalityLbConfig()
		case "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest":
			c, _ := unpackAs[*leastv3.LeastRequest](here, x)
			out.Policy, local = here.leastRequest(c.GetChoiceCount().GetValue(), c.GetActiveRequestBias()), c.GetLocalityLbConfig()
		case "envoy.extensions.load_balancing_policies.random.v3.Random":
			c, _ := unpackAs[*randomv3.Random](here, x)
			out.Policy.Kind, local = cluster.Random, c.GetLocalityLbConfig()
		default:
			types = append(types, t)
			continue
		}
		out.LocalityWeighted = local.GetLocalityWeightedLbConfig() != nil
		out.FailTrafficOnPanic = local.GetZoneAwareLbConfig().GetFailTrafficOnPanic()
		return
	}
	a.field("policies").errorf("none of %q is supported by this version", strings.Join(types, ", "))
}

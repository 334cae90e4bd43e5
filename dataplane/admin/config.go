package admin

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// Config is the configuration as the interface shows it: *xdsconfig.Manager.
type Config interface {
	// Ready is closed when the first configuration is served.
	Ready() <-chan struct{}
	// Dump returns the configuration as it was received.
	Dump() *xdsconfig.Dump
	// Status returns the clusters with their hosts, among others.
	Status() xdsconfig.Status
	// Certificates returns what TLS contexts hold.
	Certificates() []*adminv3.Certificate
}

func (h *Handler) configDump(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for k := range q {
		switch k {
		case "include_eds", "name_regex", "resource", "mask":
		default:
			http.Error(w, fmt.Sprintf("parameter %q: want include_eds, name_regex, resource or mask", k), http.StatusBadRequest)
			return
		}
	}
	var names *regexp.Regexp
	if s := q.Get("name_regex"); s != "" {
		var err error
		if names, err = regexp.Compile("^(?:" + s + ")$"); err != nil {
			http.Error(w, "name_regex: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	var parts []proto.Message
	if h.o.Config != nil {
		d := h.o.Config.Dump()
		parts = append(parts, d.Bootstrap, d.Clusters, d.Listeners, d.Routes, d.Secrets)
		if q.Has("include_eds") {
			parts = append(parts, d.Endpoints)
		}
	}
	if names != nil {
		for i, p := range parts {
			parts[i] = keepNamed(p, names)
		}
	}
	resource := q.Get("resource")
	if resource != "" {
		var found bool
		var err error
		if parts, found, err = elements(parts, resource); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		} else if !found {
			http.Error(w, resource+" not found in config dump", http.StatusNotFound)
			return
		}
	}
	if s := q.Get("mask"); s != "" {
		var err error
		if parts, err = masked(parts, s, resource != ""); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	out := &adminv3.ConfigDump{}
	for _, p := range parts {
		a, err := anypb.New(p)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		out.Configs = append(out.Configs, a)
	}
	writeProto(w, out)
}

// masked returns copies of the parts with only what the mask names. All of
// them must have its fields or, if not strict, those that have them are
// returned, and one must.
func masked(parts []proto.Message, s string, strict bool) (out []proto.Message, err error) {
	k := parseMask(s)
	for _, p := range parts {
		p = proto.Clone(p)
		switch err := k.trim(p.ProtoReflect()); {
		case err == nil:
			out = append(out, p)
		case strict:
			return nil, fmt.Errorf("FieldMask %s could not be successfully used: %w", s, err)
		}
	}
	if len(parts) > 0 && len(out) == 0 {
		return nil, fmt.Errorf("FieldMask %s could not be successfully applied to any configs", s)
	}
	return out, nil
}

// keepNamed returns a copy of a dump with only the resources whose name
// matches.
func keepNamed(m proto.Message, names *regexp.Regexp) proto.Message {
	switch d := proto.Clone(m).(type) {
	case *adminv3.ListenersConfigDump:
		d.DynamicListeners = filter(d.DynamicListeners, func(l *adminv3.ListenersConfigDump_DynamicListener) bool { return names.MatchString(l.GetName()) })
		d.StaticListeners = filter(d.StaticListeners, func(l *adminv3.ListenersConfigDump_StaticListener) bool { return matchAny(names, l.GetListener()) })
		return d
	case *adminv3.ClustersConfigDump:
		d.StaticClusters = filter(d.StaticClusters, func(c *adminv3.ClustersConfigDump_StaticCluster) bool { return matchAny(names, c.GetCluster()) })
		keep := func(c *adminv3.ClustersConfigDump_DynamicCluster) bool { return matchAny(names, c.GetCluster()) }
		d.DynamicActiveClusters = filter(d.DynamicActiveClusters, keep)
		d.DynamicWarmingClusters = filter(d.DynamicWarmingClusters, keep)
		return d
	case *adminv3.RoutesConfigDump:
		d.StaticRouteConfigs = filter(d.StaticRouteConfigs, func(r *adminv3.RoutesConfigDump_StaticRouteConfig) bool { return matchAny(names, r.GetRouteConfig()) })
		d.DynamicRouteConfigs = filter(d.DynamicRouteConfigs, func(r *adminv3.RoutesConfigDump_DynamicRouteConfig) bool { return matchAny(names, r.GetRouteConfig()) })
		return d
	case *adminv3.SecretsConfigDump:
		d.StaticSecrets = filter(d.StaticSecrets, func(s *adminv3.SecretsConfigDump_StaticSecret) bool { return names.MatchString(s.GetName()) })
		keep := func(s *adminv3.SecretsConfigDump_DynamicSecret) bool { return names.MatchString(s.GetName()) }
		d.DynamicActiveSecrets = filter(d.DynamicActiveSecrets, keep)
		d.DynamicWarmingSecrets = filter(d.DynamicWarmingSecrets, keep)
		return d
	case *adminv3.EndpointsConfigDump:
		d.StaticEndpointConfigs = filter(d.StaticEndpointConfigs, func(e *adminv3.EndpointsConfigDump_StaticEndpointConfig) bool {
			return matchAny(names, e.GetEndpointConfig())
		})
		d.DynamicEndpointConfigs = filter(d.DynamicEndpointConfigs, func(e *adminv3.EndpointsConfigDump_DynamicEndpointConfig) bool {
			return matchAny(names, e.GetEndpointConfig())
		})
		return d
	}
	return m
}

func filter[T any](in []T, keep func(T) bool) []T {
	var out []T
	for _, x := range in {
		if keep(x) {
			out = append(out, x)
		}
	}
	return out
}

// matchAny reports whether the resource's name matches.
func matchAny(names *regexp.Regexp, a *anypb.Any) bool {
	m, err := a.UnmarshalNew()
	if err != nil {
		return false
	}
	switch m := m.(type) {
	case interface{ GetName() string }:
		return names.MatchString(m.GetName())
	case interface{ GetClusterName() string }:
		return names.MatchString(m.GetClusterName())
	}
	return false
}

func (h *Handler) clusters(w http.ResponseWriter, r *http.Request) {
	cls := &adminv3.Clusters{}
	if h.o.Config != nil {
		for _, c := range h.o.Config.Status().Clusters {
			if c.Serving {
				cls.ClusterStatuses = append(cls.ClusterStatuses, clusterStatus(c))
			}
		}
	}
	if r.URL.Query().Get("format") == "json" {
		writeProto(w, cls)
		return
	}
	var b strings.Builder
	for _, c := range cls.GetClusterStatuses() {
		fmt.Fprintf(&b, "%s::observability_name::%s\n", c.GetName(), c.GetObservabilityName())
		for _, t := range c.GetCircuitBreakers().GetThresholds() {
			p := strings.ToLower(t.GetPriority().String())
			fmt.Fprintf(&b, "%s::%s_priority::max_connections::%d\n", c.GetName(), p, t.GetMaxConnections().GetValue())
			fmt.Fprintf(&b, "%s::%s_priority::max_pending_requests::%d\n", c.GetName(), p, t.GetMaxPendingRequests().GetValue())
			fmt.Fprintf(&b, "%s::%s_priority::max_requests::%d\n", c.GetName(), p, t.GetMaxRequests().GetValue())
			fmt.Fprintf(&b, "%s::%s_priority::max_retries::%d\n", c.GetName(), p, t.GetMaxRetries().GetValue())
		}
		fmt.Fprintf(&b, "%s::added_via_api::%t\n", c.GetName(), c.GetAddedViaApi())
		if s := c.GetEdsServiceName(); s != "" {
			fmt.Fprintf(&b, "%s::eds_service_name::%s\n", c.GetName(), s)
		}
		for _, hs := range c.GetHostStatuses() {
			prefix := c.GetName() + "::" + addressText(hs.GetAddress()) + "::"
			for _, s := range hs.GetStats() {
				fmt.Fprintf(&b, "%s%s::%d\n", prefix, s.GetName(), s.GetValue())
			}
			fmt.Fprintf(&b, "%shostname::%s\n", prefix, hs.GetHostname())
			fmt.Fprintf(&b, "%shealth_flags::%s\n", prefix, healthFlags[hs.GetHealthStatus().GetEdsHealthStatus()])
			fmt.Fprintf(&b, "%sweight::%d\n", prefix, hs.GetWeight())
			fmt.Fprintf(&b, "%sregion::%s\n", prefix, hs.GetLocality().GetRegion())
			fmt.Fprintf(&b, "%szone::%s\n", prefix, hs.GetLocality().GetZone())
			fmt.Fprintf(&b, "%ssub_zone::%s\n", prefix, hs.GetLocality().GetSubZone())
			fmt.Fprintf(&b, "%scanary::false\n", prefix)
			fmt.Fprintf(&b, "%spriority::%d\n", prefix, hs.GetPriority())
			// Envoy's words for hosts without outlier detection.
			fmt.Fprintf(&b, "%ssuccess_rate::-1\n%slocal_origin_success_rate::-1\n", prefix, prefix)
		}
	}
	text(w, b.String())
}

// healthFlags are Envoy's words in the text of /clusters.
var healthFlags = map[corev3.HealthStatus]string{
	corev3.HealthStatus_HEALTHY:   "healthy",
	corev3.HealthStatus_UNHEALTHY: "/failed_eds_health",
	corev3.HealthStatus_TIMEOUT:   "/failed_eds_health",
	corev3.HealthStatus_DRAINING:  "/eds_status_draining",
	corev3.HealthStatus_DEGRADED:  "/degraded_eds_health",
}

// edsHealth is a host's health; as in Envoy, a host of which nothing is said is
// healthy.
func edsHealth(h cluster.Health) corev3.HealthStatus {
	if h == cluster.HealthUnknown {
		return corev3.HealthStatus_HEALTHY
	}
	return corev3.HealthStatus(h)
}

// clusterStatus is Envoy's message for a cluster.
func clusterStatus(c xdsconfig.ClusterStatus) *adminv3.ClusterStatus {
	out := &adminv3.ClusterStatus{
		Name: c.Name, ObservabilityName: cmp.Or(c.StatName, c.Name), AddedViaApi: !c.Static, EdsServiceName: c.EDSService,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
			thresholds(corev3.RoutingPriority_DEFAULT, c.Default), thresholds(corev3.RoutingPriority_HIGH, c.High),
		}},
	}
	for _, hs := range c.Hosts {
		stat := func(name string, v uint64, kind adminv3.SimpleMetric_Type) *adminv3.SimpleMetric {
			return &adminv3.SimpleMetric{Name: name, Value: v, Type: kind}
		}
		out.HostStatuses = append(out.HostStatuses, &adminv3.HostStatus{
			Address: protoAddress(hs.Address), Hostname: hs.Hostname, Weight: hs.Weight, Priority: hs.Priority,
			Locality:     &corev3.Locality{Region: hs.Region, Zone: hs.Zone, SubZone: hs.SubZone},
			HealthStatus: &adminv3.HostHealthStatus{EdsHealthStatus: edsHealth(hs.Health)},
			Stats: []*adminv3.SimpleMetric{
				stat("cx_active", uint64(max(hs.Connections, 0)), adminv3.SimpleMetric_GAUGE),
				stat("cx_connect_fail", hs.ConnectErrors, adminv3.SimpleMetric_COUNTER),
				stat("cx_total", hs.ConnectionsTotal, adminv3.SimpleMetric_COUNTER),
				stat("rq_active", uint64(max(hs.Active, 0)), adminv3.SimpleMetric_GAUGE),
				stat("rq_error", hs.Errors, adminv3.SimpleMetric_COUNTER),
				stat("rq_pending_active", uint64(max(hs.Pending, 0)), adminv3.SimpleMetric_GAUGE),
				stat("rq_success", hs.Successes, adminv3.SimpleMetric_COUNTER),
				stat("rq_timeout", hs.Timeouts, adminv3.SimpleMetric_COUNTER),
				stat("rq_total", hs.Total, adminv3.SimpleMetric_COUNTER),
			},
		})
	}
	return out
}

func thresholds(p corev3.RoutingPriority, t cluster.Thresholds) *clusterv3.CircuitBreakers_Thresholds {
	return &clusterv3.CircuitBreakers_Thresholds{
		Priority:           p,
		MaxConnections:     wrapperspb.UInt32(t.MaxConnections),
		MaxPendingRequests: wrapperspb.UInt32(t.MaxPending),
		MaxRequests:        wrapperspb.UInt32(t.MaxRequests),
		MaxRetries:         wrapperspb.UInt32(t.MaxRetries),
	}
}

// protoAddress turns host:port or a socket's path into Envoy's message.
func protoAddress(s string) *corev3.Address {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: s}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       ap.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(ap.Port())},
	}}}
}

func addressText(a *corev3.Address) string {
	if p := a.GetPipe(); p != nil {
		return p.GetPath()
	}
	sa := a.GetSocketAddress()
	return net.JoinHostPort(sa.GetAddress(), strconv.FormatUint(uint64(sa.GetPortValue()), 10))
}

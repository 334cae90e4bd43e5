package admin

import (
	"fmt"
	"iter"
	"net/http"
	"regexp"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// Config is the configuration as the interface shows it: *xdsconfig.Manager.
type Config interface {
	// Ready is closed when the first configuration is served.
	Ready() <-chan struct{}
	// Dump returns the configuration as it was received.
	Dump() *xdsconfig.Dump
	// Status returns what is served and what warms.
	Status() xdsconfig.Status
	// Clusters goes through the clusters by name, with their hosts.
	Clusters() iter.Seq[xdsconfig.ClusterStatus]
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

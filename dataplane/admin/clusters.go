package admin

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// clusters writes those that serve, one by one: they may be many.
func (h *Handler) clusters(w http.ResponseWriter, r *http.Request) {
	list := func(yield func(*xdsconfig.ClusterStatus) bool) {
		if h.o.Config == nil {
			return
		}
		for c := range h.o.Config.Clusters() {
			if c.Serving && !yield(&c) {
				return
			}
		}
	}
	write, contentType := writeClusters, "text/plain; charset=UTF-8"
	if r.URL.Query().Get("format") == "json" {
		write, contentType = writeClustersJSON, "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	if err := write(w, list); err != nil { // the client may be gone
		h.o.Logger.Debug("writing clusters", "reason", err)
	}
}

func writeClusters(w http.ResponseWriter, list iter.Seq[*xdsconfig.ClusterStatus]) error {
	b := bufio.NewWriterSize(w, atOnce)
	var lines []byte
	for c := range list {
		lines = appendCluster(lines[:0], c)
		if _, err := b.Write(lines); err != nil {
			return err
		}
	}
	return b.Flush()
}

// writeClustersJSON writes an envoy.admin.v3.Clusters as writeProto does.
func writeClustersJSON(w http.ResponseWriter, list iter.Seq[*xdsconfig.ClusterStatus]) error {
	b := bufio.NewWriterSize(w, atOnce)
	var flat []byte
	var indented bytes.Buffer
	begin, end := "{\n \"cluster_statuses\": [", "{}\n"
	for c := range list {
		var err error
		if flat, err = (protojson.MarshalOptions{UseProtoNames: true}).MarshalAppend(flat[:0], clusterStatus(c)); err != nil {
			return err
		}
		indented.Reset()
		indented.WriteString(begin + "\n  ")
		if err := json.Indent(&indented, flat, "  ", " "); err != nil {
			return err
		}
		begin, end = ",", "\n ]\n}\n"
		if _, err := b.Write(indented.Bytes()); err != nil {
			return err
		}
	}
	_, _ = b.WriteString(end) // Flush has the error
	return b.Flush()
}

// appendCluster appends the lines of a cluster.
func appendCluster(b []byte, c *xdsconfig.ClusterStatus) []byte {
	line := func(key, value string) {
		b = append(b, c.Name...)
		b = append(b, "::"...)
		b = append(b, key...)
		b = append(b, "::"...)
		b = append(b, value...)
		b = append(b, '\n')
	}
	line("observability_name", cmp.Or(c.StatName, c.Name))
	for _, t := range []struct {
		priority string
		of       *cluster.Thresholds
	}{{"default_priority", &c.Default}, {"high_priority", &c.High}} {
		line(t.priority+"::max_connections", strconv.FormatUint(uint64(t.of.MaxConnections), 10))
		line(t.priority+"::max_pending_requests", strconv.FormatUint(uint64(t.of.MaxPending), 10))
		line(t.priority+"::max_requests", strconv.FormatUint(uint64(t.of.MaxRequests), 10))
		line(t.priority+"::max_retries", strconv.FormatUint(uint64(t.of.MaxRetries), 10))
	}
	line("added_via_api", strconv.FormatBool(!c.Static))
	if c.EDSService != "" {
		line("eds_service_name", c.EDSService)
	}
	for i := range c.Hosts {
		b = appendHost(b, c.Name+"::"+addressText(c.Hosts[i].Address)+"::", &c.Hosts[i])
	}
	return b
}

// appendHost appends the lines of a host.
func appendHost(b []byte, prefix string, hs *cluster.HostStatus) []byte {
	key := func(name string) {
		b = append(b, prefix...)
		b = append(b, name...)
		b = append(b, "::"...)
	}
	text := func(name, value string) {
		key(name)
		b = append(b, value...)
		b = append(b, '\n')
	}
	number := func(name string, value uint64) {
		key(name)
		b = strconv.AppendUint(b, value, 10)
		b = append(b, '\n')
	}
	for _, s := range hostStats {
		number(s.name, s.of(hs))
	}
	text("hostname", hs.Hostname)
	text("health_flags", healthFlags[edsHealth(hs.Health)])
	number("weight", uint64(hs.Weight))
	text("region", hs.Region)
	text("zone", hs.Zone)
	text("sub_zone", hs.SubZone)
	text("canary", "false")
	number("priority", uint64(hs.Priority))
	// Envoy's words for hosts without outlier detection.
	text("success_rate", "-1")
	text("local_origin_success_rate", "-1")
	return b
}

// hostStats are what is counted of a host, by Envoy's names.
var hostStats = []struct {
	name string
	kind adminv3.SimpleMetric_Type
	of   func(hs *cluster.HostStatus) uint64
}{
	{"cx_active", adminv3.SimpleMetric_GAUGE, func(hs *cluster.HostStatus) uint64 { return uint64(max(hs.Connections, 0)) }},
	{"cx_connect_fail", adminv3.SimpleMetric_COUNTER, func(hs *cluster.HostStatus) uint64 { return hs.ConnectErrors }},
	{"cx_total", adminv3.SimpleMetric_COUNTER, func(hs *cluster.HostStatus) uint64 { return hs.ConnectionsTotal }},
	{"rq_active", adminv3.SimpleMetric_GAUGE, func(hs *cluster.HostStatus) uint64 { return uint64(max(hs.Active, 0)) }},
	{"rq_error", adminv3.SimpleMetric_COUNTER, func(hs *cluster.HostStatus) uint64 { return hs.Errors }},
	{"rq_pending_active", adminv3.SimpleMetric_GAUGE, func(hs *cluster.HostStatus) uint64 { return uint64(max(hs.Pending, 0)) }},
	{"rq_success", adminv3.SimpleMetric_COUNTER, func(hs *cluster.HostStatus) uint64 { return hs.Successes }},
	{"rq_timeout", adminv3.SimpleMetric_COUNTER, func(hs *cluster.HostStatus) uint64 { return hs.Timeouts }},
	{"rq_total", adminv3.SimpleMetric_COUNTER, func(hs *cluster.HostStatus) uint64 { return hs.Total }},
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
func clusterStatus(c *xdsconfig.ClusterStatus) *adminv3.ClusterStatus {
	out := &adminv3.ClusterStatus{
		Name: c.Name, ObservabilityName: cmp.Or(c.StatName, c.Name), AddedViaApi: !c.Static, EdsServiceName: c.EDSService,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
			thresholds(corev3.RoutingPriority_DEFAULT, c.Default), thresholds(corev3.RoutingPriority_HIGH, c.High),
		}},
	}
	for i := range c.Hosts {
		hs := &c.Hosts[i]
		st := &adminv3.HostStatus{
			Address: protoAddress(hs.Address), Hostname: hs.Hostname, Weight: hs.Weight, Priority: hs.Priority,
			Locality:     &corev3.Locality{Region: hs.Region, Zone: hs.Zone, SubZone: hs.SubZone},
			HealthStatus: &adminv3.HostHealthStatus{EdsHealthStatus: edsHealth(hs.Health)},
		}
		for _, s := range hostStats {
			st.Stats = append(st.Stats, &adminv3.SimpleMetric{Name: s.name, Value: s.of(hs), Type: s.kind})
		}
		out.HostStatuses = append(out.HostStatuses, st)
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

// addressText is what /clusters calls a host: an address in its usual form.
func addressText(s string) string {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return s // a socket's path
	}
	return net.JoinHostPort(ap.Addr().String(), strconv.Itoa(int(ap.Port())))
}

package bootstrap

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Source is where resources come from by gRPC: an ApiConfigSource, read.
type Source struct {
	Delta      bool // incremental xDS
	Aggregated bool // the ADS service, whatever asked for it

	Cluster   string // envoy_grpc: a static cluster
	Target    string // google_grpc: a gRPC target URI; either this or Cluster is set
	Authority string // :authority; empty: the cluster's name, or from the target

	Metadata []*corev3.HeaderValue // initial_metadata
	Timeout  time.Duration         // of a stream; 0: none, Envoy's default for streams

	SetNodeOnFirstMessageOnly bool

	BackoffBase time.Duration // retry_back_off.base_interval; 0: not given
	BackoffMax  time.Duration // retry_back_off.max_interval; 0: not given
}

// ADS reads dynamic_resources.ads_config. It returns nil if there is none.
func ADS(b *bootstrapv3.Bootstrap) (*Source, error) {
	api := b.GetDynamicResources().GetAdsConfig()
	if api == nil {
		return nil, nil
	}
	s, err := NewSource(api)
	if err != nil {
		return nil, fmt.Errorf("dynamic_resources.ads_config%w", err)
	}
	s.Aggregated = true
	if s.Cluster != "" && Cluster(b, s.Cluster) == nil {
		return nil, fmt.Errorf("dynamic_resources.ads_config: cluster %q is not among static_resources.clusters", s.Cluster)
	}
	return s, nil
}

// NewSource reads an ApiConfigSource. Its errors begin with the path of a field
// below it: ".grpc_services: ...".
func NewSource(api *corev3.ApiConfigSource) (*Source, error) {
	s := &Source{SetNodeOnFirstMessageOnly: api.SetNodeOnFirstMessageOnly}
	switch api.ApiType {
	case corev3.ApiConfigSource_GRPC:
	case corev3.ApiConfigSource_DELTA_GRPC:
		s.Delta = true
	case corev3.ApiConfigSource_AGGREGATED_GRPC:
		s.Aggregated = true
	case corev3.ApiConfigSource_AGGREGATED_DELTA_GRPC:
		s.Aggregated, s.Delta = true, true
	default:
		return nil, fmt.Errorf(".api_type: %v is not supported", api.ApiType)
	}
	// AUTO is v2 by its documentation, but everyone who still leaves it out
	// means v3: no server of v2 is left.
	if v := api.TransportApiVersion; v == corev3.ApiVersion_V2 {
		return nil, fmt.Errorf(".transport_api_version: %v is not supported", v)
	}
	// Envoy takes a second service as a failover only behind a runtime guard.
	if n := len(api.GrpcServices); n != 1 {
		return nil, fmt.Errorf(".grpc_services: want exactly one, have %d", n)
	}
	g := api.GrpcServices[0]
	s.Metadata = g.InitialMetadata
	s.Timeout = g.GetTimeout().AsDuration()
	retry := g.GetRetryPolicy()
	switch t := g.TargetSpecifier.(type) {
	case *corev3.GrpcService_EnvoyGrpc_:
		s.Cluster, s.Authority = t.EnvoyGrpc.ClusterName, t.EnvoyGrpc.Authority
		if p := t.EnvoyGrpc.RetryPolicy; p != nil {
			retry = p
		}
	case *corev3.GrpcService_GoogleGrpc_:
		s.Target = t.GoogleGrpc.TargetUri
	}
	if s.Cluster == "" && s.Target == "" {
		return nil, fmt.Errorf(".grpc_services[0]: neither envoy_grpc.cluster_name nor google_grpc.target_uri")
	}
	s.BackoffBase = retry.GetRetryBackOff().GetBaseInterval().AsDuration()
	s.BackoffMax = retry.GetRetryBackOff().GetMaxInterval().AsDuration()
	return s, nil
}

// Cluster returns the static cluster of that name, or nil.
func Cluster(b *bootstrapv3.Bootstrap, name string) *clusterv3.Cluster {
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Secret returns the static secret of that name, or nil.
func Secret(b *bootstrapv3.Bootstrap, name string) *tlsv3.Secret {
	for _, s := range b.GetStaticResources().GetSecrets() {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// AdminAddress returns where the admin interface listens, as net.Listen takes
// it: "tcp" and host:port, or "unix" and a path; a path that begins with "@" is
// in the abstract namespace. ok is false if there is no admin interface.
func AdminAddress(b *bootstrapv3.Bootstrap) (network, address string, ok bool) {
	a := b.GetAdmin().GetAddress()
	if p := a.GetPipe(); p != nil {
		return "unix", p.Path, true
	}
	if s := a.GetSocketAddress(); s != nil {
		host := strings.Trim(s.Address, "[]")
		return "tcp", net.JoinHostPort(host, strconv.FormatUint(uint64(s.GetPortValue()), 10)), true
	}
	return "", "", false
}

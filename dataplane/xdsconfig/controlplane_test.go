package xdsconfig

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/xdsclient"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// plane is a go-control-plane server with a snapshot cache, as most home-made
// control planes are. It keeps the last answer to each type.
type plane struct {
	cache   cachev3.SnapshotCache
	address string

	mu      sync.Mutex
	answers map[string]*discoveryv3.DiscoveryRequest // by type URL, those with a nonce
	changed chan struct{}                            // closed and replaced with each
}

func newPlane(t *testing.T) *plane {
	p := &plane{
		cache:   cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil),
		answers: map[string]*discoveryv3.DiscoveryRequest{},
		changed: make(chan struct{}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, serverv3.NewServer(ctx, p.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			if r.ResponseNonce != "" {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.answers[r.TypeUrl] = r
				close(p.changed)
				p.changed = make(chan struct{})
			}
			return nil
		},
	}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return p
}

// set publishes a snapshot.
func (p *plane) set(t *testing.T, version string, resources map[resourcev3.Type][]types.Resource) {
	t.Helper()
	s, err := cachev3.NewSnapshot(version, resources)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cache.SetSnapshot(t.Context(), "node", s); err != nil {
		t.Fatal(err)
	}
}

// await returns the first answer to a type that ok takes.
func (p *plane) await(t *testing.T, typeURL string, ok func(*discoveryv3.DiscoveryRequest) bool) *discoveryv3.DiscoveryRequest {
	t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		r, changed := p.answers[typeURL], p.changed
		p.mu.Unlock()
		if r != nil && ok(r) {
			return r
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("no such answer to %s; the last is %v", typeURL, r)
		}
	}
}

func acked(version string) func(*discoveryv3.DiscoveryRequest) bool {
	return func(r *discoveryv3.DiscoveryRequest) bool { return r.VersionInfo == version && r.ErrorDetail == nil }
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	x, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// snapshot is a listener, its routes, n clusters with an endpoint each; all
// calls go to cluster number to.
func snapshot(t *testing.T, n, to int) map[resourcev3.Type][]types.Resource {
	ads := &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3}
	address := func(ip string, port uint32) *corev3.Address {
		return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}}
	}
	out := map[resourcev3.Type][]types.Resource{}
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		out[resourcev3.ClusterType] = append(out[resourcev3.ClusterType], &clusterv3.Cluster{
			Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads},
		})
		out[resourcev3.EndpointType] = append(out[resourcev3.EndpointType], &endpointv3.ClusterLoadAssignment{
			ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address("10.0.0.1", uint32(i+1))}},
			}}}},
		})
	}
	out[resourcev3.ListenerType] = []types.Resource{&listenerv3.Listener{
		Name: "l", Address: address("0.0.0.0", 8080),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{
			TypedConfig: packed(t, &hcmv3.HttpConnectionManager{
				StatPrefix:     "s",
				RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads, RouteConfigName: "r"}},
				HttpFilters:    []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(t, &routerv3.Router{})}}},
			}),
		}}}}},
	}}
	out[resourcev3.RouteType] = []types.Resource{&routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{{
		Name: "v", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				Timeout: durationpb.New(0), ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: fmt.Sprintf("c%d", to)},
			}},
		}},
	}}}}
	return out
}

// TestControlPlane: go-control-plane's server, over TCP. A start with 100
// clusters, an update of the routes, a bad listener and its replacement, and
// readers of the state all the while.
func TestControlPlane(t *testing.T) {
	p := newPlane(t)
	p.set(t, "1", snapshot(t, 100, 7))
	host, port, _ := net.SplitHostPort(p.address)
	bs, err := bootstrap.Parse([]byte(strings.NewReplacer("127.0.0.1", host, "18000", port).Replace(testBootstrap)), bootstrap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	m, err := Attach(t.Context(), w, bs, Options{Backoff: xdsclient.Backoff{Base: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(stop)
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				m.Status()
				m.Dump()
			}
		}
	})
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	select {
	case <-m.Ready():
	case <-timeout.C:
		t.Fatalf("not ready: %+v", m.Status())
	}
	target := func() string {
		w.take()
		w.call([]string{"l", "x", "/s/m"})
		return strings.TrimSpace(w.take())
	}
	if got := target(); got != "10.0.0.1:8" {
		t.Errorf("calls go to %s", got)
	}
	for _, url := range []string{resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.ListenerType, resourcev3.RouteType} {
		p.await(t, url, acked("1"))
	}

	p.set(t, "2", snapshot(t, 100, 41))
	p.await(t, resourcev3.RouteType, acked("2"))
	if got := target(); got != "10.0.0.1:42" {
		t.Errorf("after the update calls go to %s", got)
	}

	bad := snapshot(t, 100, 42)
	bad[resourcev3.ListenerType][0].(*listenerv3.Listener).UseOriginalDst = wrapperspb.Bool(true)
	p.set(t, "3", bad)
	r := p.await(t, resourcev3.ListenerType, func(r *discoveryv3.DiscoveryRequest) bool { return r.ErrorDetail != nil })
	if r.VersionInfo != "2" || r.ErrorDetail.Message != `Listener "l": use_original_dst: not supported by this version` {
		t.Errorf("NACK: version %q, %q", r.VersionInfo, r.ErrorDetail.Message)
	}
	p.await(t, resourcev3.RouteType, acked("3"))
	if got := target(); got != "10.0.0.1:43" {
		t.Errorf("with a bad listener calls go to %s", got)
	}

	p.set(t, "4", snapshot(t, 50, 1))
	p.await(t, resourcev3.ListenerType, acked("4"))
	p.await(t, resourcev3.RouteType, acked("4"))
	p.await(t, resourcev3.ClusterType, acked("4"))
	if n := len(m.Status().Clusters); n != 51 {
		t.Errorf("%d clusters, want 50 and the bootstrap's", n)
	}
}

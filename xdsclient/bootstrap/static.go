package bootstrap

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Static describes a proxy without a control plane.
type Static struct {
	Listen  string            // host:port or unix:PATH
	Backend string            // where calls go that no route takes; empty: they get UNIMPLEMENTED
	Routes  map[string]string // gRPC service, service/method or package.* -> backend
	Admin   string            // host:port; empty: no admin interface
}

// Bootstrap returns the bootstrap that s describes: one listener, one route
// table, and a cluster for each backend. Envoy's defaults that end or mark
// calls are off: only the clients' own deadlines end a stream, and no header is
// added but x-forwarded-proto. An error names the flag at fault.
func (s Static) Bootstrap() (*bootstrapv3.Bootstrap, error) {
	if s.Backend == "" && len(s.Routes) == 0 {
		return nil, fmt.Errorf("--listen needs --backend or --route")
	}
	listen, err := listenAddress(s.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %q: %w", s.Listen, err)
	}
	b := &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: "static", Cluster: "static"},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{},
	}
	var routes []*routev3.Route
	services := make([]string, 0, len(s.Routes))
	for svc := range s.Routes {
		services = append(services, svc)
	}
	slices.Sort(services)
	for _, svc := range services {
		match, err := serviceMatch(svc)
		if err != nil {
			return nil, fmt.Errorf("--route %s=%s: %w", svc, s.Routes[svc], err)
		}
		if err := s.addCluster(b, s.Routes[svc]); err != nil {
			return nil, fmt.Errorf("--route %s=%s: %w", svc, s.Routes[svc], err)
		}
		routes = append(routes, staticRoute(match, s.Routes[svc]))
	}
	// A method goes before its service.
	slices.SortStableFunc(routes, func(a, b *routev3.Route) int { return len(b.Name) - len(a.Name) })
	if s.Backend != "" {
		if err := s.addCluster(b, s.Backend); err != nil {
			return nil, fmt.Errorf("--backend %q: %w", s.Backend, err)
		}
		routes = append(routes, staticRoute(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}, s.Backend))
	}
	ln, err := staticListener(listen, routes)
	if err != nil {
		return nil, err
	}
	b.StaticResources.Listeners = []*listenerv3.Listener{ln}
	if s.Admin != "" {
		a, _, err := address(s.Admin)
		if err != nil {
			return nil, fmt.Errorf("--admin %q: %w", s.Admin, err)
		}
		b.Admin = &bootstrapv3.Admin{Address: a}
	}
	return b, nil
}

// serviceMatch matches one gRPC service ("acme.v1.Orders"), one method of it
// ("acme.v1.Orders/Get"), or the services of a package and those below it
// ("acme.v1.*").
func serviceMatch(svc string) (*routev3.RouteMatch, error) {
	svc = strings.TrimPrefix(svc, "/")
	service, method, has := strings.Cut(svc, "/")
	if service == "" || (has && method == "") || strings.Contains(method, "/") {
		return nil, fmt.Errorf("want SERVICE or SERVICE/METHOD, e.g. acme.v1.Orders")
	}
	pkg, all := strings.CutSuffix(svc, ".*")
	switch {
	case strings.Contains(pkg, "*") || all && (has || pkg == ""):
		return nil, fmt.Errorf("a * stands only at the end of a package, as in acme.v1.*")
	case all:
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + pkg + "."}}, nil
	case has:
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/" + svc}}, nil
	}
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + svc + "/"}}, nil
}

func staticRoute(m *routev3.RouteMatch, cluster string) *routev3.Route {
	name := strings.TrimSuffix(strings.TrimPrefix(m.GetPath()+m.GetPrefix(), "/"), "/")
	return &routev3.Route{
		Name:  name,
		Match: m,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			Timeout:          durationpb.New(0),
		}},
	}
}

// addCluster adds the cluster of a backend, named like it, if it is new.
func (s Static) addCluster(b *bootstrapv3.Bootstrap, backend string) error {
	if Cluster(b, backend) != nil {
		return nil
	}
	addr, numeric, err := address(backend)
	if err != nil {
		return err
	}
	opts, err := anypb.New(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
			},
		},
	})
	if err != nil {
		return err
	}
	kind := clusterv3.Cluster_STRICT_DNS
	if numeric {
		kind = clusterv3.Cluster_STATIC
	}
	b.StaticResources.Clusters = append(b.StaticResources.Clusters, &clusterv3.Cluster{
		Name:                          backend,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: kind},
		ConnectTimeout:                durationpb.New(5 * time.Second),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": opts},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: backend,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: addr}},
			}}}},
		},
	})
	return nil
}

func staticListener(addr *corev3.Address, routes []*routev3.Route) (*listenerv3.Listener, error) {
	router, err := anypb.New(&routerv3.Router{SuppressEnvoyHeaders: true})
	if err != nil {
		return nil, err
	}
	hcm, err := anypb.New(&hcmv3.HttpConnectionManager{
		StatPrefix:                 "ingress",
		StreamIdleTimeout:          durationpb.New(0),
		GenerateRequestId:          wrapperspb.Bool(false),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:         "static",
			VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: routes}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
	})
	if err != nil {
		return nil, err
	}
	return &listenerv3.Listener{
		Name:    "ingress",
		Address: addr,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: hcm},
		}}}},
	}, nil
}

// listenAddress is address for what is listened on: of names only localhost.
func listenAddress(s string) (*corev3.Address, error) {
	a, numeric, err := address(s)
	if err != nil || numeric {
		return a, err
	}
	if sa := a.GetSocketAddress(); sa.GetAddress() == "localhost" {
		sa.Address = "127.0.0.1"
		return a, nil
	}
	return nil, fmt.Errorf("want an IP address, or localhost, and a port")
}

// address reads host:port or unix:PATH. numeric is false for a host name.
func address(s string) (a *corev3.Address, numeric bool, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return nil, false, fmt.Errorf("want unix:PATH")
		}
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}, true, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return nil, false, fmt.Errorf("want HOST:PORT or unix:PATH")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, false, fmt.Errorf("port %q: want a number up to 65535", port)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	_, err = netip.ParseAddr(host)
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}, err == nil, nil
}

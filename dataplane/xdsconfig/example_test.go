//go:build unix

package xdsconfig_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/dataplane"
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// serveOn serves s on a port of its own.
func serveOn(s *grpc.Server) (addr string, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	return ln.Addr().String(), func() {
		s.Stop()
		<-done
	}
}

// echoes is a backend.
func echoes(name string) (addr string, stop func()) {
	s := grpc.NewServer()
	echo.RegisterEchoServer(s, &echo.Server{Instance: name})
	return serveOn(s)
}

// fleet is a control plane: any that speaks xDS would do. It tells a listener
// that sends all calls to the cluster "orders", and where that is.
type fleet struct {
	cache   cachev3.SnapshotCache
	version atomic.Int64
}

func startFleet(orders string) (f *fleet, addr string, stop func()) {
	f = &fleet{cache: cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil)}
	f.tell(orders)
	ctx, cancel := context.WithCancel(context.Background())
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, serverv3.NewServer(ctx, f.cache, nil))
	addr, end := serveOn(s)
	return f, addr, func() {
		cancel()
		end()
	}
}

func (f *fleet) tell(orders string) {
	// Resources in YAML, as they would stand in a bootstrap.
	b, err := bootstrap.Parse([]byte(`
static_resources:
  listeners:
  - name: edge
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config:
            name: edge
            virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: orders}}]}]
  clusters: [`+cluster("orders", orders)+`]
`), bootstrap.Options{})
	if err != nil {
		panic(err)
	}
	v := fmt.Sprint(f.version.Add(1))
	snapshot, err := cachev3.NewSnapshot(v, map[resourcev3.Type][]types.Resource{
		resourcev3.ListenerType: {b.GetStaticResources().GetListeners()[0]},
		resourcev3.ClusterType:  {b.GetStaticResources().GetClusters()[0]},
	})
	if err != nil {
		panic(err)
	}
	if err := f.cache.SetSnapshot(context.Background(), "node", snapshot); err != nil {
		panic(err)
	}
}

// cluster is one in YAML.
func cluster(name, addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf(`{name: %s, type: STATIC, connect_timeout: 1s,
    load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]},
    typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}}`,
		name, name, host, port)
}

// attach makes server follow the control plane at addr.
func attach(server xdsconfig.Server, addr string) *xdsconfig.Manager {
	b, err := bootstrap.Parse([]byte(`
node: {id: node, cluster: example}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: fleet}}]}
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources: {clusters: [`+cluster("fleet", addr)+`]}
`), bootstrap.Options{})
	if err != nil {
		panic(err)
	}
	m, err := xdsconfig.Attach(context.Background(), server, b, xdsconfig.Options{})
	if err != nil {
		panic(err)
	}
	<-m.Ready()
	return m
}

// say makes a call to a proxy.
func say(addr string, md ...string) {
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer cc.Close()
	r, err := echo.NewEchoClient(cc).Say(metadata.AppendToOutgoingContext(context.Background(), md...), &echo.SayRequest{})
	fmt.Println(r.GetInstance(), err)
}

// The data plane in a Go program, told by a control plane what to do.
func ExampleAttach() {
	backend, stopBackend := echoes("backend")
	defer stopBackend()
	_, addr, stopFleet := startFleet(backend)
	defer stopFleet()

	srv, err := dataplane.New(dataplane.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m := attach(srv, addr)
	say(srv.Listeners()[0].Addresses[0])

	m.Close() // the server goes on with what it has
	if err := srv.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: backend <nil>
}

// A grpc.Server of one's own whose calls go where a control plane says.
func ExampleAttach_grpcServer() {
	backend, stopBackend := echoes("backend")
	defer stopBackend()
	_, addr, stopFleet := startFleet(backend)
	defer stopFleet()

	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	m := attach(d, addr)
	defer m.Close()
	proxy, stopProxy := serveOn(grpc.NewServer(append(grpcproxy.ServerOptions(),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(d.Direct)))...))
	defer stopProxy()
	say(proxy)
	// Output: backend <nil>
}

// canary sends calls that ask for it to one backend, and all others to another.
type canary struct{ stable, next call.BackendSet }

// Direct implements call.Director.
func (d *canary) Direct(c *call.Call) (call.Decision, error) {
	if v, _ := c.Headers.GetName("canary"); v == "yes" {
		return call.Decision{Backends: d.next}, nil
	}
	return call.Decision{Backends: d.stable}, nil
}

// A Director of one's own, with the control plane's clusters: endpoints, TLS
// and load balancing of "orders" are xDS's business, the choice is not.
func ExampleManager_Backends() {
	backend, stopBackend := echoes("orders")
	defer stopBackend()
	_, addr, stopFleet := startFleet(backend)
	defer stopFleet()

	srv, err := dataplane.New(dataplane.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m := attach(srv, addr)
	chains, err := listener.NewTable(nil, &listener.Chain{Manager: &call.Manager{
		Director: &canary{stable: m.Backends("orders"), next: m.Backends("orders-next")}, // which is not there yet
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	mine := &listener.Listener{Name: "mine", Addresses: []listener.Address{{Network: "tcp", Address: "127.0.0.1:0"}}, Chains: chains}
	if err := srv.Serve(mine); err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range srv.Listeners() {
		if l.Name == "mine" {
			say(l.Addresses[0])
			say(l.Addresses[0], "canary", "yes")
		}
	}
	m.Close()
	if err := srv.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// orders <nil>
	//  rpc error: code = Unavailable desc = no cluster "orders-next"
}

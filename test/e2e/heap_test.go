package e2e

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-proxy/sluice/dataplane"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// bigTable is a table of n routes to cluster blue, whose responses carry x-rev.
func bigTable(n, rev int) *routev3.RouteConfiguration {
	vh := &routev3.VirtualHost{Name: "v", Domains: []string{"*"}}
	add := func(prefix string) {
		vh.Routes = append(vh.Routes, &routev3.Route{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "blue"}, Timeout: durationpb.New(0),
			}},
		})
	}
	for i := range n - 1 {
		add(fmt.Sprintf("/acme.shop.v%d.Service%05d/", rev, i))
	}
	add("/")
	return &routev3.RouteConfiguration{
		Name: "r", VirtualHosts: []*routev3.VirtualHost{vh},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-rev", Value: fmt.Sprint(rev)}}},
	}
}

// heapAfterGC is what is really in use.
func heapAfterGC() int {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestOpenStreamHoldsNoTables, with the data plane in this process:
//  1. a stream is opened under the first revision of a table of 10,000 routes
//     and stays open;
//  2. 1,000 further revisions go live, none of them a no-op;
//  3. the heap is what it was after the first revisions: the stream's route
//     keeps no old table alive, and nothing else does.
func TestOpenStreamHoldsNoTables(t *testing.T) {
	routes, updates := 10_000, 1_000
	if raceEnabled { // the heap is measured without; here it is about races
		routes, updates = 1_000, 100
	}
	blue := startBackend(t, "blue")
	cp := startXDSServer(t)
	port := freePort(t)
	fixed := map[resourcev3.Type][]types.Resource{
		resourcev3.ListenerType: {parse(t, listener("in", port, "r"))},
		resourcev3.ClusterType:  {parse(t, cluster("blue"))},
		resourcev3.EndpointType: {parse(t, endpoints("blue", blue))},
	}
	publish := func(rev int) {
		fixed[resourcev3.RouteType] = []types.Resource{bigTable(routes, rev)}
		snap, err := cachev3.NewSnapshot(fmt.Sprint(rev), fixed)
		if err != nil {
			t.Fatal(err)
		}
		if err := cp.cache.SetSnapshot(context.Background(), "node-1", snap); err != nil {
			t.Fatal(err)
		}
	}
	publish(0)
	attach(t, "node-1", cp.port)
	waitServing(t, port)

	cl := echo.NewEchoClient(dial(t, port))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st, err := cl.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	chat := func() {
		t.Helper()
		if err := st.Send(&echo.SayRequest{Text: "still there?"}); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	chat()
	live := func(rev int) {
		t.Helper()
		eventually(t, fmt.Sprintf("revision %d is live", rev), func() error {
			var md metadata.MD
			if _, err := cl.Say(ctx, &echo.SayRequest{}, grpc.Header(&md)); err != nil {
				return err
			}
			if v := strings.Join(md.Get("x-rev"), ","); v != fmt.Sprint(rev) {
				return fmt.Errorf("x-rev is %q", v)
			}
			return nil
		})
	}
	const settle = 20 // updates until pools and caches have their size
	var before int
	for rev := 1; rev <= updates; rev++ {
		publish(rev)
		live(rev)
		if rev == settle {
			before = heapAfterGC()
		}
	}
	chat()
	// One table is about 10 MiB with its protobuf; 980 kept would be gigabytes. The
	// last but one may still be on its way out.
	var after int
	eventually(t, "no table is kept", func() error {
		after = heapAfterGC()
		if grown := after - before; grown > 8<<20 {
			return fmt.Errorf("the heap grew by %d KiB over %d updates", grown>>10, updates-settle)
		}
		return nil
	})
	t.Logf("heap in use after %d updates of %d routes: %d KiB, after %d: %d KiB", settle, routes, before>>10, updates, after>>10)
}

// attach runs a data plane in this process until the test ends.
func attach(t *testing.T, node string, cp int) *dataplane.Server {
	t.Helper()
	bs, err := bootstrap.Load(bootstrap.Sources{ConfigYAML: bootstrapYAML(node, "g", cp, 0)})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := dataplane.New(dataplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := xdsconfig.Attach(ctx, srv, bs, xdsconfig.Options{})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mgr.Close()
		cancel()
		done, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		_ = srv.Shutdown(done) // streams of a failed test may be open still
	})
	return srv
}

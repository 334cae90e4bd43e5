//go:build unix

package dataplane_test

import (
	"context"
	"fmt"
	"net"

	"github.com/sluice-proxy/sluice/dataplane"
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/test/echo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// byTenant sends each call to the backend of its tenant.
type byTenant map[string]*backend

// Direct implements call.Director. It runs on a worker: no I/O, no waiting.
func (d byTenant) Direct(c *call.Call) (call.Decision, error) {
	tenant, _ := c.Headers.GetName("tenant")
	if b := d[tenant]; b != nil {
		return call.Decision{Backends: b}, nil
	}
	return call.Decision{}, &call.Reply{HTTP: 403, GRPC: call.PermissionDenied, Message: "unknown tenant"}
}

// backend is one host, and the set of just that host.
type backend struct{ target call.Target }

// Pick implements call.BackendSet.
func (b *backend) Pick(*call.Call, int) (call.Host, error) { return b, nil }

// Done implements call.BackendSet.
func (b *backend) Done(call.Host, *call.Outcome) {}

// Target implements call.Host.
func (b *backend) Target() *call.Target { return &b.target }

// Retired implements call.Host.
func (b *backend) Retired() bool { return false }

// startBackend starts an echo server that answers with its name.
func startBackend(name string) (b *backend, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	_, stop = echo.Start(ln, &echo.Server{Instance: name})
	return &backend{call.Target{Network: "tcp", Address: ln.Addr().String(), Options: &call.UpstreamOptions{}}}, stop
}

// A proxy that chooses backends by a header, without any configuration.
func ExampleServer() {
	red, stopRed := startBackend("red")
	defer stopRed()
	blue, stopBlue := startBackend("blue")
	defer stopBlue()

	// One filter chain for every connection, one manager for its calls.
	chains, err := listener.NewTable(nil, &listener.Chain{
		Name:    "all",
		Manager: &call.Manager{Director: byTenant{"a": red, "b": blue}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv, err := dataplane.New(dataplane.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = srv.Serve(&listener.Listener{
		Name:      "example",
		Addresses: []listener.Address{{Network: "tcp", Address: "127.0.0.1:0"}},
		Chains:    chains,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	cc, err := grpc.NewClient(srv.Listeners()[0].Addresses[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tenant := range []string{"a", "b", "c"} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "tenant", tenant)
		r, err := echo.NewEchoClient(cc).Say(ctx, &echo.SayRequest{})
		fmt.Println(tenant, r.GetInstance(), err)
	}
	_ = cc.Close()
	if err := srv.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// a red <nil>
	// b blue <nil>
	// c  rpc error: code = PermissionDenied desc = unknown tenant
}

//go:build unix

package dataplane_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/dataplane"
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/test/echo"
)

// A proxy that asks something slow about each call: the workers go on.
func ExampleBlockingDirector() {
	backend, stop := startBackend("backend")
	defer stop()
	director := dataplane.NewBlockingDirector(func(ctx context.Context, r *dataplane.Request) (call.Decision, error) {
		token, _ := r.Headers.GetName("token")
		select { // a token service, say
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return call.Decision{}, ctx.Err()
		}
		if token != "good" {
			return call.Decision{}, &call.Reply{HTTP: 401, GRPC: call.Unauthenticated, Message: "bad token"}
		}
		return call.Decision{Backends: backend}, nil
	}, dataplane.BlockingOptions{Concurrency: 10, Timeout: time.Second})
	defer director.Close()

	chains, err := listener.NewTable(nil, &listener.Chain{Manager: &call.Manager{Director: director}})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv, err := dataplane.New(dataplane.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := srv.Serve(&listener.Listener{Addresses: []listener.Address{{Network: "tcp", Address: "127.0.0.1:0"}}, Chains: chains}); err != nil {
		fmt.Println(err)
		return
	}
	cc, err := grpc.NewClient(srv.Listeners()[0].Addresses[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, token := range []string{"good", "bad"} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "token", token)
		r, err := echo.NewEchoClient(cc).Say(ctx, &echo.SayRequest{})
		fmt.Println(r.GetInstance(), err)
	}
	_ = cc.Close()
	if err := srv.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// backend <nil>
	//  rpc error: code = Unauthenticated desc = bad token
}

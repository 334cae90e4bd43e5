package proxy_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy/sidero/proxy"
	"github.com/sluice-proxy/sluice/test/echo"
)

// 1.1, 1.8, 1.31: a program as siderolabs' are, with the import path changed.
func ExampleTransparentHandler() {
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	backend, proxied := listen(), listen()
	be := grpc.NewServer()
	echo.RegisterEchoServer(be, &echo.Server{Instance: "backend"})
	go func() { _ = be.Serve(backend) }()
	defer be.Stop()
	cc, err := grpc.NewClient(backend.Addr().String(), plain, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(proxy.Codec())))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cc.Close()

	director := func(context.Context, string) (proxy.Mode, []proxy.Backend, error) {
		return proxy.One2One, []proxy.Backend{&proxy.SingleBackend{
			GetConn: func(ctx context.Context) (context.Context, *grpc.ClientConn, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				return metadata.NewOutgoingContext(ctx, md.Copy()), cc, nil
			},
		}}, nil
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(proxy.Codec()), grpc.UnknownServiceHandler(proxy.TransparentHandler(director)))
	go func() { _ = s.Serve(proxied) }()
	defer s.Stop()

	client, err := grpc.NewClient(proxied.Addr().String(), plain)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	r, err := echo.NewEchoClient(client).Say(context.Background(), &echo.SayRequest{Text: "hello"})
	fmt.Println(r.GetInstance(), r.GetText(), err)
	// Output: backend hello <nil>
}

func listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return ln
}

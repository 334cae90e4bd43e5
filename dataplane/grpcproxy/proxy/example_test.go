package proxy_test

import (
	"context"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy/proxy"
	"github.com/sluice-proxy/sluice/test/echo"
)

// run serves s, and returns a connection to it.
func run(s *grpc.Server) (cc *grpc.ClientConn, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	if cc, err = grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		panic(err)
	}
	return cc, func() {
		_ = cc.Close()
		s.Stop()
		<-done
	}
}

// backend is a connection to an echo server.
func backend() (cc *grpc.ClientConn, stop func()) {
	s := grpc.NewServer()
	echo.RegisterEchoServer(s, &echo.Server{Instance: "backend"})
	return run(s)
}

func say(cc *grpc.ClientConn, text string) string {
	r, err := echo.NewEchoClient(cc).Say(context.Background(), &echo.SayRequest{Text: text})
	return fmt.Sprint(r.GetInstance(), " ", r.GetText(), " ", status.Code(err))
}

// 1.15: a proxy in one line.
func ExampleNewProxy() {
	dst, stopBackend := backend()
	defer stopBackend()
	cc, stop := run(proxy.NewProxy(dst))
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: backend hello OK
}

// 1.15: the same as an option of a server that has others.
func ExampleDefaultProxyOpt() {
	dst, stopBackend := backend()
	defer stopBackend()
	cc, stop := run(grpc.NewServer(grpc.MaxConcurrentStreams(100), proxy.DefaultProxyOpt(dst)))
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: backend hello OK
}

// 1.7: a director returns the context of the call to the backend, which is
// derived from its own, and the connection. 1.16: the server was not given any
// codec.
func ExampleTransparentHandler() {
	dst, stopBackend := backend()
	defer stopBackend()
	director := func(ctx context.Context, method string) (context.Context, *grpc.ClientConn, error) {
		if strings.HasPrefix(method, "/com.example.internal.") {
			return nil, nil, status.Error(codes.Unimplemented, "unknown method")
		}
		md, _ := metadata.FromIncomingContext(ctx)
		return metadata.NewOutgoingContext(ctx, md.Copy()), dst, nil
	}
	cc, stop := run(grpc.NewServer(grpc.UnknownServiceHandler(proxy.TransparentHandler(director))))
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: backend hello OK
}

// 1.7: directors may return any kind of channel.
func ExampleRegisterService_clientConnInterface() {
	dst, stopBackend := backend()
	defer stopBackend()
	director := func(ctx context.Context, _ string) (context.Context, grpc.ClientConnInterface, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return metadata.NewOutgoingContext(ctx, md.Copy()), dst, nil
	}
	s := grpc.NewServer()
	proxy.RegisterService(s, director, "sluice.echo.v1.Echo", "Say")
	cc, stop := run(s)
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: backend hello OK
}

// 1.2, 1.16: named methods, with the codec set by hand as older programs do.
func ExampleRegisterService() {
	dst, stopBackend := backend()
	defer stopBackend()
	s := grpc.NewServer(grpc.CustomCodec(proxy.Codec())) //nolint:staticcheck // what older programs do
	proxy.RegisterService(s, proxy.DefaultDirector(dst), "sluice.echo.v1.Echo", "Say")
	cc, stop := run(s)
	defer stop()
	fmt.Println(say(cc, "hello"))
	_, err := echo.NewEchoClient(cc).Collect(context.Background())
	fmt.Println(err)
	// Output:
	// backend hello OK
	// <nil>
}

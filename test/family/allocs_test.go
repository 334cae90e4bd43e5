package main

import (
	"context"
	"io"
	"net"
	"testing"

	mwitkow "github.com/mwitkow/grpc-proxy/proxy"
	siderolabs "github.com/siderolabs/grpc-proxy/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// BenchmarkUnary counts what a unary call of 100 bytes allocates in client,
// proxy and backend together; the row "direct" has no proxy, and the others'
// difference to it is the proxy's.
func BenchmarkUnary(b *testing.B) {
	backend := serve(b, grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.UnknownServiceHandler(
		func(_ any, ss grpc.ServerStream) error {
			var f grpcproxy.Frame
			defer f.Free()
			for {
				if err := ss.RecvMsg(&f); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := ss.SendMsg(&f); err != nil {
					return err
				}
			}
		})))
	forward := func(ctx context.Context) context.Context {
		md, _ := metadata.FromIncomingContext(ctx)
		return metadata.NewOutgoingContext(ctx, md.Copy())
	}
	cc := connect(b, backend)
	raw := connect(b, backend, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(siderolabs.Codec())))
	theirs := []siderolabs.Backend{&siderolabs.SingleBackend{GetConn: func(ctx context.Context) (context.Context, *grpc.ClientConn, error) {
		return forward(ctx), raw, nil
	}}}
	ours := []grpcproxy.Backend{&grpcproxy.SingleBackend{GetConn: func(ctx context.Context) (context.Context, *grpc.ClientConn, error) {
		return forward(ctx), cc, nil
	}}}
	server, err := grpcproxy.NewServer(&grpcproxy.Config{DefaultBackend: backend, HeapReserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	for _, p := range []struct {
		name string
		addr string
	}{
		{"direct", backend},
		{"mwitkow", serve(b, mwitkow.NewProxy(cc))},
		{"siderolabs", serve(b, grpc.NewServer(grpc.ForceServerCodecV2(siderolabs.Codec()), grpc.UnknownServiceHandler(siderolabs.TransparentHandler(
			func(context.Context, string) (siderolabs.Mode, []siderolabs.Backend, error) {
				return siderolabs.One2One, theirs, nil
			}))))},
		{"sluice-handler", serve(b, grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(
			func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
				return grpcproxy.One2One, ours, nil
			}))))},
		{"sluice-server", serve(b, server.GetGRPCServer())},
	} {
		client := connect(b, p.addr)
		b.Run(p.name, func(b *testing.B) {
			// A bytes field: one of the originals relays nothing but protobuf.
			request := grpcproxy.FrameOf(append([]byte{0x0a, 98}, make([]byte, 98)...))
			b.ReportAllocs()
			for b.Loop() {
				var response grpcproxy.Frame
				if err := client.Invoke(context.Background(), "/a.B/C", request, &response, grpc.ForceCodecV2(grpcproxy.Codec())); err != nil {
					b.Fatal(err)
				}
				response.Free()
			}
		})
	}
}

func serve(b *testing.B, s *grpc.Server) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	b.Cleanup(func() {
		s.Stop()
		<-done
	})
	return ln.Addr().String()
}

func connect(b *testing.B, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	b.Helper()
	cc, err := grpc.NewClient(addr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cc.Close() })
	return cc
}

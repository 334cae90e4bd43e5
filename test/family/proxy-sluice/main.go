// Command proxy-sluice is the smallest proxies that dataplane/grpcproxy makes:
// its Server, or, with -handler, the same program as its neighbours with
// nothing but an import path changed, or, with -tuned, that program with the
// package's options for its server and its connection.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"runtime/pprof"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	proxy "github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	backend := flag.String("backend", "127.0.0.1:50051", "address of the backend")
	handler := flag.Bool("handler", false, "a grpc.Server with the handler")
	tuned := flag.Bool("tuned", false, "... with ServerOptions and DialOptions")
	reserve := flag.Int("reserve", 0, "Config.HeapReserve, or WithHeapReserve; 0: the default")
	profile := flag.String("profile", "", "write a CPU profile of 5 seconds to this file")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			log.Fatal(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			log.Fatal(err)
		}
		time.AfterFunc(5*time.Second, pprof.StopCPUProfile)
	}
	if *handler || *tuned {
		log.Fatal(serveHandler(*listen, *backend, *tuned, *reserve))
	}
	s, err := proxy.NewServer(&proxy.Config{DefaultBackend: *backend, HeapReserve: *reserve})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(s.Start(context.Background(), *listen))
}

func serveHandler(listen, backend string, tuned bool, reserve int) error {
	dial := []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.ForceCodecV2(proxy.Codec()))}
	server := []grpc.ServerOption{grpc.ForceServerCodecV2(proxy.Codec())}
	if tuned {
		dial, server = proxy.DialOptions(), proxy.ServerOptions()
	}
	cc, err := grpc.NewClient(backend, append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	backends := []proxy.Backend{&proxy.SingleBackend{
		GetConn: func(ctx context.Context) (context.Context, *grpc.ClientConn, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			return metadata.NewOutgoingContext(ctx, md.Copy()), cc, nil
		},
	}}
	director := func(context.Context, string) (proxy.Mode, []proxy.Backend, error) {
		return proxy.One2One, backends, nil
	}
	var options []proxy.Option
	if reserve != 0 {
		options = append(options, proxy.WithHeapReserve(reserve))
	}
	return grpc.NewServer(append(server, grpc.UnknownServiceHandler(proxy.TransparentHandler(director, options...)))...).Serve(ln)
}

package grpcproxy_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/route"
	echopb "github.com/sluice-proxy/sluice/test/echo"
)

// listen returns a listener on a free port.
func listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return ln
}

// echoBackend runs an echo server that answers with its name.
func echoBackend(name string) (addr string, stop func()) {
	ln := listen()
	_, stop = echopb.Start(ln, &echopb.Server{Instance: name})
	return ln.Addr().String(), stop
}

// connect returns a plaintext connection.
func connect(addr string) *grpc.ClientConn {
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	return cc
}

// start runs a grpc.Server.
func start(s *grpc.Server) (cc *grpc.ClientConn, stop func()) {
	ln := listen()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	cc = connect(ln.Addr().String())
	return cc, func() {
		_ = cc.Close()
		s.Stop()
		<-done
	}
}

// say calls the echo service and tells who answered.
func say(cc *grpc.ClientConn, text string, md ...string) string {
	ctx := metadata.AppendToOutgoingContext(context.Background(), md...)
	r, err := echopb.NewEchoClient(cc).Say(ctx, &echopb.SayRequest{Text: text})
	if err != nil {
		return fmt.Sprint(status.Code(err), ": ", status.Convert(err).Message())
	}
	return r.GetInstance() + " says " + r.GetText()
}

// A director that shields internal services and chooses between two backends
// by metadata, in front of whatever the server does not know itself.
func ExampleTransparentHandler() {
	stagingAddr, stopStaging := echoBackend("staging")
	defer stopStaging()
	prodAddr, stopProd := echoBackend("prod")
	defer stopProd()
	single := func(cc *grpc.ClientConn) grpcproxy.Backend {
		return &grpcproxy.SingleBackend{
			GetConn: func(ctx context.Context) (context.Context, *grpc.ClientConn, error) {
				return grpcproxy.Forwarded(ctx), cc, nil // with the client's metadata
			},
		}
	}
	staging, prod := connect(stagingAddr), connect(prodAddr)
	defer staging.Close()
	defer prod.Close()

	director := func(ctx context.Context, method string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		if strings.HasPrefix(method, "/com.example.internal.") {
			return grpcproxy.One2One, nil, status.Error(codes.Unimplemented, "unknown method")
		}
		if len(metadata.ValueFromIncomingContext(ctx, "try")) > 0 {
			return grpcproxy.One2One, []grpcproxy.Backend{single(staging)}, nil
		}
		return grpcproxy.One2One, []grpcproxy.Backend{single(prod)}, nil
	}
	cc, stop := start(grpc.NewServer(
		grpc.ForceServerCodecV2(grpcproxy.Codec()),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(director)),
	))
	defer stop()
	fmt.Println(say(cc, "hello"))
	fmt.Println(say(cc, "hello", "try", "1"))
	// Output:
	// prod says hello
	// staging says hello
}

// Some methods of one service, and no others. Streamed methods matter to calls
// to several backends only.
func ExampleRegisterService() {
	addr, stopBackend := echoBackend("backend")
	defer stopBackend()
	backend := connect(addr)
	defer backend.Close()
	s := grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()))
	grpcproxy.RegisterService(s, to(backend), "sluice.echo.v1.Echo",
		grpcproxy.WithMethodNames("Say", "Chat"),
		grpcproxy.WithStreamedMethodNames("Chat"),
	)
	cc, stop := start(s)
	defer stop()
	fmt.Println(say(cc, "hello"))
	_, err := echopb.NewEchoClient(cc).Count(context.Background(), &echopb.CountRequest{})
	fmt.Println(err == nil) // the call fails when its stream is read
	// Output:
	// backend says hello
	// true
}

// region is a backend of a call to many: its responses are tagged, and its
// errors become responses.
type region struct {
	grpcproxy.ConnBackend
}

// AppendInfo implements grpcproxy.Backend: fields that follow are merged into
// the message; of text, the last counts.
func (r *region) AppendInfo(_ bool, resp []byte) ([]byte, error) {
	tag, err := proto.Marshal(&echopb.SayResponse{Text: "from " + r.Name})
	return append(resp, tag...), err
}

// BuildError implements grpcproxy.Backend.
func (r *region) BuildError(_ bool, err error) ([]byte, error) {
	return proto.Marshal(&echopb.SayResponse{Instance: r.Name, Text: status.Convert(err).Message()})
}

// One call to several backends, their responses message by message.
func ExampleWithStreamedDetector() {
	var regions []grpcproxy.Backend
	for _, name := range []string{"east", "west"} {
		addr, stopBackend := echoBackend(name)
		defer stopBackend()
		cc := connect(addr)
		defer cc.Close()
		regions = append(regions, &region{grpcproxy.ConnBackend{Name: name, Conn: cc}})
	}
	cc, stop := start(grpc.NewServer(
		grpc.ForceServerCodecV2(grpcproxy.Codec()),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(
			func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
				return grpcproxy.One2Many, regions, nil
			},
			grpcproxy.WithStreamedDetector(func(method string) bool { return !strings.HasSuffix(method, "/Say") }),
		)),
	))
	defer stop()
	chat, err := echopb.NewEchoClient(cc).Chat(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = chat.Send(&echopb.SayRequest{Text: "hello"})
	_ = chat.CloseSend()
	for {
		r, err := chat.Recv()
		if err != nil {
			break
		}
		fmt.Println(r.GetInstance(), r.GetText())
	}
	// Unordered output:
	// east from east
	// west from west
}

// Unary responses joined with the help of their descriptors.
func ExampleMergeByDescriptor() {
	merge := grpcproxy.MergeByDescriptor(protoregistry.GlobalFiles)
	part := func(r *echopb.CollectResponse) grpcproxy.Response {
		b, _ := proto.Marshal(r)
		return grpcproxy.Response{Messages: [][]byte{b}}
	}
	b, err := merge(echopb.Echo_Collect_FullMethodName, []grpcproxy.Response{
		part(&echopb.CollectResponse{Instance: "east", Messages: 3}),
		part(&echopb.CollectResponse{Bytes: 70}),
	})
	var all echopb.CollectResponse
	fmt.Println(proto.Unmarshal(b, &all), err, all.GetInstance(), all.GetMessages(), all.GetBytes())
	// Output: <nil> <nil> east 3 70
}

// A whole proxy: connections, middlewares, graceful end.
func ExampleServer() {
	blue, stopBlue := echoBackend("blue")
	defer stopBlue()
	red, stopRed := echoBackend("red")
	defer stopRed()

	s, err := grpcproxy.NewServer(&grpcproxy.Config{DefaultBackend: blue, BackendIdleTimeout: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) {
		if len(c.Metadata.Get("token")) == 0 {
			c.AbortWithError(codes.Unauthenticated, "no token")
			return
		}
		c.Metadata.Delete("token")
		c.AddMetadata("via", "sluice")
		first, err := c.Peek() // only if the call may wait for it
		if err == nil && strings.Contains(string(first), "red") {
			c.SetBackend(red)
		}
		c.Next()
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ln := listen()
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }() // or s.Start(ctx, ":8080")

	cc := connect(ln.Addr().String())
	fmt.Println(say(cc, "hello", "token", "t"))
	fmt.Println(say(cc, "red, please", "token", "t"))
	fmt.Println(say(cc, "hello"))
	_ = cc.Close()
	cancel()
	fmt.Println(<-done)
	// Output:
	// blue says hello
	// red says red, please
	// Unauthenticated: no token
	// <nil>
}

// A forwarder in a handler of one's own.
func ExampleForwarder() {
	addr, stopBackend := echoBackend("backend")
	defer stopBackend()
	f := grpcproxy.NewForwarder(nil, nil, nil)
	defer f.Close()
	cc, stop := start(grpc.NewServer(append(grpcproxy.ServerOptions(),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(ss)
			return f.Forward(ss.Context(), method, ss, addr, metadata.Pairs("via", "sluice"), nil)
		}))...))
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: backend says hello
}

// One connection per address.
func ExampleConnectionCache() {
	cache := grpcproxy.NewConnectionCache(nil, nil, nil).WithEviction(time.Minute)
	defer cache.Close()
	addr, stopBackend := echoBackend("backend")
	defer stopBackend()
	cc, err := cache.Get(addr)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(say(cc, "hello"))
	cache.Remove(addr) // the next Get connects anew
	fmt.Println(cache.Len())
	// Output:
	// backend says hello
	// 0
}

// A pool whose connections carry a hundred calls each, in a director.
func ExamplePool() {
	addr, stopBackend := echoBackend("backend")
	defer stopBackend()
	pool := grpcproxy.NewPool(10, time.Hour, 2, 100)
	defer pool.Close()
	cc, stop := start(grpc.NewServer(append(grpcproxy.ServerOptions(),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(
			func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
				return grpcproxy.One2One, []grpcproxy.Backend{&pooled{pool: pool, addr: addr}}, nil
			})))...))
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: backend says hello
}

// pooled gives its connection back when its call has ended.
type pooled struct {
	grpcproxy.SingleBackend
	pool *grpcproxy.Pool
	addr string
	conn *grpcproxy.PoolConn
}

// GetConnection implements grpcproxy.Backend.
func (p *pooled) GetConnection(ctx context.Context, _ string) (context.Context, *grpc.ClientConn, error) {
	var err error
	if p.conn, err = p.pool.GetConn(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return nil, nil, err
	}
	return grpcproxy.Forwarded(ctx), p.conn.ClientConn, nil
}

// End implements grpcproxy.Ender.
func (p *pooled) End(_ context.Context, err error) { p.pool.Release(p.addr, p.conn, err) }

// The first message decides, and others get a copy of the call.
func ExamplePeekHandler() {
	addr, stopBackend := echoBackend("primary")
	defer stopBackend()
	primary := connect(addr)
	defer primary.Close()
	other, stopOther := echoBackend("replica")
	defer stopOther()
	replica := connect(other)
	defer replica.Close()
	handler := grpcproxy.PeekHandler(func(_ context.Context, _ string, peeker grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
		first, err := peeker.Peek()
		if err != nil {
			return nil, err
		}
		var secondaries []grpcproxy.Destination
		if strings.Contains(string(first), "everybody") {
			secondaries = append(secondaries, grpcproxy.Destination{Conn: replica})
		}
		return grpcproxy.NewStreamParameters(grpcproxy.Destination{Conn: primary}, secondaries, nil, nil), nil
	})
	cc, stop := start(grpc.NewServer(append(grpcproxy.ServerOptions(), grpc.UnknownServiceHandler(handler))...))
	defer stop()
	fmt.Println(say(cc, "everybody"))
	// Output: primary says everybody
}

// A method answered here, beside those that are relayed.
func ExampleRegisterStreamHandlers() {
	addr, stopBackend := echoBackend("backend")
	defer stopBackend()
	backend := connect(addr)
	defer backend.Close()
	s := grpc.NewServer(append(grpcproxy.ServerOptions(), grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(to(backend))))...)
	grpcproxy.RegisterStreamHandlers(s, "sluice.echo.v1.Echo", map[string]grpc.StreamHandler{
		"Say": func(_ any, ss grpc.ServerStream) error {
			var f grpcproxy.Frame
			if err := ss.RecvMsg(&f); err != nil {
				return err
			}
			defer f.Free()
			var req echopb.SayRequest
			if err := f.ParseAs(&req); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			return ss.SendMsg(&echopb.SayResponse{Instance: "here", Text: req.GetText()})
		},
	})
	cc, stop := start(s)
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: here says hello
}

// Routes and endpoints as the data plane's. xdsconfig.Attach drives the
// director from a bootstrap and a control plane; here the parts of a snapshot
// are put together by hand.
func ExampleXDSDirector() {
	addr, stopBackend := echoBackend("backend")
	defer stopBackend()

	orders := cluster.New(cluster.Config{Name: "orders", Options: &call.UpstreamOptions{}})
	orders.Update(&cluster.Assignment{Localities: []cluster.Locality{{
		Weight: 1, Endpoints: []cluster.Endpoint{{Network: "tcp", Address: addr}},
	}}})
	b := route.NewBuilder("routes")
	vh, err := b.AddVirtualHost("all", []string{"*"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := vh.Add(route.Match{Path: route.PathMatch{Kind: route.PathPrefix, Value: "/sluice.echo.v1.Echo/"}},
		route.Action{Clusters: []route.WeightedCluster{{Weight: 1, Backends: orders}}}); err != nil {
		fmt.Println(err)
		return
	}
	table, err := b.Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	chains, err := listener.NewTable(nil, &listener.Chain{Manager: &call.Manager{Director: table}})
	if err != nil {
		fmt.Println(err)
		return
	}

	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	// xdsconfig.Attach(ctx, d, bootstrap, xdsconfig.Options{}) does this, and all above:
	_ = d.Serve(&listener.Listener{Name: "edge", Chains: chains})

	cc, stop := start(grpc.NewServer(append(grpcproxy.ServerOptions(),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(d.Direct)))...))
	defer stop()
	fmt.Println(say(cc, "hello"))
	// Output: backend says hello
}

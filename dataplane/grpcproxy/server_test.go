package grpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// startServer runs a Server and returns a connection to it.
func startServer(t *testing.T, c *grpcproxy.Config, prepare ...func(s *grpcproxy.Server)) (*grpcproxy.Server, *grpc.ClientConn) {
	t.Helper()
	c.HeapReserve = -1
	s, err := grpcproxy.NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s, dial(t, ln.Addr().String())
}

// 1.49, 1.50, 1.51, 1.29: a server with a default backend, other services
// beside it, and message sizes without a limit.
func TestServer(t *testing.T) {
	big := string(make([]byte, 5<<20))
	_, cc := startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, named(big)), BackendIdleTimeout: time.Minute},
		func(s *grpcproxy.Server) { healthpb.RegisterHealthServer(s.GetGRPCServer(), health.NewServer()) })
	unlimited := grpc.MaxCallRecvMsgSize(6 << 20)
	if got, err := ask(t, testContext(t), cc, "x", unlimited); got != big || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := healthpb.NewHealthClient(cc).Check(testContext(t), &healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}

// 1.51: message sizes are bounded on both sides; a bad config is refused.
func TestServerConfig(t *testing.T) {
	_, cc := startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, named("a long response")), MaxRecvMsgSize: 10})
	for _, m := range []string{"x", "a long request"} {
		if _, err := ask(t, testContext(t), cc, m); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%q: %v", m, err)
		}
	}
	for _, c := range []*grpcproxy.Config{nil, {}} {
		if _, err := grpcproxy.NewServer(c); err == nil {
			t.Errorf("%v was accepted", c)
		}
	}
}

// 1.50: Stop lets calls end, ends Start, may be called again, and so does the
// end of the context; an address that is taken is an error.
func TestServerLifecycle(t *testing.T) {
	for _, how := range []string{"stop", "context"} {
		t.Run(how, func(t *testing.T) {
			s, err := grpcproxy.NewServer(&grpcproxy.Config{DefaultBackend: startBackend(t, echo)})
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context(), ln.Addr().String()); err == nil {
				t.Error("two listeners on one address")
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx, ln) }()
			cs := stream(t, testContext(t), dial(t, ln.Addr().String()))
			send(t, cs, "1")
			want(t, cs, "1")
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				if how == "stop" {
					s.Stop()
				} else {
					cancel()
				}
			}()
			send(t, cs, "2")
			want(t, cs, "2")
			_ = cs.CloseSend()
			if _, err := recv(cs); !errors.Is(err, io.EOF) {
				t.Errorf("the call in progress: %v", err)
			}
			<-stopped
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			s.Stop()
			s.Close()
		})
	}
}

// 1.52: middlewares run in order around each other, share values, change what
// the backend gets, and choose it.
func TestMiddlewares(t *testing.T) {
	other := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		return named(fmt.Sprint(md.Get("keep"), md.Get("drop"), md.Get("added"), md.Get("set"), md.Get("request")))(ss)
	})
	var mu sync.Mutex
	var order []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	_, cc := startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, echo)}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) {
			note("first " + c.Request.Service + " " + c.Request.Method)
			c.Set("n", "v")
			c.Next()
			note("first again")
		}))
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) {
			note("second " + c.GetString("n") + c.GetString("none"))
			if _, ok := c.Get("none"); ok {
				t.Error("a value that nobody set")
			}
			c.AddMetadata("added", "1")
			c.Metadata.Delete("drop")
			c.Metadata.Set("set", "2")
			c.Request.Metadata.Set("request", "3") // the same map
			c.SetBackend(other)
		}))
	})
	ctx := metadata.AppendToOutgoingContext(testContext(t), "keep", "k", "drop", "d")
	if got, err := ask(t, ctx, cc, "x"); got != "[k] [] [1] [2] [3]" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"first acme.v1.Orders Call", "second v", "first again"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// 1.52: ways to answer without the backend.
func TestMiddlewareAborts(t *testing.T) {
	tests := map[string]struct {
		do   func(c *grpcproxy.Context)
		want string
		code codes.Code
	}{
		"respond": {func(c *grpcproxy.Context) { c.SendResponse([]byte("mine")) }, "mine", codes.OK},
		"empty":   {func(c *grpcproxy.Context) { c.SendResponse(nil) }, "", codes.OK},
		"error":   {func(c *grpcproxy.Context) { c.AbortWithError(codes.PermissionDenied, "no") }, "", codes.PermissionDenied},
		"abort":   {func(c *grpcproxy.Context) { c.Abort() }, "", codes.Internal},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			later := false
			_, cc := startServer(t, &grpcproxy.Config{DefaultBackend: "127.0.0.1:1"}, func(s *grpcproxy.Server) {
				s.Use(grpcproxy.MiddlewareFunc(tt.do))
				s.Use(grpcproxy.MiddlewareFunc(func(*grpcproxy.Context) { later = true }))
			})
			got, err := ask(t, testContext(t), cc, "x")
			if got != tt.want || status.Code(err) != tt.code || later {
				t.Errorf("%q, %v; later middlewares ran: %v", got, err, later)
			}
		})
	}
}

// 1.42, 1.52: a middleware sees and replaces the first message; one that does
// not ask holds up no call whose server speaks first.
func TestMiddlewarePeeks(t *testing.T) {
	greeting := func(ss grpc.ServerStream) error {
		for m := "hello"; ; {
			err := ss.SendMsg(grpcproxy.NewFrame([]byte(m)))
			if err == nil {
				m, err = recv(ss)
			}
			if errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	var look atomic.Bool
	_, cc := startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, greeting)}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) {
			if !look.Load() {
				return
			}
			b, err := c.Peek()
			if err != nil {
				c.AbortWithError(codes.InvalidArgument, err.Error())
				return
			}
			if err := c.Rewrite(append(b, '!')); err != nil {
				t.Error(err)
			}
		}))
	})
	silent := stream(t, testContext(t), cc)
	want(t, silent, "hello") // nothing was sent yet
	send(t, silent, "x")
	want(t, silent, "x")
	_ = silent.CloseSend()

	look.Store(true)
	cs := stream(t, testContext(t), cc)
	send(t, cs, "x")
	want(t, cs, "hello")
	want(t, cs, "x!")
	send(t, cs, "y")
	want(t, cs, "y")
	_ = cs.CloseSend()

	empty := stream(t, testContext(t), cc)
	_ = empty.CloseSend()
	_, err := recv(empty)
	wantStatus(t, err, status.New(codes.InvalidArgument, "EOF"))
}

// 1.53: the hook replaces the error of a first message that cannot be read.
func TestHook(t *testing.T) {
	seen := make(chan error, 1)
	got := make(chan string, 1)
	_, cc := startServer(t, &grpcproxy.Config{
		DefaultBackend: startBackend(t, echo), MaxRecvMsgSize: 5,
		Hooks: &grpcproxy.Hooks{OnFirstFrameError: func(r *grpcproxy.RequestInfo, err error) error {
			got <- r.FullMethod + " " + status.Code(err).String()
			return status.Error(codes.InvalidArgument, "hooked")
		}},
		ServerOptions: []grpc.ServerOption{grpc.StreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				err := next(srv, ss)
				seen <- err
				return err
			})},
	}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) { _, _ = c.Peek() }))
	})
	if _, err := ask(t, testContext(t), cc, "too long"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the client got %v", err)
	}
	if g := <-got; g != method+" ResourceExhausted" {
		t.Errorf("the hook got %q", g)
	}
	wantStatus(t, <-seen, status.New(codes.InvalidArgument, "hooked"))
}

// 1.50: a middleware may be added while calls run.
func TestUseConcurrently(t *testing.T) {
	var n atomic.Int64
	s, cc := startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, echo)})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s.Use(grpcproxy.MiddlewareFunc(func(*grpcproxy.Context) { n.Add(1) }))
			if _, err := ask(t, testContext(t), cc, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n.Store(0)
	if _, err := ask(t, testContext(t), cc, "x"); err != nil || n.Load() != 8 {
		t.Errorf("%d middlewares ran, %v", n.Load(), err)
	}
}

// 1.8, 1.52: what no middleware has sent anywhere, the director decides, also
// when one has looked at the first message.
func TestServerWithDirector(t *testing.T) {
	director := to(dial(t, startBackend(t, echo)))
	_, cc := startServer(t, &grpcproxy.Config{Director: director}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) { _, _ = c.Peek() }))
	})
	if got, err := ask(t, testContext(t), cc, "x"); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// 1.49: a forwarder used by a handler of one's own, with a message that was
// read and metadata that was added.
func TestForwarder(t *testing.T) {
	f := grpcproxy.NewForwarder(nil, nil, nil)
	defer f.Close()
	addr := startBackend(t, echo)
	cc := startProxy(t, func(_ any, ss grpc.ServerStream) error {
		var first grpcproxy.Frame
		if err := ss.RecvMsg(&first); err != nil {
			return err
		}
		m, _ := grpc.MethodFromServerStream(ss)
		return f.Forward(ss.Context(), m, ss, addr, metadata.Pairs("say", "added"), &first)
	})
	cs := stream(t, testContext(t), cc)
	send(t, cs, "1")
	send(t, cs, "2")
	_ = cs.CloseSend()
	want(t, cs, "1")
	want(t, cs, "2")
	if md, _ := cs.Header(); cmp.Diff([]string{"added"}, md.Get("echo")) != "" {
		t.Errorf("headers %v", md)
	}
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if f.Cache().Len() != 1 {
		t.Errorf("%d connections", f.Cache().Len())
	}
}

// valueContext is a context that cannot be compared.
type valueContext struct {
	context.Context
	values map[string]string
}

// 1.49: an interceptor's context may be of any kind.
func TestForwarderAnyContext(t *testing.T) {
	_, cc := startServer(t, &grpcproxy.Config{
		DefaultBackend: startBackend(t, echo),
		ServerOptions: []grpc.ServerOption{grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &contextStream{ss, valueContext{ss.Context(), nil}})
		})},
	})
	if got, err := ask(t, testContext(t), cc, "x"); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// 1.21, 1.49: a call that is forwarded with a context of one's own ends with its
// client all the same.
func TestForwarderForeignContext(t *testing.T) {
	f := grpcproxy.NewForwarder(nil, nil, nil)
	defer f.Close()
	called, ended := make(chan struct{}), make(chan struct{})
	addr := startBackend(t, func(ss grpc.ServerStream) error {
		close(called)
		<-ss.Context().Done()
		close(ended)
		return nil
	})
	cc := startProxy(t, func(_ any, ss grpc.ServerStream) error {
		m, _ := grpc.MethodFromServerStream(ss)
		return f.Forward(context.WithoutCancel(ss.Context()), m, ss, addr, nil, nil)
	})
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	_ = stream(t, ctx, cc).CloseSend() // nobody reads from the client any more
	<-called
	cancel()
	select {
	case <-ended:
	case <-testContext(t).Done():
		t.Error("the backend's call goes on")
	}
}

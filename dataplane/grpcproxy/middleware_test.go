package grpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// 1.18, 1.52: a first message that was looked at is given up when the director
// refuses the call.
func TestPeekedFrameIsFreed(t *testing.T) {
	pool := new(counting)
	_, cc := startServer(t, &grpcproxy.Config{
		Director: func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
			return 0, nil, status.Error(codes.PermissionDenied, "no")
		},
		ServerOptions: []grpc.ServerOption{experimental.BufferPool(pool)},
	}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) { _, _ = c.Peek() }))
	})
	if _, err := ask(t, testContext(t), cc, string(make([]byte, 8<<10))); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	pool.settled(t)
}

// 1.50: a middleware that is none is a mistake that shows at once.
func TestUseNil(t *testing.T) {
	s, err := grpcproxy.NewServer(&grpcproxy.Config{DefaultBackend: "127.0.0.1:1", HeapReserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, m := range []grpcproxy.Middleware{nil, grpcproxy.MiddlewareFunc(nil)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Use(%#v) did not panic", m)
				}
			}()
			s.Use(m)
		}()
	}
}

// 1.52: the director gets the metadata as the middlewares left it, peeked at
// or not.
func TestDirectorSeesMiddlewareMetadata(t *testing.T) {
	for _, peek := range []bool{false, true} {
		got := make(chan metadata.MD, 2)
		conn := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			got <- md
			return echo(ss)
		}))
		_, cc := startServer(t, &grpcproxy.Config{Director: func(ctx context.Context, m string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			got <- md
			return to(conn)(ctx, m)
		}}, func(s *grpcproxy.Server) {
			s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) {
				c.Request.Metadata.Set("authorization", "service")
				c.Request.Metadata.Delete("x-secret")
				c.AddMetadata("x-added", "1")
				if peek {
					_, _ = c.Peek()
				}
			}))
		})
		ctx := metadata.AppendToOutgoingContext(testContext(t), "authorization", "client", "x-secret", "1")
		if m, err := ask(t, ctx, cc, "x"); m != "x" || err != nil {
			t.Errorf("%q, %v", m, err)
		}
		for _, who := range []string{"director", "backend"} {
			md := <-got
			if s := fmt.Sprint(md["authorization"], md["x-secret"], md["x-added"]); s != "[service] [] [1]" {
				t.Errorf("the %s saw %s", who, s)
			}
		}
	}
}

// 1.50: Close returns when the handlers have.
func TestCloseWaitsForHandlers(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var left atomic.Bool
	s, cc := startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, echo)}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) {
			close(entered)
			<-c.Context().Done()
			<-leave
			left.Store(true)
		}))
	})
	var calls sync.WaitGroup
	calls.Go(func() {
		if _, err := ask(t, testContext(t), cc, "x"); err == nil {
			t.Error("the call survived Close")
		}
	})
	<-entered
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
	}()
	calls.Wait()
	close(leave)
	<-closed
	if !left.Load() {
		t.Error("a handler runs after Close")
	}
}

// 1.42, 1.52: a server may wait for the first message for all middlewares.
func TestFirstPayload(t *testing.T) {
	got := make(chan string, 1)
	_, cc := startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, echo), FirstPayload: true}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) { got <- string(c.Request.FirstPayload) }))
	})
	if m, err := ask(t, testContext(t), cc, "first"); m != "first" || err != nil || <-got != "first" {
		t.Errorf("%q, %v", m, err)
	}
	none := make(chan bool, 1)
	_, cc = startServer(t, &grpcproxy.Config{DefaultBackend: startBackend(t, echo), FirstPayload: true}, func(s *grpcproxy.Server) {
		s.Use(grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) { none <- c.Request.FirstPayload == nil }))
	})
	if _, err := ask(t, testContext(t), cc, ""); err != nil || <-none {
		t.Errorf("an empty message is taken for none: %v", err)
	}
	cs := stream(t, testContext(t), cc)
	_ = cs.CloseSend()
	if _, err := recv(cs); !errors.Is(err, io.EOF) || !<-none {
		t.Errorf("no message: %v", err)
	}

	_, cc = startServer(t, &grpcproxy.Config{Director: to(dial(t, startBackend(t, echo))), FirstPayload: true})
	if m, err := ask(t, testContext(t), cc, "first"); m != "first" || err != nil {
		t.Errorf("with a director and no middleware: %q, %v", m, err)
	}
}

// 1.52: middlewares can be tried without a server.
func TestNewContext(t *testing.T) {
	var ran []string
	add := grpcproxy.MiddlewareFunc(func(c *grpcproxy.Context) {
		b, err := c.Peek()
		ran = append(ran, fmt.Sprintf("%s %v %v", b, err, c.Context() != nil))
		c.AddMetadata("k", "v")
		if err == nil {
			_ = c.Rewrite(append(b, '!'))
		}
	})
	for _, req := range []*grpcproxy.RequestInfo{nil, {FirstPayload: []byte("x")}} {
		c := grpcproxy.NewContext(req, []grpcproxy.Middleware{add})
		c.Next()
		if fmt.Sprint(c.Metadata["k"]) != "[v]" || req != nil && string(c.Request.FirstPayload) != "x!" {
			t.Errorf("%+v", c.Request)
		}
		c = grpcproxy.AcquireContext(req, nil)
		c.SendResponse([]byte("r"))
		if !c.IsAborted() {
			t.Error("the chain goes on")
		}
		grpcproxy.ReleaseContext(c)
	}
	if fmt.Sprint(ran) != "[ EOF true x <nil> true]" {
		t.Errorf("%v", ran)
	}
}

// 1.38: several goroutines send on one stream; headers that come late are no
// error, and SendHeader does not panic.
func TestServerStreamWrapper(t *testing.T) {
	cc := startProxy(t, func(_ any, ss grpc.ServerStream) error {
		w := &grpcproxy.ServerStreamWrapper{ServerStream: ss}
		errs := make(chan error, 100)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				errs <- w.SetHeader(metadata.Pairs("set", fmt.Sprint(i)))
				if i%2 == 0 {
					errs <- w.SendHeader(metadata.Pairs("sent", "1"))
				}
				errs <- w.SendMsg(grpcproxy.NewFrame([]byte("m")))
				w.SetTrailer(metadata.Pairs("t", "1"))
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
	cs := stream(t, testContext(t), cc)
	for range 20 {
		want(t, cs, "m")
	}
	if _, err := recv(cs); status.Code(err) != codes.Unknown || len(cs.Trailer()["t"]) != 20 { // EOF is no status
		t.Errorf("%v, trailers %v", err, cs.Trailer())
	}
}

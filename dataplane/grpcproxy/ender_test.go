package grpcproxy_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// accounted counts its calls and keeps how they ended.
type accounted struct {
	shard
	begun atomic.Int64
	ends  chan codes.Code
}

func (a *accounted) Connect(ctx context.Context, m string) (context.Context, grpc.ClientConnInterface, error) {
	a.begun.Add(1)
	return a.shard.Connect(ctx, m)
}

func (a *accounted) End(_ context.Context, err error) { a.ends <- status.Code(err) }

// 1.45, 1.57: an Ender is told of each call once, however it ended: so pools
// and balancers keep their accounts. A client that neither reads nor stays
// must not be forgotten.
func TestEnder(t *testing.T) {
	flood := func(ss grpc.ServerStream) error {
		for {
			if err := ss.SendMsg(grpcproxy.NewFrame(make([]byte, 64<<10))); err != nil {
				return err
			}
		}
	}
	gone := dial(t, "127.0.0.1:1")
	tests := []struct {
		name    string
		handler func(grpc.ServerStream) error
		conn    *grpc.ClientConn
		leave   bool
		want    codes.Code
	}{
		{"ok", echo, nil, false, codes.OK},
		{"error", failing(codes.DataLoss), nil, false, codes.DataLoss},
		{"unreachable", nil, gone, false, codes.Unavailable},
		{"client leaves", flood, nil, true, codes.Canceled},
	}
	for _, mode := range []grpcproxy.Mode{grpcproxy.One2One, grpcproxy.One2Many, grpcproxy.Replicated} {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				a := &accounted{ends: make(chan codes.Code, 10)}
				conn := tt.conn
				if conn == nil {
					conn = dial(t, startBackend(t, tt.handler))
				}
				a.Conn = conn
				cc := startProxy(t, grpcproxy.TransparentHandler(func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
					return mode, []grpcproxy.Backend{a}, nil
				}, grpcproxy.WithStreamedDetector(streamed)))
				ctx, cancel := context.WithCancel(testContext(t))
				defer cancel()
				cs := stream(t, ctx, cc)
				_ = cs.CloseSend()
				if _, err := recv(cs); tt.leave && err != nil {
					t.Fatal(err)
				}
				if tt.leave {
					if err := pause(t.Context()); err != nil { // until the windows are full
						t.Fatal(err)
					}
					cancel()
				}
				var err error
				for err == nil {
					_, err = recv(cs)
				}
				if got := <-a.ends; got != tt.want {
					t.Errorf("the call ended with %v, want %v", got, tt.want)
				}
				if more := len(a.ends); more != 0 || a.begun.Load() != 1 {
					t.Errorf("%d calls, %d more ends", a.begun.Load(), more)
				}
				if errors.Is(err, io.EOF) != (tt.want == codes.OK) && mode == grpcproxy.One2One {
					t.Errorf("the client got %v", err)
				}
			})
		}
	}
}

// bursting is a channel that panics instead of making a call.
type bursting struct{ grpc.ClientConnInterface }

func (bursting) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	panic("oh")
}

// 1.45: also a panic in making the call is an end of it: a server that recovers
// from such would run out of pooled connections.
func TestEnderOfPanic(t *testing.T) {
	for _, mode := range allModes {
		a := &accounted{ends: make(chan codes.Code, 10)}
		a.Conn = bursting{}
		cc := startProxy(t, grpcproxy.TransparentHandler(directed(mode, a)), recovering)
		if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.DataLoss { // as recovering has it
			t.Errorf("mode %d: %v", mode, err)
		}
		if n := len(a.ends); n != 1 {
			t.Errorf("mode %d: %d ends", mode, n)
		} else if got := <-a.ends; got != codes.Internal {
			t.Errorf("mode %d: ended with %v", mode, got)
		}
	}
}

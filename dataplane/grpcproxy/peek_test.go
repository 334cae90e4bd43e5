package grpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// 1.6, 1.9, 1.42: the first message decides where the call goes, and goes
// there, too.
func TestPeekDirector(t *testing.T) {
	conns := map[string]*grpc.ClientConn{
		"red":  dial(t, startBackend(t, echo)),
		"blue": dial(t, startBackend(t, named("blue's"))),
	}
	cc := startProxy(t, grpcproxy.PeekHandler(func(_ context.Context, _ string, p grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
		first, err := p.Peek()
		if errors.Is(err, io.EOF) {
			first = []byte("blue")
		} else if err != nil {
			return nil, err
		}
		conn := conns[string(first)]
		if conn == nil {
			return nil, status.Error(codes.NotFound, "no such shard")
		}
		return grpcproxy.NewStreamParameters(grpcproxy.Destination{Conn: conn}, nil, nil, nil), nil
	}))
	for in, want := range map[string]string{"red": "red", "blue": "blue's"} {
		if got, err := ask(t, testContext(t), cc, in); got != want || err != nil {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	_, err := ask(t, testContext(t), cc, "green")
	wantStatus(t, err, status.New(codes.NotFound, "no such shard"))
	empty := stream(t, testContext(t), cc) // no message at all
	_ = empty.CloseSend()
	want(t, empty, "blue's")
}

// 1.40, 1.41: each destination has a first message of its own, whether the
// director looked at the client's or not; what follows goes to all.
func TestPeekRewrites(t *testing.T) {
	for _, look := range []bool{false, true} {
		t.Run(fmt.Sprint(look), func(t *testing.T) {
			var secondary atomic.Value
			primary := dial(t, startBackend(t, echo))
			other := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
				all := ""
				for {
					m, err := recv(ss)
					if errors.Is(err, io.EOF) {
						secondary.Store(all)
						return nil
					} else if err != nil {
						return err
					}
					all += m + ","
				}
			}))
			cc := startProxy(t, grpcproxy.PeekHandler(func(_ context.Context, _ string, p grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
				if look {
					if _, err := p.Peek(); err != nil {
						return nil, err
					}
				}
				return grpcproxy.NewStreamParameters(grpcproxy.Destination{Conn: primary, Msg: []byte("for the primary")},
					[]grpcproxy.Destination{{Conn: other, Msg: []byte("for the other")}}, nil, nil), nil
			}))
			cs := stream(t, testContext(t), cc)
			send(t, cs, "original")
			want(t, cs, "for the primary")
			send(t, cs, "second")
			want(t, cs, "second")
			_ = cs.CloseSend()
			if _, err := recv(cs); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if got := secondary.Load(); got != "for the other,second," {
				t.Errorf("the secondary got %q", got)
			}
		})
	}
}

// 1.43: which of several errors the client gets.
func TestPeekErrorPrecedence(t *testing.T) {
	conn := dial(t, startBackend(t, failing(codes.DataLoss)))
	good := dial(t, startBackend(t, echo))
	var (
		director  = status.Error(codes.Aborted, "director")
		finalizer = status.Error(codes.OutOfRange, "finalizer")
		swallow   = func(error) error { return nil }
		replace   = func(error) error { return status.Error(codes.AlreadyExists, "replaced") }
	)
	tests := []struct {
		name      string
		director  error
		conn      *grpc.ClientConn
		handler   func(error) error
		finalizer error
		want      codes.Code
	}{
		{"director over all", director, conn, replace, finalizer, codes.Aborted},
		{"destination over finalizer", nil, conn, nil, finalizer, codes.DataLoss},
		{"handler over finalizer", nil, conn, replace, finalizer, codes.AlreadyExists},
		{"swallowed, then finalizer", nil, conn, swallow, finalizer, codes.OutOfRange},
		{"finalizer alone", nil, good, nil, finalizer, codes.OutOfRange},
		{"swallowed", nil, conn, swallow, nil, codes.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			finalized := 0
			cc := startProxy(t, grpcproxy.PeekHandler(func(context.Context, string, grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
				return grpcproxy.NewStreamParameters(grpcproxy.Destination{Conn: tt.conn, ErrHandler: tt.handler}, nil,
					func() error { finalized++; return tt.finalizer }, nil), tt.director
			}))
			cs := stream(t, testContext(t), cc)
			_ = cs.CloseSend()
			_, err := recv(cs)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if status.Code(err) != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if wantFinal := map[bool]int{true: 0, false: 1}[tt.director != nil]; finalized != wantFinal {
				t.Errorf("finalized %d times", finalized)
			}
		})
	}
}

// 1.9, 1.41: a destination's own context and call options; accessors.
func TestPeekParameters(t *testing.T) {
	got := make(chan metadata.MD, 1)
	conn := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		got <- md
		return nil
	}))
	cc := startProxy(t, grpcproxy.PeekHandler(func(ctx context.Context, _ string, _ grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
		p := grpcproxy.NewStreamParameters(grpcproxy.Destination{Ctx: metadata.AppendToOutgoingContext(ctx, "k", "v"), Conn: conn},
			nil, nil, []grpc.CallOption{grpc.CallAuthority("elsewhere")})
		if p.Primary().Conn != grpc.ClientConnInterface(conn) || len(p.Secondaries()) != 0 || len(p.CallOptions()) != 1 || p.RequestFinalizer() != nil {
			t.Error("the accessors do not say what was given")
		}
		return p, nil
	}))
	cs := stream(t, metadata.AppendToOutgoingContext(testContext(t), "client", "1"), cc)
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	md := <-got
	if fmt.Sprint(md.Get("k"), md.Get(":authority"), md.Get("client")) != "[v] [elsewhere] []" {
		t.Errorf("the backend saw %v", md)
	}
}

// 1.42: who looks at the first message when the director has decided is refused,
// unless it was looked at before: the message is on its way.
func TestPeekTooLate(t *testing.T) {
	conn := dial(t, startBackend(t, echo))
	for _, early := range []bool{false, true} {
		var late error
		cc := startProxy(t, grpcproxy.TransparentHandler(func(ctx context.Context, _ string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
			if early {
				if _, err := grpcproxy.Peek(ctx); err != nil {
					return 0, nil, err
				}
			}
			b := &grpcproxy.SingleBackend{GetConn: func(out context.Context) (context.Context, *grpc.ClientConn, error) {
				_, late = grpcproxy.Peek(ctx)
				return out, conn, nil
			}}
			return grpcproxy.One2One, []grpcproxy.Backend{b}, nil
		}))
		if got, err := ask(t, testContext(t), cc, "x"); got != "x" || err != nil || late == nil != early {
			t.Errorf("looked at before %v: %q, %v; %v", early, got, err, late)
		}
		cc = startProxy(t, grpcproxy.PeekHandler(func(_ context.Context, _ string, p grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
			if early {
				if _, err := p.Peek(); err != nil {
					return nil, err
				}
			}
			return grpcproxy.NewStreamParameters(grpcproxy.Destination{Conn: conn}, nil, func() error {
				_, late = p.Peek()
				return nil
			}, nil), nil
		}))
		if got, err := ask(t, testContext(t), cc, "x"); got != "x" || err != nil || late == nil != early {
			t.Errorf("finalizer, looked at before %v: %q, %v; %v", early, got, err, late)
		}
	}
}

// 1.3: hand-written handlers beside the proxy.
func TestRegisterStreamHandlers(t *testing.T) {
	s := grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(to(dial(t, startBackend(t, named("relayed")))))))
	grpcproxy.RegisterStreamHandlers(s, "acme.v1.Local", map[string]grpc.StreamHandler{
		"Call": func(_ any, ss grpc.ServerStream) error { return named("local")(ss) },
	})
	cc := dial(t, serve(t, s))
	for m, want := range map[string]string{"/acme.v1.Local/Call": "local", method: "relayed"} {
		var out grpcproxy.Frame
		err := cc.Invoke(testContext(t), m, &grpcproxy.Frame{}, &out, grpc.ForceCodecV2(grpcproxy.Codec()))
		if string(out.Data()) != want || err != nil {
			t.Errorf("%s: %q, %v", m, out.Data(), err)
		}
	}
}

// 1.41, 1.43: a first message that may not be sent to a destination fails the
// call, as every other: no ErrHandler makes a success of it.
func TestPeekMessageIsNotLost(t *testing.T) {
	for at := range 2 {
		var dests []grpcproxy.Destination
		for _, s := range shards(t, waits, waits) {
			dests = append(dests, grpcproxy.Destination{Conn: s.Conn, Msg: []byte("too long"), ErrHandler: func(error) error { return nil }})
		}
		dests[at].Conn = narrow{dests[at].Conn}
		cc := startProxy(t, grpcproxy.PeekHandler(func(context.Context, string, grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
			return grpcproxy.NewStreamParameters(dests[0], dests[1:], nil, nil), nil
		}))
		if got, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("destination %d: %q, %v", at, got, err)
		}
	}
}

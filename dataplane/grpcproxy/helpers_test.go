package grpcproxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// Every test's comment names the rows of the family's feature list that it
// shows (1.1 to 1.59); TestRows has them.

const method = "/acme.v1.Orders/Call"

// longest bounds what a test waits for on a loaded machine.
const longest = 30 * time.Second

// testContext ends a test that hangs.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	t.Cleanup(cancel)
	return ctx
}

// serve runs a server until the test ends.
func serve(t *testing.T, s *grpc.Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return ln.Addr().String()
}

// startBackend runs a server whose every method is h.
func startBackend(t *testing.T, h func(ss grpc.ServerStream) error) (addr string) {
	t.Helper()
	return serve(t, grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return h(ss) })))
}

func dial(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// startProxy runs a grpc.Server with h and returns a connection to it.
func startProxy(t *testing.T, h grpc.StreamHandler, opts ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.ServerOption{grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.UnknownServiceHandler(h)}, opts...)
	return dial(t, serve(t, grpc.NewServer(opts...)))
}

// to directs every call to one connection.
func to(cc grpc.ClientConnInterface) grpcproxy.StreamDirector {
	b := &grpcproxy.ConnBackend{Conn: cc}
	return func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		return grpcproxy.One2One, []grpcproxy.Backend{b}, nil
	}
}

// proxied runs a backend and a proxy before it.
func proxied(t *testing.T, h func(ss grpc.ServerStream) error) *grpc.ClientConn {
	t.Helper()
	return startProxy(t, grpcproxy.TransparentHandler(to(dial(t, startBackend(t, h)))))
}

// stream begins a call with frames.
func stream(t *testing.T, ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	opts = append([]grpc.CallOption{grpc.ForceCodecV2(grpcproxy.Codec())}, opts...)
	cs, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// messages is either side of a stream.
type messages interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// send sends a message. The call may have ended before: RecvMsg tells how.
func send(t *testing.T, s messages, payload string) {
	t.Helper()
	if err := s.SendMsg(grpcproxy.NewFrame([]byte(payload))); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("sending %q: %v", payload, err)
	}
}

func recv(s messages) (string, error) {
	var f grpcproxy.Frame
	err := s.RecvMsg(&f)
	defer f.Free()
	return string(f.Data()), err
}

func want(t *testing.T, s messages, payload string) {
	t.Helper()
	if got, err := recv(s); err != nil || got != payload {
		t.Fatalf("received %q, %v, want %q", got, err, payload)
	}
}

// ask makes a call with one message and returns the only response.
func ask(t *testing.T, ctx context.Context, cc grpc.ClientConnInterface, payload string, opts ...grpc.CallOption) (string, error) {
	t.Helper()
	cs := stream(t, ctx, cc, opts...)
	if err := cs.SendMsg(grpcproxy.NewFrame([]byte(payload))); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if err := cs.CloseSend(); err != nil {
		return "", err
	}
	got, err := recv(cs)
	if err != nil {
		return "", err
	}
	if more, err := recv(cs); !errors.Is(err, io.EOF) {
		return got, errors.Join(errors.New("after the response: "+more), err)
	}
	return got, nil
}

// echo answers each message with itself, and metadata with metadata.
func echo(ss grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	if err := ss.SendHeader(metadata.MD{"echo": md.Get("say")}); err != nil {
		return err
	}
	ss.SetTrailer(metadata.Pairs("bye", "now"))
	for {
		var f grpcproxy.Frame
		if err := ss.RecvMsg(&f); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		err := ss.SendMsg(&f)
		f.Free()
		if err != nil {
			return err
		}
	}
}

// named answers every call with one message.
func named(answer string) func(ss grpc.ServerStream) error {
	return func(ss grpc.ServerStream) error {
		if err := drain(ss); err != nil {
			return err
		}
		return ss.SendMsg(grpcproxy.NewFrame([]byte(answer)))
	}
}

// drain reads to the client's end.
func drain(ss grpc.ServerStream) error {
	for {
		if _, err := recv(ss); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func wantStatus(t *testing.T, err error, want *status.Status) {
	t.Helper()
	got := status.Convert(err)
	if got.Code() != want.Code() || got.Message() != want.Message() {
		t.Errorf("status %v %q, want %v %q", got.Code(), got.Message(), want.Code(), want.Message())
	}
}

// pause gives sockets and schedulers 50 ms: there is no event to wait for when
// the question is whether something stops.
func pause(ctx context.Context) error {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

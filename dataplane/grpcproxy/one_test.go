package grpcproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// 1.1, 1.19, 1.58: calls of all kinds pass, with the metadata of both
// directions and messages of any size and content.
func TestAllKinds(t *testing.T) {
	cc := proxied(t, echo)
	sizes := map[string][]string{
		"unary":         {"one"},
		"none":          {},
		"empty":         {""},
		"stream":        {"a", "", "b", strings.Repeat("c", 100_000)},
		"not protobuf":  {"\xff\xff\xff\xff"},
		"many messages": strings.Split(strings.Repeat("x,", 500), ","),
	}
	for name, messages := range sizes {
		t.Run(name, func(t *testing.T) {
			ctx := metadata.AppendToOutgoingContext(testContext(t), "say", "hello", "blob-bin", "\x00\xff")
			cs := stream(t, ctx, cc)
			go func() {
				for _, m := range messages {
					_ = cs.SendMsg(grpcproxy.NewFrame([]byte(m)))
				}
				_ = cs.CloseSend()
			}()
			for _, m := range messages {
				want(t, cs, m)
			}
			if m, err := recv(cs); !errors.Is(err, io.EOF) {
				t.Fatalf("got %q, %v, want the end", m, err)
			}
			md, err := cs.Header()
			if err != nil || cmp.Diff([]string{"hello"}, md.Get("echo")) != "" {
				t.Errorf("headers %v, %v", md, err)
			}
			if got := cs.Trailer().Get("bye"); cmp.Diff([]string{"now"}, got) != "" {
				t.Errorf("trailers %v", got)
			}
		})
	}
}

// 1.20, 1.58: both directions flow at once, many calls side by side; the end
// of one direction passes on and leaves the other open.
func TestFullDuplexAndHalfClose(t *testing.T) {
	cc := proxied(t, func(ss grpc.ServerStream) error {
		if err := echo(ss); err != nil {
			return err
		}
		return ss.SendMsg(grpcproxy.NewFrame([]byte("after the end")))
	})
	var calls sync.WaitGroup
	for i := range 50 {
		calls.Go(func() {
			cs := stream(t, testContext(t), cc)
			for j := range 20 {
				m := fmt.Sprint(i, j)
				if err := cs.SendMsg(grpcproxy.NewFrame([]byte(m))); err != nil {
					t.Error(err)
				}
				if got, err := recv(cs); got != m || err != nil {
					t.Errorf("%q, %v, want %q", got, err, m)
				}
			}
			_ = cs.CloseSend()
			if got, err := recv(cs); got != "after the end" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := recv(cs); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// 1.21, 1.23: the backend's call ends when the client cancels or runs out of
// time, and the proxy's interceptors see whose doing it was.
func TestClientGoes(t *testing.T) {
	ended := make(chan error, 1)
	seen := make(chan error, 1)
	backend := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
		_ = ss.SendHeader(metadata.Pairs("here", "1"))
		<-ss.Context().Done()
		ended <- ss.Context().Err()
		return status.FromContextError(ss.Context().Err()).Err()
	}))
	cc := startProxy(t, grpcproxy.TransparentHandler(to(backend)), grpc.StreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			err := next(srv, ss)
			seen <- err
			return err
		}))
	tests := []struct {
		name string
		ctx  func(ctx context.Context) (context.Context, context.CancelFunc)
		code codes.Code
	}{
		{"cancel", context.WithCancel, codes.Canceled},
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Second) // the headers come within it
		}, codes.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := tt.ctx(testContext(t))
			defer cancel()
			cs := stream(t, ctx, cc)
			if _, err := cs.Header(); err != nil {
				t.Fatal(err)
			}
			if tt.code == codes.Canceled {
				cancel()
			}
			if _, err := recv(cs); status.Code(err) != tt.code {
				t.Errorf("the client got %v", err)
			}
			<-ended
			// A client whose time is over also resets its call, which may
			// arrive before the proxy's own clock says so.
			if err := <-seen; status.Code(err) != tt.code && status.Code(err) != codes.Canceled {
				t.Errorf("the proxy's interceptor saw %v, want %v", err, tt.code)
			}
		})
	}
}

// 1.22, 1.57: the backend's status with its details, and its trailers, arrive
// as they were, with and without messages before.
func TestStatusIsVerbatim(t *testing.T) {
	st, err := status.New(codes.FailedPrecondition, "no: ä%\n").WithDetails(&errdetails.ErrorInfo{Reason: "R", Domain: "d"})
	if err != nil {
		t.Fatal(err)
	}
	for _, messages := range []int{0, 2} {
		t.Run(fmt.Sprint(messages), func(t *testing.T) {
			cc := proxied(t, func(ss grpc.ServerStream) error {
				for range messages {
					if err := ss.SendMsg(grpcproxy.NewFrame([]byte("m"))); err != nil {
						return err
					}
				}
				ss.SetTrailer(metadata.Pairs("t", "1", "t", "2", "t-bin", "\x01"))
				return st.Err()
			})
			cs := stream(t, testContext(t), cc)
			for range messages {
				want(t, cs, "m")
			}
			_, err := recv(cs)
			if got := status.Convert(err).Proto(); !proto.Equal(got, st.Proto()) {
				t.Errorf("status %v, want %v", got, st.Proto())
			}
			tr := cs.Trailer()
			if cmp.Diff([]string{"1", "2"}, tr.Get("t")) != "" || cmp.Diff([]string{"\x01"}, tr.Get("t-bin")) != "" {
				t.Errorf("trailers %v", tr)
			}
		})
	}
}

// 1.24: headers reach the client while the backend waits, before any message.
func TestHeadersAtOnce(t *testing.T) {
	release := make(chan struct{})
	cc := proxied(t, func(ss grpc.ServerStream) error {
		if err := ss.SendHeader(metadata.Pairs("early", "yes")); err != nil {
			return err
		}
		<-release
		return nil
	})
	cs := stream(t, testContext(t), cc)
	md, err := cs.Header()
	if err != nil || len(md.Get("early")) != 1 {
		t.Errorf("headers %v, %v", md, err)
	}
	close(release)
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// 1.25: a backend that ends before the client does ends the call, at once and
// with its own status, however much the client still sends.
func TestBackendCompletesFirst(t *testing.T) {
	for _, want := range []error{nil, status.Error(codes.Aborted, "enough")} {
		cc := proxied(t, func(ss grpc.ServerStream) error {
			if _, err := recv(ss); err != nil {
				return err
			}
			return want
		})
		cs := stream(t, testContext(t), cc)
		send(t, cs, "first")
		var err error
		for err == nil { // the client keeps sending until its call has ended
			err = cs.SendMsg(grpcproxy.NewFrame(make([]byte, 1000)))
		}
		if _, err = recv(cs); want == nil && !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want OK", err)
		} else if want != nil {
			wantStatus(t, err, status.Convert(want))
		}
	}
}

// 1.26: headers of a call that fails, whether sent or only set.
func TestHeadersOfErrors(t *testing.T) {
	for _, how := range []string{"set", "send"} {
		t.Run(how, func(t *testing.T) {
			cc := proxied(t, func(ss grpc.ServerStream) error {
				md := metadata.Pairs("why", how)
				if how == "set" {
					_ = ss.SetHeader(md)
				} else {
					_ = ss.SendHeader(md)
				}
				return status.Error(codes.NotFound, "none")
			})
			cs := stream(t, testContext(t), cc)
			_, err := recv(cs)
			wantStatus(t, err, status.New(codes.NotFound, "none"))
			if md, err := cs.Header(); err != nil || cmp.Diff([]string{how}, md.Get("why")) != "" {
				t.Errorf("headers %v, %v", md, err)
			}
		})
	}
}

// 1.26: a response of trailers only stays one: no headers are made up.
func TestTrailersOnly(t *testing.T) {
	cc := proxied(t, func(ss grpc.ServerStream) error {
		ss.SetTrailer(metadata.Pairs("t", "1"))
		return status.Error(codes.NotFound, "none")
	})
	cs := stream(t, testContext(t), cc)
	_, err := recv(cs)
	wantStatus(t, err, status.New(codes.NotFound, "none"))
	if md, _ := cs.Header(); len(md) != 0 {
		t.Errorf("headers %v of a response without", md)
	}
	if got := cs.Trailer().Get("t"); cmp.Diff([]string{"1"}, got) != "" {
		t.Errorf("trailers %v", got)
	}
}

// 1.27: a backend that is not there is UNAVAILABLE.
func TestUnreachable(t *testing.T) {
	// Nobody is given port 1; one that was free a moment ago, somebody may be.
	cc := startProxy(t, grpcproxy.TransparentHandler(to(dial(t, "127.0.0.1:1"))))
	if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want UNAVAILABLE", err)
	}
}

// 1.27: a backend that refuses before it has read: its status, although
// sending to it says no more than io.EOF.
func TestRejectedBeforeFirstMessage(t *testing.T) {
	cc := proxied(t, func(grpc.ServerStream) error { return status.Error(codes.Unauthenticated, "who?") })
	for range 20 { // the refusal and the message race
		_, err := ask(t, testContext(t), cc, strings.Repeat("x", 100_000))
		wantStatus(t, err, status.New(codes.Unauthenticated, "who?"))
	}
}

// 1.23: what the proxy itself refuses is neither the backend's fault nor
// CANCELED: a message over the server's limit is RESOURCE_EXHAUSTED.
func TestClientMessageTooLarge(t *testing.T) {
	backend := dial(t, startBackend(t, echo))
	cc := startProxy(t, grpcproxy.TransparentHandler(to(backend)), grpc.MaxRecvMsgSize(10))
	if _, err := ask(t, testContext(t), cc, "more than ten bytes"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	small := dial(t, startBackend(t, echo), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(10)))
	cc = startProxy(t, grpcproxy.TransparentHandler(to(small)))
	if _, err := ask(t, testContext(t), cc, "more than ten bytes"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("towards the backend: got %v", err)
	}
}

// 1.28: the backend sees the content type that the client sent, and one list
// of encodings, the proxy's.
func TestContentSubtype(t *testing.T) {
	got := make(chan metadata.MD, 1)
	cc := proxied(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		got <- md
		return nil
	})
	for _, subtype := range []string{"", "proto", "json", "thrift"} {
		want := "application/grpc"
		if subtype != "" {
			want += "+" + subtype
		}
		cs, err := cc.NewStream(testContext(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(anyCodec(subtype)))
		if err != nil {
			t.Fatal(err)
		}
		md := <-got
		if diff := cmp.Diff([]string{want}, md.Get("content-type")); diff != "" {
			t.Errorf("content-type (-want +got):\n%s", diff)
		}
		if n := len(md.Get("grpc-accept-encoding")); n > 1 {
			t.Errorf("%d grpc-accept-encoding", n)
		}
		if _, err := recv(cs); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
}

// anyCodec is a codec with a name of one's own.
type anyCodec string

func (anyCodec) Marshal(v any) (mem.BufferSlice, error) { return grpcproxy.Codec().Marshal(v) }
func (anyCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return grpcproxy.Codec().Unmarshal(data, v)
}
func (c anyCodec) Name() string { return string(c) }

// 1.4, 1.29: services of one's own answer on the same server, with messages
// that the codec leaves to protobuf.
func TestLocalServices(t *testing.T) {
	s := grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(to(dial(t, startBackend(t, echo))))))
	healthpb.RegisterHealthServer(s, health.NewServer())
	cc := dial(t, serve(t, s))
	r, err := healthpb.NewHealthClient(cc).Check(testContext(t), &healthpb.HealthCheckRequest{})
	if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", r, err)
	}
	if got, err := ask(t, testContext(t), cc, "relayed"); got != "relayed" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// 1.30: compression ends at the proxy, as it must with grpc-go: a compressed
// request arrives as it was, and the response is compressed as the client does.
func TestCompression(t *testing.T) {
	cc := proxied(t, echo)
	text := strings.Repeat("compress me ", 1000)
	if got, err := ask(t, testContext(t), cc, text, grpc.UseCompressor("gzip")); got != text || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// 1.16: a server and a connection without the codec relay the same bytes,
// protobuf or not.
func TestWithoutCodec(t *testing.T) {
	backend := dial(t, startBackend(t, echo))
	s := grpc.NewServer(grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(to(backend))))
	cc := dial(t, serve(t, s))
	for _, m := range []string{"", "\xff\xff\xff", strings.Repeat("z", 50_000)} {
		if got, err := ask(t, testContext(t), cc, m); got != m || err != nil {
			t.Errorf("%d bytes came back as %d, %v", len(m), len(got), err)
		}
	}
}

// 1.2, 1.10: only the registered methods are relayed, after the server's
// interceptors.
func TestRegisterService(t *testing.T) {
	var order []string
	director := func(ctx context.Context, m string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		order = append(order, "director "+m)
		return to(dial(t, startBackend(t, echo)))(ctx, m)
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.StreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			order = append(order, "interceptor")
			return next(srv, ss)
		}))
	grpcproxy.RegisterService(s, director, "acme.v1.Orders", grpcproxy.WithMethodNames("Call"))
	cc := dial(t, serve(t, s))
	if got, err := ask(t, testContext(t), cc, "x"); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"interceptor", "director " + method}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	err := cc.Invoke(testContext(t), "/acme.v1.Orders/Other", new(healthpb.HealthCheckRequest), new(healthpb.HealthCheckResponse))
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("another method: %v", err)
	}
}

// 1.8, 1.11, 1.12, 1.13, 1.14: a director sees method, metadata and authority,
// shields services, and its error is the call's.
func TestDirector(t *testing.T) {
	staging := to(dial(t, startBackend(t, named("staging"))))
	prod := to(dial(t, startBackend(t, named("prod"))))
	director := func(ctx context.Context, m string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		switch {
		case strings.HasPrefix(m, "/acme.internal."):
			return 0, nil, status.Error(codes.Unimplemented, "unknown method")
		case len(md.Get("authorization")) == 0:
			return 0, nil, errors.New("who are you?")
		case md.Get(":authority")[0] == "staging.example.com":
			return staging(ctx, m)
		}
		return prod(ctx, m)
	}
	cc := startProxy(t, grpcproxy.TransparentHandler(director))
	ctx := metadata.AppendToOutgoingContext(testContext(t), "authorization", "bearer x")
	if got, err := ask(t, ctx, cc, "", grpc.CallAuthority("staging.example.com")); got != "staging" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ask(t, ctx, cc, "", grpc.CallAuthority("example.com")); got != "prod" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err := ask(t, testContext(t), cc, "")
	wantStatus(t, err, status.New(codes.Unknown, "who are you?"))
	err = cc.Invoke(ctx, "/acme.internal.Secrets/Get", new(healthpb.HealthCheckRequest), new(healthpb.HealthCheckResponse))
	wantStatus(t, err, status.New(codes.Unimplemented, "unknown method"))
}

// 1.55: any channel will do: here one that counts.
func TestAnyChannel(t *testing.T) {
	tunnel := &countingChannel{ClientConnInterface: dial(t, startBackend(t, echo))}
	cc := startProxy(t, grpcproxy.TransparentHandler(to(tunnel)))
	if got, err := ask(t, testContext(t), cc, "through"); got != "through" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if tunnel.calls != 1 {
		t.Errorf("%d calls through the tunnel", tunnel.calls)
	}
}

type countingChannel struct {
	grpc.ClientConnInterface
	calls int
}

func (c *countingChannel) NewStream(ctx context.Context, d *grpc.StreamDesc, m string, o ...grpc.CallOption) (grpc.ClientStream, error) {
	c.calls++
	return c.ClientConnInterface.NewStream(ctx, d, m, o...)
}

// 1.17, 1.18: who owns a frame's bytes.
func TestFrame(t *testing.T) {
	codec := grpcproxy.Codec()
	pool := mem.DefaultBufferPool()
	in := mem.BufferSlice{mem.Copy(bytes.Repeat([]byte("ab"), 4000), pool), mem.Copy([]byte("tail"), pool)}
	var f grpcproxy.Frame
	if err := codec.Unmarshal(in, &f); err != nil {
		t.Fatal(err)
	}
	in.Free() // the frame has its own references
	if f.Len() != 8004 {
		t.Fatalf("%d bytes", f.Len())
	}
	out, err := codec.Marshal(&f)
	if err != nil {
		t.Fatal(err)
	}
	clone := f.Clone()
	f.Free() // what is being sent, and the clone, stay
	f.Free()
	if f.Len() != 0 || len(f.Data()) != 0 {
		t.Error("a freed frame is not empty")
	}
	for name, got := range map[string][]byte{"sent": out.Materialize(), "clone": clone.Data()} {
		if len(got) != 8004 || !bytes.HasSuffix(got, []byte("abtail")) {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
	out.Free()
	clone.Free()

	b, _ := proto.Marshal(&healthpb.HealthCheckRequest{Service: "s"})
	var msg healthpb.HealthCheckRequest
	if err := grpcproxy.FrameOf(b).ParseAs(&msg); err != nil || msg.GetService() != "s" {
		t.Errorf("%v, %v", &msg, err)
	}
	if err := grpcproxy.FrameOf([]byte{0xff}).ParseAs(&msg); err == nil {
		t.Error("garbage was parsed")
	}
	if s := grpcproxy.FrameOf([]byte("secret")).String(); strings.Contains(s, "secret") {
		t.Errorf("%q tells the content", s)
	}
}

// 1.43: a backend's handler changes its errors, and may make one a success.
func TestErrorHandler(t *testing.T) {
	conn := dial(t, startBackend(t, func(grpc.ServerStream) error { return status.Error(codes.NotFound, "gone") }))
	tests := map[string]struct {
		handle func(error) error
		code   codes.Code
	}{
		"none":    {nil, codes.NotFound},
		"swallow": {func(error) error { return nil }, codes.OK},
		"replace": {func(err error) error { return status.Error(codes.DataLoss, status.Convert(err).Message()) }, codes.DataLoss},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := []grpcproxy.Backend{&grpcproxy.ConnBackend{Conn: conn, OnError: tt.handle}}
			cc := startProxy(t, grpcproxy.TransparentHandler(func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
				return grpcproxy.One2One, b, nil
			}))
			_, err := recv(stream(t, testContext(t), cc))
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if status.Code(err) != tt.code {
				t.Errorf("got %v, want %v", err, tt.code)
			}
		})
	}
}

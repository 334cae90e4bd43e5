package grpcproxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/internal/tlstest"
)

func certificate(t *testing.T, p *tlstest.Pair) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.Chain, p.PEM)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func poolOf(p *tlstest.Pair) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Cert)
	return pool
}

// 1.11: a director sees the client's certificate.
func TestDirectorSeesClientCertificate(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	server := certificate(t, ca.Leaf(t, "proxy", tlstest.DNS("proxy.test")))
	ann, bob := certificate(t, ca.Leaf(t, "ann")), certificate(t, ca.Leaf(t, "bob"))
	backend := to(dial(t, startBackend(t, named("for ann"))))
	director := func(ctx context.Context, m string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		p, _ := peer.FromContext(ctx)
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok || len(info.State.VerifiedChains) == 0 {
			return 0, nil, status.Error(codes.Unauthenticated, "no certificate")
		}
		if who := info.State.PeerCertificates[0].Subject.CommonName; who != "ann" {
			return 0, nil, status.Error(codes.PermissionDenied, "not you, "+who)
		}
		return backend(ctx, m)
	}
	addr := serve(t, grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(director)),
		grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{server}, ClientCAs: poolOf(ca), ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12,
		}))))
	for who, tt := range map[string]struct {
		certs []tls.Certificate
		want  codes.Code
	}{
		"ann": {[]tls.Certificate{ann}, codes.OK}, "bob": {[]tls.Certificate{bob}, codes.PermissionDenied}, "nobody": {nil, codes.Unauthenticated},
	} {
		cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			Certificates: tt.certs, RootCAs: poolOf(ca), ServerName: "proxy.test", MinVersion: tls.VersionTLS12,
		})))
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %v", who, err, tt.want)
		}
	}
}

// 1.27: a first message that was looked at, and cannot be sent: the backend's
// own status if it had refused, UNAVAILABLE if it is not there, and the reason
// if it is too long for the connection.
func TestFirstMessageCannotBeSent(t *testing.T) {
	refusing := startBackend(t, func(grpc.ServerStream) error { return status.Error(codes.Unauthenticated, "who?") })
	small := grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(10))
	tests := map[string]struct {
		conn *grpc.ClientConn
		want codes.Code
	}{
		"refused":     {dial(t, refusing), codes.Unauthenticated},
		"unreachable": {dial(t, "127.0.0.1:1"), codes.Unavailable},
		"too long":    {dial(t, startBackend(t, echo), small), codes.ResourceExhausted},
	}
	ok := dial(t, startBackend(t, echo))
	for name, tt := range tests {
		for _, secondaries := range [][]grpcproxy.Destination{nil, {{Conn: ok}}} {
			t.Run(fmt.Sprint(name, len(secondaries)), func(t *testing.T) {
				cc := startProxy(t, grpcproxy.PeekHandler(func(_ context.Context, _ string, p grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
					if _, err := p.Peek(); err != nil {
						return nil, err
					}
					return grpcproxy.NewStreamParameters(grpcproxy.Destination{Conn: tt.conn}, secondaries, nil, nil), nil
				}))
				for range 10 { // the refusal and the message race
					if _, err := ask(t, testContext(t), cc, strings.Repeat("x", 100_000)); status.Code(err) != tt.want {
						t.Fatalf("got %v, want %v", err, tt.want)
					}
				}
			})
		}
	}
}

// 1.28: the client's list of encodings stays with the proxy, also when a
// director copies all metadata.
func TestAcceptEncodingIsTheProxys(t *testing.T) {
	got := make(chan []string, 1)
	conn := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		got <- md["grpc-accept-encoding"]
		return nil
	}))
	clients := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		md["grpc-accept-encoding"] = []string{"snappy,zstd"} // a client that can do more than the proxy
		return next(srv, &contextStream{ss, metadata.NewIncomingContext(ss.Context(), md)})
	}
	for name, out := range map[string]func(context.Context) context.Context{
		"forwarded": nil,
		"copied": func(ctx context.Context) context.Context {
			md, _ := metadata.FromIncomingContext(ctx)
			return metadata.NewOutgoingContext(ctx, md.Copy())
		},
	} {
		cc := startProxy(t, grpcproxy.TransparentHandler(directed(grpcproxy.One2One, &grpcproxy.ConnBackend{Conn: conn, Outgoing: out})),
			grpc.StreamInterceptor(clients))
		if _, err := recv(stream(t, testContext(t), cc)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"gzip"}, <-got); diff != "" {
			t.Errorf("%s: grpc-accept-encoding (-want +got):\n%s", name, diff)
		}
	}
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// odd is a compressor that the server has never heard of.
type odd struct{}

func (odd) Do(w io.Writer, p []byte) error {
	_, err := w.Write(p)
	return err
}
func (odd) Type() string { return "odd" }

// encodings notes those of responses.
type encodings struct{ got chan string }

func (*encodings) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (e *encodings) HandleRPC(_ context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		e.got <- h.Compression
	}
}
func (*encodings) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*encodings) HandleConn(context.Context, stats.ConnStats)                       {}

// 1.30: an encoding that is not registered is UNIMPLEMENTED; one that is, the
// response has, too, whatever the backend does.
func TestEncodings(t *testing.T) {
	addr := serve(t, grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()),
		grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(to(dial(t, startBackend(t, echo)))))))
	_, err := ask(t, testContext(t), dial(t, addr, grpc.WithCompressor(odd{})), "x") //nolint:staticcheck // the others are registered for servers, too
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown encoding: %v", err)
	}
	for _, opts := range [][]grpc.CallOption{nil, {grpc.UseCompressor("gzip")}} {
		e := &encodings{make(chan string, 1)}
		if _, err := ask(t, testContext(t), dial(t, addr, grpc.WithStatsHandler(e)), "x", opts...); err != nil {
			t.Fatal(err)
		}
		if got, want := <-e.got, []string{"", "gzip"}[len(opts)]; got != want {
			t.Errorf("the response's encoding is %q, want %q", got, want)
		}
	}
}

// 1.39: of several errors that are no messages, the call has the first one's
// code and details, and tells of the others.
func TestManyErrorsAreJoined(t *testing.T) {
	all := shards(t, echo, echo)
	for i, s := range all {
		s.fatal, s.connErr = true, status.Error(codes.PermissionDenied, []string{"no a", "no b"}[i])
	}
	_, err := ask(t, testContext(t), manyProxy(t, grpcproxy.One2Many, all), "x")
	m := status.Convert(err).Message()
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(m, "no a") || !strings.Contains(m, "no b") || !strings.Contains(m, "; and ") {
		t.Errorf("got %v", err)
	}
}

// 1.48: a call goes on after its backend's GOAWAY, while grpc-go calls the
// connection idle and the cache sweeps; when it has ended the connection goes.
func TestEvictionSparesDrainingCalls(t *testing.T) {
	s := grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return echo(ss) }))
	addr := serve(t, s)
	f := grpcproxy.NewForwarder(nil, nil, nil)
	defer f.Close()
	f.Cache().WithEviction(20 * time.Millisecond)
	cc := startProxy(t, func(_ any, ss grpc.ServerStream) error {
		m, _ := grpc.MethodFromServerStream(ss)
		return f.Forward(ss.Context(), m, ss, addr, nil, nil)
	})
	cs := stream(t, testContext(t), cc)
	send(t, cs, "1")
	want(t, cs, "1")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.GracefulStop() // GOAWAY
	}()
	for range 4 { // ten sweeps
		if err := pause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send(t, cs, "2")
	want(t, cs, "2")
	_ = cs.CloseSend()
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	<-stopped
	for end := time.Now().Add(longest); f.Cache().Len() != 0; {
		if time.Now().After(end) {
			t.Fatal("the connection is kept")
		}
		if err := pause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// 1.51: connections to backends have the credentials and options of Config, and
// the server its options, which win over ours.
func TestServerConfigApplies(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	cert := certificate(t, ca.Leaf(t, "backend", tlstest.DNS("backend.test")))
	agents := make(chan string, 1)
	addr := serve(t, grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.Creds(credentials.NewServerTLSFromCert(&cert)),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			agents <- md.Get("user-agent")[0]
			return echo(ss)
		})))
	_, cc := startServer(t, &grpcproxy.Config{
		DefaultBackend:        addr,
		BackendTransportCreds: credentials.NewTLS(&tls.Config{RootCAs: poolOf(ca), ServerName: "backend.test", MinVersion: tls.VersionTLS12}),
		BackendDialOptions:    []grpc.DialOption{grpc.WithUserAgent("the-edge")},
		MaxRecvMsgSize:        1000,
		ServerOptions:         []grpc.ServerOption{grpc.MaxRecvMsgSize(5)},
	})
	if got, err := ask(t, testContext(t), cc, "x"); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if a := <-agents; !strings.HasPrefix(a, "the-edge ") {
		t.Errorf("user-agent %q", a)
	}
	if _, err := ask(t, testContext(t), cc, "more than five"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("ServerOptions do not win: %v", err)
	}
}

// silent is a connection that, at some time, brings nothing across.
type silent struct {
	net.Conn
	dead *atomic.Bool
}

func (c *silent) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// 1.51: KeepaliveParams find a backend that is silent.
func TestServerKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		back, front := bufconn.Listen(1<<16), bufconn.Listen(1<<16)
		b := grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return waits(ss) }))
		go func() { _ = b.Serve(back) }()
		s, err := grpcproxy.NewServer(&grpcproxy.Config{
			DefaultBackend: "passthrough:///backend", HeapReserve: -1,
			KeepaliveParams: &keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second},
			BackendDialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := back.DialContext(ctx)
				return &silent{c, &dead}, err
			})},
		})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(context.Background(), front) }()
		cc, err := grpc.NewClient("passthrough:///proxy", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return front.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		cs := stream(t, ctx, cc)
		if _, err := cs.Header(); err != nil {
			t.Fatal(err)
		}
		dead.Store(true)
		start := time.Now()
		if _, err := recv(cs); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > 25*time.Second {
			t.Errorf("it took %v", d)
		}
		_ = cc.Close()
		s.Close()
		<-served
		b.Stop()
	})
}

// accepted is a listener of one connection.
type accepted struct {
	net.Listener
	conn chan net.Conn
	done chan struct{}
}

func (l *accepted) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *accepted) Close() error {
	close(l.done)
	return nil
}

func (*accepted) Addr() net.Addr { return &net.TCPAddr{} }

// 1.55: a reverse tunnel: the backend dials the proxy, and calls go the other
// way over that connection.
func TestReverseTunnel(t *testing.T) {
	hub, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	out, err := net.Dial("tcp", hub.Addr().String()) // the backend has no address of its own
	if err != nil {
		t.Fatal(err)
	}
	b := grpc.NewServer(grpc.ForceServerCodecV2(grpcproxy.Codec()), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return echo(ss) }))
	l := &accepted{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- out
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Serve(l)
	}()
	defer func() {
		b.Stop()
		<-done
	}()
	in, err := hub.Accept()
	if err != nil {
		t.Fatal(err)
	}
	tunnel := dial(t, "passthrough:///tunnel", grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return in, nil }))
	cc := startProxy(t, grpcproxy.TransparentHandler(to(tunnel)))
	for _, m := range []string{"through", "again"} {
		if got, err := ask(t, testContext(t), cc, m); got != m || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
}

package grpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// shard is a backend of a One2Many call: its messages carry its name, and
// errors too, unless fatal.
type shard struct {
	grpcproxy.ConnBackend
	fatal   bool
	connErr error
}

func (s *shard) AppendInfo(_ bool, resp []byte) ([]byte, error) {
	if string(resp) == "poison" {
		return nil, errors.New("cannot append")
	}
	return append(resp, "@"+s.Name+";"...), nil
}

func (s *shard) BuildError(streaming bool, err error) ([]byte, error) {
	if s.fatal {
		return nil, nil
	}
	return fmt.Appendf(nil, "%v:%v@%s;", streaming, status.Code(err), s.Name), nil
}

func (s *shard) Connect(ctx context.Context, m string) (context.Context, grpc.ClientConnInterface, error) {
	if s.connErr != nil {
		return nil, nil, s.connErr
	}
	return s.ConnBackend.Connect(ctx, m)
}

func shards(t *testing.T, handlers ...func(grpc.ServerStream) error) []*shard {
	t.Helper()
	var out []*shard
	for i, h := range handlers {
		out = append(out, &shard{ConnBackend: grpcproxy.ConnBackend{Name: fmt.Sprint(i), Conn: dial(t, startBackend(t, h))}})
	}
	return out
}

func manyProxy(t *testing.T, mode grpcproxy.Mode, all []*shard, opts ...grpcproxy.Option) *grpc.ClientConn {
	t.Helper()
	var backends []grpcproxy.Backend
	for _, s := range all {
		backends = append(backends, s)
	}
	return startProxy(t, grpcproxy.TransparentHandler(func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		return mode, backends, nil
	}, opts...))
}

func streamed(string) bool { return true }

func failing(code codes.Code) func(grpc.ServerStream) error {
	return func(grpc.ServerStream) error { return status.Error(code, "no") }
}

// 1.31, 1.32, 1.35, 1.36, 1.38: unary responses are joined in the order of the
// backends with what AppendInfo adds; errors, of connections too, are
// responses: N1 + N2 = N. Headers and trailers are merged.
func TestManyUnary(t *testing.T) {
	all := shards(t, named("a"), failing(codes.NotFound), echo, named("d"))
	all[3].connErr = status.Error(codes.Unavailable, "backend connection failed")
	cc := manyProxy(t, grpcproxy.One2Many, all)
	ctx := metadata.AppendToOutgoingContext(testContext(t), "say", "hi")
	cs := stream(t, ctx, cc)
	send(t, cs, "x")
	_ = cs.CloseSend()
	want(t, cs, "a@0;false:NotFound@1;x@2;false:Unavailable@3;")
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if md, err := cs.Header(); err != nil || cmp.Diff([]string{"hi"}, md.Get("echo")) != "" {
		t.Errorf("headers %v, %v", md, err)
	}
	if cmp.Diff([]string{"now"}, cs.Trailer().Get("bye")) != "" {
		t.Errorf("trailers %v", cs.Trailer())
	}
}

// 1.32: a backend that answers a unary method with more messages than there
// are backends does not stop the call for ever.
func TestManyUnaryWithSeveralMessages(t *testing.T) {
	cc := manyProxy(t, grpcproxy.One2Many, shards(t, echo))
	cs := stream(t, testContext(t), cc)
	for range 10 {
		send(t, cs, "m")
	}
	_ = cs.CloseSend()
	want(t, cs, strings.Repeat("m@0;", 10))
}

// 1.33, 1.34: messages of streaming methods pass one by one, and those of one
// backend in order; errors in between.
func TestManyStreaming(t *testing.T) {
	all := shards(t, echo, echo, failing(codes.Aborted))
	cc := manyProxy(t, grpcproxy.One2Many, all, grpcproxy.WithStreamedDetector(streamed))
	cs := stream(t, testContext(t), cc)
	for i := range 20 {
		send(t, cs, fmt.Sprint(i))
	}
	_ = cs.CloseSend()
	next := map[string]int{}
	failed := 0
	for {
		m, err := recv(cs)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if m == "true:Aborted@2;" {
			failed++
			continue
		}
		n, from, _ := strings.Cut(m, "@")
		if n != fmt.Sprint(next[from]) {
			t.Fatalf("%q, want number %d", m, next[from])
		}
		next[from]++
	}
	if diff := cmp.Diff(map[string]int{"0;": 20, "1;": 20}, next); diff != "" || failed != 1 {
		t.Errorf("%d errors, messages (-want +got):\n%s", failed, diff)
	}
}

// 1.24 for several backends: headers arrive before any message when all
// backends have sent theirs.
func TestManyHeadersAtOnce(t *testing.T) {
	release := make(chan struct{})
	waiting := func(ss grpc.ServerStream) error {
		_ = ss.SendHeader(metadata.Pairs("early", "yes"))
		<-release
		return nil
	}
	cc := manyProxy(t, grpcproxy.One2Many, shards(t, waiting, waiting), grpcproxy.WithStreamedDetector(streamed))
	cs := stream(t, testContext(t), cc)
	md, err := cs.Header()
	if err != nil || cmp.Diff([]string{"yes", "yes"}, md.Get("early")) != "" {
		t.Errorf("headers %v, %v", md, err)
	}
	close(release)
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// 1.36, 1.39: an error that is no message fails the call with its own code,
// and ends the calls to the others.
func TestManyFatalError(t *testing.T) {
	for _, opts := range [][]grpcproxy.Option{nil, {grpcproxy.WithStreamedDetector(streamed)}} {
		begun, ended := make(chan struct{}), make(chan struct{})
		all := shards(t, func(ss grpc.ServerStream) error {
			<-begun // one that has not the call yet would not get it
			return failing(codes.PermissionDenied)(ss)
		}, func(ss grpc.ServerStream) error {
			close(begun)
			<-ss.Context().Done()
			close(ended)
			return nil
		})
		all[0].fatal = true
		cc := manyProxy(t, grpcproxy.One2Many, all, opts...)
		_, err := recv(stream(t, testContext(t), cc))
		wantStatus(t, err, status.New(codes.PermissionDenied, "no"))
		<-ended
	}
}

// 1.35: an error of AppendInfo is no response.
func TestManyAppendInfoFails(t *testing.T) {
	cc := manyProxy(t, grpcproxy.One2Many, shards(t, named("poison")))
	_, err := ask(t, testContext(t), cc, "x")
	if status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), "cannot append") {
		t.Errorf("got %v", err)
	}

	// The backend's trailers may come any time then: nobody looks at them.
	all := shards(t, func(ss grpc.ServerStream) error {
		ss.SetTrailer(metadata.Pairs("t", "1"))
		if err := ss.SendMsg(grpcproxy.NewFrame([]byte("m"))); err != nil {
			return err
		}
		return pause(ss.Context())
	})
	late := &lateInfo{all[0]}
	cc = startProxy(t, grpcproxy.TransparentHandler(directed(grpcproxy.One2Many, late)))
	cs := stream(t, testContext(t), cc)
	_ = cs.CloseSend()
	if _, err := recv(cs); status.Code(err) != codes.Unknown {
		t.Errorf("late: %v", err)
	}
}

// lateInfo cannot append after some time.
type lateInfo struct{ *shard }

func (lateInfo) AppendInfo(bool, []byte) ([]byte, error) {
	for begin := time.Now(); time.Since(begin) < 150*time.Millisecond; {
		// Waiting in any other way puts what others do in an order with this,
		// as the race detector sees it.
	}
	return nil, errors.New("cannot append")
}

// 1.37: a backend that cannot be connected to yet holds up none of the others,
// and gets what it has missed once it can.
func TestManySlowToConnect(t *testing.T) {
	all := shards(t, echo, echo)
	connected := make(chan struct{})
	all[1].Conn = dial(t, startBackend(t, echo), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		select {
		case <-connected:
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	cs := stream(t, testContext(t), manyProxy(t, grpcproxy.One2Many, all, grpcproxy.WithStreamedDetector(streamed)))
	for range 3 {
		send(t, cs, "x")
		want(t, cs, "x@0;")
	}
	close(connected)
	for range 3 {
		want(t, cs, "x@1;")
	}
	_ = cs.CloseSend()
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// panicky is a backend whose methods panic, or one of them.
type panicky struct {
	*shard
	connect, info, build, handle bool
}

func (p *panicky) Connect(ctx context.Context, m string) (context.Context, grpc.ClientConnInterface, error) {
	if p.connect {
		panic("oh")
	}
	return p.shard.Connect(ctx, m)
}

func (p *panicky) AppendInfo(streaming bool, resp []byte) ([]byte, error) {
	if p.info {
		panic("oh")
	}
	return p.shard.AppendInfo(streaming, resp)
}

func (p *panicky) BuildError(streaming bool, err error) ([]byte, error) {
	if p.build {
		panic("oh")
	}
	return p.shard.BuildError(streaming, err)
}

func (p *panicky) HandleError(err error) error {
	if p.handle {
		panic("oh")
	}
	return err
}

// recovering is an interceptor that makes errors of panics.
var recovering = grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = status.Error(codes.DataLoss, fmt.Sprint(r))
		}
	}()
	return next(srv, ss)
})

// A panic of a backend's method is the handler's in all modes: an interceptor
// that recovers from panics costs the call only, however long others take.
func TestBackendPanics(t *testing.T) {
	hang := func(ss grpc.ServerStream) error {
		<-ss.Context().Done()
		return nil
	}
	for name, p := range map[string]panicky{
		"connect": {connect: true}, "info": {info: true}, "build": {build: true}, "handle": {handle: true},
	} {
		for _, mode := range []grpcproxy.Mode{grpcproxy.One2One, grpcproxy.One2Many, grpcproxy.Replicated} {
			if mode != grpcproxy.One2Many && (p.info || p.build) {
				continue // they are not called
			}
			all := shards(t, hang, failing(codes.NotFound))
			if p.info {
				all = shards(t, hang, named("x"))
			}
			p.shard = all[1]
			backends := []grpcproxy.Backend{all[0], &p}
			if mode == grpcproxy.One2One {
				backends = backends[1:]
			}
			cc := startProxy(t, grpcproxy.TransparentHandler(directed(mode, backends...)), recovering)
			if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), "oh") {
				t.Errorf("%s in mode %d: %v", name, mode, err)
			}
		}
	}
}

// panickyStream is an interceptor's stream whose methods panic, or one of them.
type panickyStream struct {
	grpc.ServerStream
	header, send, recv bool
}

func (s *panickyStream) SendHeader(md metadata.MD) error {
	if s.header {
		panic("oh")
	}
	return s.ServerStream.SendHeader(md)
}

func (s *panickyStream) SendMsg(m any) error {
	if s.send {
		panic("oh")
	}
	return s.ServerStream.SendMsg(m)
}

func (s *panickyStream) RecvMsg(m any) error {
	if s.recv {
		panic("oh")
	}
	return s.ServerStream.RecvMsg(m)
}

// So is a panic of a stream that an interceptor has put in the place of the
// server's, on whatever goroutine it is used.
func TestStreamPanics(t *testing.T) {
	for name, s := range map[string]panickyStream{"header": {header: true}, "send": {send: true}, "recv": {recv: true}} {
		for _, mode := range []grpcproxy.Mode{grpcproxy.One2One, grpcproxy.One2Many, grpcproxy.Replicated} {
			backends := []grpcproxy.Backend{shards(t, echo)[0], shards(t, echo)[0]}
			if mode == grpcproxy.One2One || s.header { // with several a message may go first, and headers with it
				backends = backends[1:]
			}
			h := grpcproxy.TransparentHandler(directed(mode, backends...), grpcproxy.WithStreamedDetector(streamed))
			cc := startProxy(t, h, recovering, grpc.ChainStreamInterceptor(
				func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
					own := s
					own.ServerStream = ss
					return next(srv, &own)
				}))
			cs := stream(t, testContext(t), cc)
			send(t, cs, "x") // it is not the client that ends the call
			if _, err := recv(cs); status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), "oh") {
				t.Errorf("%s in mode %d: %v", name, mode, err)
			}
		}
	}
}

// burst is a channel of whose streams SendMsg panics.
type burst struct{ grpc.ClientConnInterface }

func (c burst) NewStream(ctx context.Context, d *grpc.StreamDesc, m string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	cs, err := c.ClientConnInterface.NewStream(ctx, d, m, opts...)
	return burstStream{cs}, err
}

type burstStream struct{ grpc.ClientStream }

func (burstStream) SendMsg(any) error { panic("oh") }

// And so is one of an interceptor's stream on the backend's side.
func TestBackendStreamPanics(t *testing.T) {
	for _, mode := range allModes {
		all := shards(t, waits, waits)
		all[1].Conn = burst{all[1].Conn}
		backends := []grpcproxy.Backend{all[0], all[1]}
		if mode == grpcproxy.One2One {
			backends = backends[1:]
		}
		recovered := make(chan any, 1)
		cc := startProxy(t, grpcproxy.TransparentHandler(directed(mode, backends...)), grpc.StreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
				defer func() {
					recovered <- recover()
					err = status.Error(codes.Internal, "oh")
				}()
				return next(srv, ss)
			}))
		if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Internal {
			t.Errorf("mode %d: %v", mode, err)
		}
		if r := <-recovered; r == nil || !strings.Contains(fmt.Sprint(r), "oh") {
			t.Errorf("mode %d: the handler panicked with %v", mode, r)
		}
	}
}

// 1.37: when every backend has ended, the client's further messages do not
// matter; nobody at all is UNAVAILABLE.
func TestManyNobodyListens(t *testing.T) {
	cc := manyProxy(t, grpcproxy.One2Many, shards(t, failing(codes.Aborted), failing(codes.Aborted)))
	cs := stream(t, testContext(t), cc)
	for range 100 {
		if err := cs.SendMsg(grpcproxy.NewFrame(make([]byte, 1000))); err != nil {
			break
		}
	}
	want(t, cs, "false:Aborted@0;false:Aborted@1;")

	none := manyProxy(t, grpcproxy.One2Many, nil)
	if _, err := ask(t, testContext(t), none, ""); status.Code(err) != codes.Unavailable {
		t.Errorf("no backends: %v", err)
	}
}

// 1.37, 1.44: a backend that does not read holds up the client when its queue
// is full, and not before; the other has got everything until then.
func TestManySlowBackend(t *testing.T) {
	release := make(chan struct{})
	var got atomic.Int64
	slow := func(ss grpc.ServerStream) error {
		<-release
		return drain(ss)
	}
	fast := func(ss grpc.ServerStream) error {
		for {
			if _, err := recv(ss); err != nil {
				return nil
			}
			got.Add(1)
		}
	}
	cc := manyProxy(t, grpcproxy.One2Many, shards(t, slow, fast), grpcproxy.WithQueue(4))
	cs := stream(t, testContext(t), cc)
	sent := make(chan struct{})
	const total = 400
	go func() {
		defer close(sent)
		for range total { // far more than the windows of flow control and the queue
			if cs.SendMsg(grpcproxy.NewFrame(make([]byte, 32<<10))) != nil {
				return
			}
		}
		_ = cs.CloseSend()
	}()
	// The fast one stops getting messages because the slow one's queue is full.
	last := int64(-1)
	for now := got.Load(); now != last || now == 0; now = got.Load() {
		last = now
		if err := pause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if last == total {
		t.Error("nothing bounds what waits for the slow backend")
	}
	close(release)
	<-sent
	if _, err := recv(cs); err != nil {
		t.Errorf("after it went on: %v", err)
	}
	if got.Load() != total {
		t.Errorf("the fast backend got %d messages of %d", got.Load(), total)
	}
}

// 1.38: the client's cancellation ends all calls, and is what the call says.
func TestManyClientGoes(t *testing.T) {
	ended := make(chan struct{}, 2)
	waits := func(ss grpc.ServerStream) error {
		_ = ss.SendHeader(metadata.Pairs("here", "1"))
		<-ss.Context().Done()
		ended <- struct{}{}
		return nil
	}
	for _, mode := range []grpcproxy.Mode{grpcproxy.One2Many, grpcproxy.Replicated} {
		cc := manyProxy(t, mode, shards(t, waits, waits))
		ctx, cancel := context.WithCancel(testContext(t))
		cs := stream(t, ctx, cc)
		if _, err := cs.Header(); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-ended
		<-ended
	}
}

// 1.32: with the descriptor, what is no such message is an error that names
// the backend, and the result has each field once.
func TestMergeByDescriptor(t *testing.T) {
	merge := grpcproxy.MergeByDescriptor(protoregistry.GlobalFiles)
	const check = "/grpc.health.v1.Health/Check"
	message := func(s healthpb.HealthCheckResponse_ServingStatus) []byte {
		b, err := proto.Marshal(&healthpb.HealthCheckResponse{Status: s})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := grpcproxy.Response{Backend: &grpcproxy.ConnBackend{Name: "a"}, Messages: [][]byte{message(1)}}
	b, err := merge(check, []grpcproxy.Response{first, {Messages: [][]byte{message(2)}}})
	if err != nil || !slices.Equal(b, message(2)) {
		t.Errorf("%x, %v", b, err)
	}
	first.Messages[0] = []byte{0xff}
	if _, err := merge(check, []grpcproxy.Response{first}); err == nil || !strings.Contains(err.Error(), "a: not a grpc.health.v1.HealthCheckResponse") {
		t.Errorf("garbage: %v", err)
	}
	for _, m := range []string{"/no.Such/Method", "/grpc.health.v1.Health"} {
		if _, err := merge(m, nil); err == nil {
			t.Errorf("%s has a descriptor", m)
		}
	}
}

// 1.32: a merger of one's own, and its error.
func TestWithMerger(t *testing.T) {
	merge := func(_ string, rs []grpcproxy.Response) ([]byte, error) {
		if len(rs) != 2 {
			return nil, status.Error(codes.DataLoss, "quorum")
		}
		return fmt.Append(nil, len(rs[0].Messages)+len(rs[1].Messages)), nil
	}
	two := manyProxy(t, grpcproxy.One2Many, shards(t, echo, echo), grpcproxy.WithMerger(merge))
	if got, err := ask(t, testContext(t), two, "x"); got != "2" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	one := manyProxy(t, grpcproxy.One2Many, shards(t, echo), grpcproxy.WithMerger(merge))
	if _, err := ask(t, testContext(t), one, "x"); status.Code(err) != codes.DataLoss {
		t.Errorf("got %v", err)
	}
}

// 1.40: all get the request, the client the primary's response; an error of a
// secondary fails the call, unless its handler swallows it.
func TestReplicated(t *testing.T) {
	var secondary atomic.Int64
	counting := func(ss grpc.ServerStream) error {
		secondary.Add(1)
		return echo(ss)
	}
	good := manyProxy(t, grpcproxy.Replicated, shards(t, echo, counting, counting))
	if got, err := ask(t, testContext(t), good, "x"); got != "x" || err != nil || secondary.Load() != 2 {
		t.Errorf("%q, %v, %d secondaries", got, err, secondary.Load())
	}
	all := shards(t, func(ss grpc.ServerStream) error {
		_ = echo(ss)
		<-ss.Context().Done() // the primary never ends by itself
		return nil
	}, failing(codes.Aborted))
	_, err := ask(t, testContext(t), manyProxy(t, grpcproxy.Replicated, all), "x")
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "secondary 1: no") {
		t.Errorf("got %v", err)
	}
	all = shards(t, echo, failing(codes.Aborted))
	all[1].OnError = func(error) error { return nil }
	if got, err := ask(t, testContext(t), manyProxy(t, grpcproxy.Replicated, all), "x"); got != "x" || err != nil {
		t.Errorf("swallowed: %q, %v", got, err)
	}
	all = shards(t, failing(codes.NotFound), echo)
	_, err = ask(t, testContext(t), manyProxy(t, grpcproxy.Replicated, all), "x")
	wantStatus(t, err, status.New(codes.NotFound, "no"))
}

// 1.40, 1.43: a destination whose error is swallowed is left out, also if it
// cannot be reached; the others get all.
func TestReplicatedWithoutOne(t *testing.T) {
	swallow := func(error) error { return nil }
	for name, tt := range map[string]struct {
		out  grpc.ClientConnInterface
		at   int
		want string
	}{
		"secondary unreachable": {unreachable{}, 1, "for 0"},
		"primary unreachable":   {unreachable{}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			alive := make(chan string, 3)
			noting := func(ss grpc.ServerStream) error {
				m, err := recv(ss)
				if err != nil {
					return err
				}
				alive <- m
				if err := ss.SendMsg(grpcproxy.NewFrame([]byte(m))); err != nil {
					return err
				}
				return drain(ss)
			}
			var dests []grpcproxy.Destination
			for i, s := range shards(t, noting, noting, noting) {
				dests = append(dests, grpcproxy.Destination{Conn: s.Conn, Msg: fmt.Append(nil, "for ", i), ErrHandler: swallow})
			}
			dests[tt.at].Conn = tt.out
			cc := startProxy(t, grpcproxy.PeekHandler(func(context.Context, string, grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
				return grpcproxy.NewStreamParameters(dests[0], dests[1:], nil, nil), nil
			}))
			cs := stream(t, testContext(t), cc)
			send(t, cs, "x")
			_ = cs.CloseSend()
			if tt.want != "" {
				want(t, cs, tt.want)
			}
			if _, err := recv(cs); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if len(alive) != 2 {
				t.Errorf("%d destinations got the call, want 2", len(alive))
			}
		})
	}
}

// unreachable is a channel that makes no calls.
type unreachable struct{ grpc.ClientConnInterface }

func (unreachable) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unavailable, "gone")
}

// narrow is a channel whose messages have at most one byte.
type narrow struct{ grpc.ClientConnInterface }

func (n narrow) NewStream(ctx context.Context, d *grpc.StreamDesc, m string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return n.ClientConnInterface.NewStream(ctx, d, m, append(opts[:len(opts):len(opts)], grpc.MaxCallSendMsgSize(1))...)
}

// 1.8, 1.59: the option decides the mode over the director.
func TestWithMode(t *testing.T) {
	cc := manyProxy(t, grpcproxy.One2One, shards(t, named("a"), named("b")), grpcproxy.WithMode(grpcproxy.One2Many))
	if got, err := ask(t, testContext(t), cc, "x"); got != "a@0;b@1;" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, mode := range []grpcproxy.Mode{grpcproxy.One2One, 99} {
		cc := manyProxy(t, mode, shards(t, echo, echo))
		if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Internal {
			t.Errorf("mode %d with two backends: %v", mode, err)
		}
	}
}

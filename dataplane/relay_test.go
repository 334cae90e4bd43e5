//go:build unix

package dataplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/test/echo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// patience bounds what a test waits for on a loaded machine.
const patience = 30 * time.Second

// host is an upstream host, and the BackendSet and Director that always choose
// it.
type host struct {
	target  call.Target
	retired atomic.Bool
	done    atomic.Int64
}

func (h *host) Target() *call.Target                     { return &h.target }
func (h *host) Retired() bool                            { return h.retired.Load() }
func (h *host) Pick(*call.Call, int) (call.Host, error)  { return h, nil }
func (h *host) Done(call.Host, *call.Outcome)            { h.done.Add(1) }
func (h *host) Direct(*call.Call) (call.Decision, error) { return call.Decision{Backends: h}, nil }

// backend is an echo server that is stopped when the test ends.
func backend(t *testing.T, s *echo.Server) (*host, *grpc.Server) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, stop := echo.Start(ln, s)
	t.Cleanup(stop)
	return &host{target: call.Target{Network: "tcp", Address: ln.Addr().String(), Options: &call.UpstreamOptions{}}}, srv
}

// version is a listener with one chain, bound to the first address that s has
// for it, and to a port of the system's choice at first.
func version(t *testing.T, key uint64, d call.Director) *listener.Listener {
	t.Helper()
	return withChains(t, "a", []string{"127.0.0.1:0"}, &listener.Chain{Key: key, Manager: &call.Manager{Director: d}})
}

// client is a gRPC client of the only listener of s.
func client(t *testing.T, s *Server) echo.EchoClient {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+s.Listeners()[0].Addresses[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return echo.NewEchoClient(cc)
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// say makes a unary call and returns the instance that answered.
func say(t *testing.T, c echo.EchoClient) string {
	t.Helper()
	r, err := c.Say(testContext(t), &echo.SayRequest{Text: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetInstance()
}

// chat opens a bidi stream; each call of the result is one message there and
// back and returns the instance that answered.
func chat(t *testing.T, c echo.EchoClient) (st grpc.BidiStreamingClient[echo.SayRequest, echo.SayResponse], ping func() string) {
	t.Helper()
	st, err := c.Chat(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return st, func() string {
		t.Helper()
		if err := st.Send(&echo.SayRequest{Text: "ping"}); err != nil {
			t.Fatal(err)
		}
		r, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return r.GetInstance()
	}
}

// finish half-closes and waits for the stream's OK.
func finish(t *testing.T, st grpc.BidiStreamingClient[echo.SayRequest, echo.SayResponse]) {
	t.Helper()
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("end of the stream: %v", err)
	}
}

// hostless is a set, and its Director, that has neither a host nor an error.
type hostless struct{ host }

func (h *hostless) Pick(*call.Call, int) (call.Host, error)  { return nil, nil } //nolint:nilnil // what is tested
func (h *hostless) Direct(*call.Call) (call.Decision, error) { return call.Decision{Backends: h}, nil }

// A backend set without a host and without an error costs the call, and no more.
func TestNoHost(t *testing.T) {
	s := newServer(t)
	mustServe(t, s, version(t, 1, &hostless{}))
	c := client(t, s)
	if _, err := c.Say(testContext(t), &echo.SayRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("%v, want UNAVAILABLE", err)
	}
}

// TestRefusedOnRoute: a director that refuses a call may say what its route does
// to responses.
func TestRefusedOnRoute(t *testing.T) {
	rt := &call.Route{ResponseOps: []call.HeaderOp{{Action: call.HeaderOverwrite, Field: hpack.NewField("x-route", "r"), Next: true}}}
	c := filtered(t, directorFunc(func(*call.Call) (call.Decision, error) {
		return call.Decision{Route: rt}, call.ReplyNoCluster
	}), nil)
	var trailer metadata.MD
	_, err := c.Say(testContext(t), &echo.SayRequest{}, grpc.Trailer(&trailer))
	if status.Code(err) != codes.Unavailable || len(trailer.Get("x-route")) != 1 {
		t.Errorf("got %v, %v", err, trailer)
	}
}

// Every kind of call, with grpc-go on both sides and real sockets between.
func TestCalls(t *testing.T) {
	started, gone := make(chan struct{}, 1), make(chan struct{})
	var once sync.Once
	h, _ := backend(t, &echo.Server{Instance: "one", OnCall: func(ctx context.Context, method string) {
		if method == echo.Echo_Count_FullMethodName {
			context.AfterFunc(ctx, func() { once.Do(func() { close(gone) }) })
			select {
			case started <- struct{}{}:
			default:
			}
		}
	}})
	s := newServer(t)
	mustServe(t, s, version(t, 1, h))
	c := client(t, s)

	t.Run("unary", func(t *testing.T) {
		for _, n := range []int{0, 100, 64 << 10, 3 << 20} {
			want := bytes.Repeat([]byte("x"), n)
			r, err := c.Say(testContext(t), &echo.SayRequest{Payload: want})
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if !bytes.Equal(r.GetPayload(), want) || r.GetInstance() != "one" {
				t.Fatalf("%d bytes: got %d from %q", n, len(r.GetPayload()), r.GetInstance())
			}
		}
	})
	t.Run("status", func(t *testing.T) {
		_, err := c.Say(testContext(t), &echo.SayRequest{FailWith: uint32(codes.FailedPrecondition), Text: "ä%\n"})
		if got := status.Convert(err); got.Code() != codes.FailedPrecondition || got.Message() != `as requested by "ä%\n"` {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				if _, err := c.Say(testContext(t), &echo.SayRequest{Payload: make([]byte, 10_000)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("bidi", func(t *testing.T) {
		st, ping := chat(t, c)
		for range 100 {
			ping()
		}
		finish(t, st)
	})
	t.Run("client stream", func(t *testing.T) {
		st, err := c.Collect(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := st.Send(&echo.SayRequest{Payload: make([]byte, 20_000)}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := st.CloseAndRecv()
		if err != nil || r.GetMessages() != 100 || r.GetBytes() != 2_000_000 {
			t.Fatalf("got %v, %v", r, err)
		}
	})
	t.Run("server stream, cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		st, err := c.Count(ctx, &echo.CountRequest{Times: 1 << 30, EveryMs: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := st.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		select {
		case <-gone: // the backend learnt of it
		case <-testContext(t).Done():
			t.Fatal("the backend's call was not cancelled")
		}
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_, err := c.Say(ctx, &echo.SayRequest{DelayMs: uint32(patience.Milliseconds())})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("got %v", err)
		}
	})
}

// A changed Manager serves the next call of a connection that stays; a call in
// progress keeps its backend.
func TestUpdateDrainsNothing(t *testing.T) {
	one, _ := backend(t, &echo.Server{Instance: "one"})
	two, _ := backend(t, &echo.Server{Instance: "two"})
	s := newServer(t)
	mustServe(t, s, version(t, 1, one))
	c := client(t, s)
	st, ping := chat(t, c)
	if got := ping(); got != "one" {
		t.Fatalf("stream went to %q", got)
	}
	mustServe(t, s, version(t, 1, two))
	if got := say(t, c); got != "two" {
		t.Errorf("a call after the update went to %q", got)
	}
	if got := ping(); got != "one" {
		t.Errorf("the stream moved to %q", got)
	}
	finish(t, st)
	if got := s.connID.Load(); got != 1 {
		t.Errorf("the client needed %d connections, want 1", got)
	}
}

// A chain whose key is gone: its connections drain, their calls end in peace,
// and new connections get the new chain.
func TestGoneChainDrains(t *testing.T) {
	one, _ := backend(t, &echo.Server{Instance: "one"})
	two, _ := backend(t, &echo.Server{Instance: "two"})
	s := newServer(t)
	mustServe(t, s, version(t, 1, one))
	c := client(t, s)
	st, ping := chat(t, c)
	ping()
	mustServe(t, s, version(t, 2, two))
	deadline := time.Now().Add(patience)
	for say(t, c) != "two" { // until the client has seen GOAWAY
		if time.Now().After(deadline) {
			t.Fatal("the connection did not drain")
		}
	}
	if got := ping(); got != "one" {
		t.Errorf("the stream moved to %q", got)
	}
	finish(t, st)
	if got := s.connID.Load(); got != 2 {
		t.Errorf("the client needed %d connections, want 2", got)
	}
}

// A removed listener refuses clients; the call it carries ends in peace.
func TestRemoveDrains(t *testing.T) {
	h, _ := backend(t, &echo.Server{Instance: "one"})
	s := newServer(t)
	addr := freeAddress(t) // which nobody else is given when it is free again
	mustServe(t, s, withChains(t, "a", []string{addr}, &listener.Chain{Key: 1, Manager: &call.Manager{Director: h}}))
	st, ping := chat(t, client(t, s))
	ping()
	s.Remove("a")
	s.accepting.Wait()
	if nc, err := net.Dial("tcp", addr); err == nil {
		_ = nc.Close()
		t.Error("a removed listener accepts")
	}
	for range 10 {
		ping()
	}
	finish(t, st)
}

// A backend that leaves: its calls end in peace, calls that come meanwhile go
// to the next one, and none is lost.
func TestBackendLeaves(t *testing.T) {
	one, srv := backend(t, &echo.Server{Instance: "one"})
	two, _ := backend(t, &echo.Server{Instance: "two"})
	s := newServer(t)
	mustServe(t, s, version(t, 1, one))
	c := client(t, s)
	st, ping := chat(t, c)
	ping()

	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Say(testContext(t), &echo.SayRequest{}); err != nil {
					t.Errorf("call lost: %v", err)
					return
				}
			}
		})
	}
	mustServe(t, s, version(t, 1, two))
	one.retired.Store(true)
	s.Sweep()
	wg.Go(srv.GracefulStop)
	ping()
	finish(t, st)
	close(stop)
	wg.Wait() // GracefulStop came back too
	if got := say(t, c); got != "two" {
		t.Errorf("went to %q", got)
	}
}

// Shutdown waits for calls, and not for ever.
func TestShutdown(t *testing.T) {
	entered := make(chan struct{}, 2)
	h, _ := backend(t, &echo.Server{Instance: "one", OnCall: func(context.Context, string) { entered <- struct{}{} }})
	for name, tt := range map[string]struct {
		delay time.Duration
		ctx   time.Duration
		want  codes.Code
	}{
		"call ends in time": {300 * time.Millisecond, patience, codes.OK},
		"call is cut":       {patience, 300 * time.Millisecond, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			mustServe(t, s, version(t, 1, h))
			c := client(t, s)
			got := make(chan error, 1)
			go func() {
				_, err := c.Say(testContext(t), &echo.SayRequest{DelayMs: uint32(tt.delay.Milliseconds())})
				got <- err
			}()
			<-entered
			ctx, cancel := context.WithTimeout(context.Background(), tt.ctx)
			defer cancel()
			if err := s.Shutdown(ctx); (err == nil) != (tt.want == codes.OK) {
				t.Errorf("Shutdown: %v", err)
			}
			if err := <-got; status.Code(err) != tt.want {
				t.Errorf("the call: %v; want %v", err, tt.want)
			}
			if err := s.Serve(version(t, 1, h)); !errors.Is(err, errClosed) {
				t.Errorf("Serve after Shutdown: %v", err)
			}
		})
	}
}

// Shutdown tells every connection first and goes on accepting: who comes
// meanwhile is served, and told to leave before the end.
func TestShutdownAccepts(t *testing.T) {
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	var first atomic.Bool
	h, _ := backend(t, &echo.Server{OnCall: func(context.Context, string) {
		entered <- struct{}{}
		if first.CompareAndSwap(false, true) {
			<-leave
		}
	}})
	s, err := New(Options{ShutdownAccept: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	mustServe(t, s, withChains(t, "a", []string{address}, &listener.Chain{Key: 1, Manager: &call.Manager{Director: h}}))
	early, late := client(t, s), client(t, s)
	slow := make(chan error, 1)
	go func() {
		_, err := early.Say(testContext(t), &echo.SayRequest{})
		slow <- err
	}()
	<-entered
	silent, err := net.Dial("tcp", address) // has not spoken when it begins
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually(t, "both connections have a worker", func() bool { return s.group.Connections() == 2 })
	down := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	begin := time.Now()
	go func() { down <- s.Shutdown(ctx) }() // as there is a call, it accepts for maxAccept

	// SETTINGS, WINDOW_UPDATE, GOAWAY(2^31-1).
	_ = silent.SetDeadline(time.Now().Add(patience))
	goAway := []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff}
	for got, b := []byte(nil), make([]byte, 1000); !bytes.Contains(got, goAway); {
		n, err := silent.Read(b)
		if err != nil {
			t.Fatalf("no GOAWAY: %v", err)
		}
		got = append(got, b[:n]...)
	}
	if _, err := late.Say(testContext(t), &echo.SayRequest{}); err != nil && time.Since(begin) < maxAccept {
		t.Errorf("a client that came during the shutdown: %v", err)
	}
	close(leave)
	if err := <-slow; err != nil {
		t.Errorf("the call in progress: %v", err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if canConnect(address) {
		t.Error("the address accepts after the shutdown")
	}
}

// An address accepts for its time although nobody is there.
func TestShutdownAcceptsAlone(t *testing.T) {
	// On a busy machine the time may be over before the client comes.
	for accept := 200 * time.Millisecond; !acceptsAlone(t, accept); accept *= 2 {
		if accept > patience {
			t.Fatalf("%v are not enough", accept)
		}
	}
}

// acceptsAlone reports false if the client came too late.
func acceptsAlone(t *testing.T, accept time.Duration) (inTime bool) {
	t.Helper()
	h, _ := backend(t, &echo.Server{})
	s, err := New(Options{ShutdownAccept: accept})
	if err != nil {
		t.Fatal(err)
	}
	mustServe(t, s, version(t, 1, h))
	c := client(t, s)
	down := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	begin := time.Now()
	go func() { down <- s.Shutdown(ctx) }()
	eventually(t, "the shutdown begins", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.closed
	})
	_, err = c.Say(testContext(t), &echo.SayRequest{})
	if inTime = err == nil || time.Since(begin) < accept; inTime && err != nil {
		t.Errorf("a client that came during the shutdown: %v", err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	return inTime
}

package grpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

var allModes = []grpcproxy.Mode{grpcproxy.One2One, grpcproxy.One2Many, grpcproxy.Replicated}

// watched returns h and a channel that gets what each call of it returned.
func watched(h grpc.StreamHandler) (grpc.StreamHandler, <-chan error) {
	ended := make(chan error, 1)
	return func(srv any, ss grpc.ServerStream) error {
		err := h(srv, ss)
		ended <- err
		return err
	}, ended
}

func directed(mode grpcproxy.Mode, backends ...grpcproxy.Backend) grpcproxy.StreamDirector {
	return func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) { return mode, backends, nil }
}

// flood sends until it cannot.
func flood(ss grpc.ServerStream) error {
	for {
		if err := ss.SendMsg(grpcproxy.NewFrame(make([]byte, 32<<10))); err != nil {
			return err
		}
	}
}

// waits sends headers and then nothing.
func waits(ss grpc.ServerStream) error {
	_ = ss.SendHeader(metadata.Pairs("here", "1"))
	<-ss.Context().Done()
	return nil
}

// 1.7, 1.21: the call ends with the client's, although the context that the
// director made knows nothing of it, or not of its end.
func TestContextNotDerived(t *testing.T) {
	contexts := map[string]func(context.Context) context.Context{
		"background": func(context.Context) context.Context { return context.Background() },
		"detached":   context.WithoutCancel,
		"deadline": func(context.Context) context.Context {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			t.Cleanup(cancel)
			return ctx
		},
	}
	for name, outgoing := range contexts {
		for _, mode := range allModes {
			t.Run(fmt.Sprint(name, mode), func(t *testing.T) {
				ended := make(chan error, 1)
				conn := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
					err := waits(ss)
					ended <- err
					return err
				}))
				h, handled := watched(grpcproxy.TransparentHandler(directed(mode, &grpcproxy.ConnBackend{Conn: conn, Outgoing: outgoing})))
				cc := startProxy(t, h)
				ctx, cancel := context.WithCancel(testContext(t))
				cs := stream(t, ctx, cc)
				if mode != grpcproxy.One2Many {
					if _, err := cs.Header(); err != nil {
						t.Fatal(err)
					}
				}
				cancel()
				if err := <-handled; status.Code(err) != codes.Canceled {
					t.Errorf("the handler returned %v", err)
				}
				if mode != grpcproxy.One2Many {
					<-ended
				}
			})
		}
	}
}

// 1.7: a director that forgets the context is told so.
func TestNilContext(t *testing.T) {
	conn := dial(t, startBackend(t, echo))
	cc := startProxy(t, grpcproxy.TransparentHandler(directed(grpcproxy.One2One,
		&grpcproxy.ConnBackend{Conn: conn, Outgoing: func(context.Context) context.Context { return nil }})))
	if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	for _, mode := range allModes {
		cc := startProxy(t, grpcproxy.TransparentHandler(directed(mode, nil)))
		if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Internal {
			t.Errorf("mode %d, a nil backend: %v", mode, err)
		}
	}
	cc = startProxy(t, grpcproxy.PeekHandler(func(context.Context, string, grpcproxy.StreamPeeker) (*grpcproxy.StreamParameters, error) {
		return nil, nil //nolint:nilnil // what is tested
	}))
	if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Internal {
		t.Errorf("no parameters: %v", err)
	}
}

// 1.23, 1.44: a client that neither reads nor goes does not keep the handler
// of a call that has failed: here a message that may not be sent on.
func TestClientDoesNotRead(t *testing.T) {
	for _, mode := range allModes {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			full := make(chan struct{})
			var sent atomic.Int64
			backends := []grpcproxy.Backend{}
			for _, h := range []func(grpc.ServerStream) error{func(ss grpc.ServerStream) error {
				for {
					if err := ss.SendMsg(grpcproxy.NewFrame(make([]byte, 32<<10))); err != nil {
						return err
					}
					if sent.Add(1) == 4 {
						close(full)
					}
				}
			}, waits} {
				conn := dial(t, startBackend(t, h), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64)))
				backends = append(backends, &grpcproxy.ConnBackend{Conn: conn})
			}
			if mode == grpcproxy.One2One {
				backends = backends[:1]
			}
			h, handled := watched(grpcproxy.TransparentHandler(directed(mode, backends...), grpcproxy.WithStreamedDetector(streamed)))
			cc := startProxy(t, h)
			cs := stream(t, testContext(t), cc)
			<-full
			if err := pause(t.Context()); err != nil { // until all windows are full
				t.Fatal(err)
			}
			send(t, cs, string(make([]byte, 4096)))
			if err := <-handled; status.Code(err) != codes.ResourceExhausted {
				t.Errorf("the handler returned %v", err)
			}
			var err error
			for err == nil {
				_, err = recv(cs)
			}
			if status.Code(err) != codes.ResourceExhausted {
				t.Errorf("the client, when it reads: %v", err)
			}
		})
	}
}

// refusing is a stream of an interceptor that fails without the transport.
type refusing struct {
	grpc.ServerStream
	sending bool
}

var errRefused = errors.New("refused")

// RecvMsg implements grpc.ServerStream.
func (s refusing) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil || s.sending {
		return err
	}
	return errRefused
}

// SendMsg implements grpc.ServerStream.
func (s refusing) SendMsg(m any) error {
	if s.sending {
		return errRefused
	}
	return s.ServerStream.SendMsg(m)
}

// 1.10, 1.23: what a failed call's handler returns is the interceptors' to
// change before the client is told: when the stream of one fails, to receive or
// to send, and when a message may not be sent on.
func TestInterceptorsHaveTheLastWord(t *testing.T) {
	backend := startBackend(t, echo)
	last := grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		inner := ss
		md, _ := metadata.FromIncomingContext(ss.Context())
		if v := md.Get("refuse"); len(v) > 0 {
			inner = refusing{ServerStream: ss, sending: v[0] == "sending"}
		}
		if err := h(srv, inner); !errors.Is(err, errRefused) && status.Code(err) != codes.ResourceExhausted {
			return fmt.Errorf("the handler returned %w", err)
		}
		ss.SetTrailer(metadata.Pairs("late", "1"))
		return status.Error(codes.OutOfRange, "changed")
	})
	for _, mode := range allModes {
		for _, refuse := range []string{"receiving", "receiving typed", "sending", ""} {
			t.Run(fmt.Sprint(mode, refuse), func(t *testing.T) {
				limit := 1 << 20
				if refuse == "" {
					limit = 2
				}
				conn := dial(t, backend, grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(limit)))
				h := grpcproxy.TransparentHandler(directed(mode, &grpcproxy.ConnBackend{Conn: conn}), grpcproxy.WithStreamedDetector(streamed))
				cc := startProxy(t, func(srv any, ss grpc.ServerStream) error {
					if refuse == "receiving typed" { // as a method of generated code has it
						ss = &grpc.GenericServerStream[grpcproxy.Frame, grpcproxy.Frame]{ServerStream: ss}
					}
					return h(srv, ss)
				}, last)
				ctx := testContext(t)
				if refuse != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, "refuse", refuse)
				}
				cs := stream(t, ctx, cc)
				send(t, cs, "long")
				_, err := recv(cs)
				wantStatus(t, err, status.New(codes.OutOfRange, "changed"))
				if got := cs.Trailer().Get("late"); len(got) != 1 {
					t.Errorf("the interceptor's trailer: %q", got)
				}
			})
		}
	}
}

// 1.36, 1.40: an error of one backend ends the call while another's messages
// wait for a client that does not read.
func TestClientDoesNotReadAndBackendFails(t *testing.T) {
	for _, mode := range allModes[1:] {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			fail := make(chan struct{})
			all := shards(t, flood, func(ss grpc.ServerStream) error {
				<-fail
				return status.Error(codes.DataLoss, "no")
			})
			all[1].fatal = true
			h, handled := watched(grpcproxy.TransparentHandler(directed(mode, &all[0].ConnBackend, all[1]), grpcproxy.WithStreamedDetector(streamed)))
			cs := stream(t, testContext(t), startProxy(t, h))
			if _, err := cs.Header(); err != nil {
				t.Fatal(err)
			}
			if err := pause(t.Context()); err != nil { // until all windows are full
				t.Fatal(err)
			}
			close(fail)
			if err := <-handled; status.Code(err) != map[grpcproxy.Mode]codes.Code{
				grpcproxy.One2Many: codes.DataLoss, grpcproxy.Replicated: codes.Internal}[mode] {
				t.Errorf("the handler returned %v", err)
			}
		})
	}
}

// connecting is a backend whose connection takes as long as the call.
type connecting struct {
	grpcproxy.ConnBackend
	begun chan struct{}
	asked atomic.Int64
}

func (c *connecting) Connect(ctx context.Context, _ string) (context.Context, grpc.ClientConnInterface, error) {
	close(c.begun)
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func (c *connecting) HandleError(error) error {
	c.asked.Add(1)
	return status.Error(codes.DataLoss, "the handler was asked")
}

// 1.23, 1.43: that the client goes while a backend is connected to is not the
// backend's error.
func TestClientGoesWhileConnecting(t *testing.T) {
	for _, mode := range allModes {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			slow := &connecting{begun: make(chan struct{})}
			backends := []grpcproxy.Backend{slow}
			if mode == grpcproxy.Replicated {
				ready := dial(t, startBackend(t, waits))
				ready.Connect()
				for s := ready.GetState(); s != connectivity.Ready; s = ready.GetState() {
					ready.WaitForStateChange(testContext(t), s)
				}
				backends = []grpcproxy.Backend{&grpcproxy.ConnBackend{Conn: ready}, slow}
			}
			h, handled := watched(grpcproxy.TransparentHandler(directed(mode, backends...)))
			cc := startProxy(t, h)
			ctx, cancel := context.WithCancel(testContext(t))
			stream(t, ctx, cc)
			<-slow.begun
			cancel()
			if err := <-handled; status.Code(err) != codes.Canceled {
				t.Errorf("the handler returned %v", err)
			}
			if n := slow.asked.Load(); n != 0 {
				t.Errorf("HandleError was asked %d times", n)
			}
		})
	}
}

// counting is a buffer pool that counts.
type counting struct{ out atomic.Int64 }

func (p *counting) Get(n int) *[]byte {
	p.out.Add(1)
	b := make([]byte, n)
	return &b
}

func (p *counting) Put(*[]byte) { p.out.Add(-1) }

// settled waits until all buffers have come back, some of them from goroutines
// that nobody waits for.
func (p *counting) settled(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(longest); time.Now().Before(end); {
		if p.out.Load() == 0 {
			return
		}
		if err := pause(t.Context()); err != nil {
			break
		}
	}
	t.Errorf("%d buffers were not given back", p.out.Load())
}

// 1.18, 1.37: messages in the queue of a backend that refuses, or whose call
// ends, are given up.
func TestQueuedFramesAreFreed(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprint(leaves), func(t *testing.T) {
			release := make(chan struct{})
			var got atomic.Int64
			count := func(ss grpc.ServerStream) error {
				for {
					if _, err := recv(ss); errors.Is(err, io.EOF) {
						return nil
					} else if err != nil {
						return err
					}
					got.Add(1)
				}
			}
			refuse := func(ss grpc.ServerStream) error {
				select {
				case <-release:
				case <-ss.Context().Done():
				}
				return status.Error(codes.Aborted, "no")
			}
			all := shards(t, count, refuse)
			pool := new(counting)
			h, handled := watched(grpcproxy.TransparentHandler(directed(grpcproxy.One2Many, all[0], all[1])))
			cc := startProxy(t, h, experimental.BufferPool(pool))
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			cs := stream(t, ctx, cc)
			const n = 15 // more than a window, less than the queue and that
			for range n {
				send(t, cs, string(make([]byte, 60<<10)))
			}
			_ = cs.CloseSend()
			for got.Load() < n {
				if err := pause(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if leaves {
				cancel()
			} else {
				close(release)
				if m, err := recv(cs); err != nil {
					t.Error(m, err)
				}
			}
			<-handled
			pool.settled(t)
		})
	}
}

// 1.24, 1.38: headers go when the last backend that could add some has none,
// and when it could not be reached and its error does not count.
func TestManyHeadersWithoutTheLast(t *testing.T) {
	for _, last := range []string{"none", "dead"} {
		t.Run(last, func(t *testing.T) {
			release := make(chan struct{})
			early := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
				_ = ss.SendHeader(metadata.Pairs("early", "yes"))
				<-release
				return nil
			}))
			conn := dial(t, "127.0.0.1:1")
			if last == "none" {
				conn = dial(t, startBackend(t, func(grpc.ServerStream) error { return pause(context.Background()) }))
			}
			cc := startProxy(t, grpcproxy.TransparentHandler(directed(grpcproxy.One2Many, &grpcproxy.ConnBackend{Conn: early},
				&grpcproxy.ConnBackend{Conn: conn, OnError: func(error) error { return nil }}), grpcproxy.WithStreamedDetector(streamed)))
			cs := stream(t, testContext(t), cc)
			if md, err := cs.Header(); err != nil || cmp.Diff([]string{"yes"}, md.Get("early")) != "" {
				t.Errorf("headers %v, %v", md, err)
			}
			close(release)
			if _, err := recv(cs); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
}

// slowToSay is a channel whose calls, and with them RecvMsg, end long before a
// SendMsg that fails returns.
type slowToSay struct{ grpc.ClientConnInterface }

func (c slowToSay) NewStream(ctx context.Context, d *grpc.StreamDesc, m string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	cs, err := narrow(c).NewStream(ctx, d, m, opts...)
	return slowSender{cs}, err
}

type slowSender struct{ grpc.ClientStream }

func (s slowSender) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	time.Sleep(50 * time.Millisecond)
	return err
}

// 1.43: a message that may not be sent on is the proxy's error, not its
// backend's, also where the backend's call tells of it first.
func TestErrorInSending(t *testing.T) {
	for _, mode := range allModes {
		for _, streams := range []bool{true, false} {
			all := shards(t, waits, waits)
			var backends []grpcproxy.Backend
			for _, s := range all {
				s.Conn = slowToSay{s.Conn}
				backends = append(backends, swallowing{s})
			}
			if mode == grpcproxy.One2One {
				backends = backends[1:]
			}
			cc := startProxy(t, grpcproxy.TransparentHandler(directed(mode, backends...),
				grpcproxy.WithStreamedDetector(func(string) bool { return streams })))
			if got, err := ask(t, testContext(t), cc, "too long"); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("mode %d, streamed %v: %q, %v", mode, streams, got, err)
			}
		}
	}
}

// swallowing is a backend none of whose errors are one.
type swallowing struct{ *shard }

// HandleError implements grpcproxy.ErrorHandler.
func (swallowing) HandleError(error) error { return nil }

// slowTimer is a context whose timer is late.
type slowTimer struct {
	context.Context
	deadline time.Time
}

// Deadline implements context.Context.
func (c slowTimer) Deadline() (time.Time, bool) { return c.deadline, true }

// 1.23, 1.57: that the client's time is over is not the backend's error, also
// where the backend knows it first.
func TestBackendKnowsDeadlineFirst(t *testing.T) {
	late := func(ss grpc.ServerStream) error {
		<-ss.Context().Done()
		return status.FromContextError(ss.Context().Err()).Err()
	}
	for _, mode := range allModes {
		for _, streams := range []bool{true, false} {
			all := shards(t, late, late)
			var backends []grpcproxy.Backend
			for _, s := range all {
				backends = append(backends, swallowing{s})
			}
			if mode == grpcproxy.One2One {
				backends = backends[1:]
			}
			h := grpcproxy.TransparentHandler(directed(mode, backends...), grpcproxy.WithStreamedDetector(func(string) bool { return streams }))
			cc := startProxy(t, func(srv any, ss grpc.ServerStream) error {
				return h(srv, &contextStream{ss, slowTimer{ss.Context(), time.Now().Add(50 * time.Millisecond)}})
			})
			if got, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("mode %d, streamed %v: %q, %v", mode, streams, got, err)
			}
		}
	}
}

// slowToTell is a client's stream that has ended long before it is told why.
type slowToTell struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream.
func (s slowToTell) RecvMsg(m any) error { return s.told(s.ServerStream.RecvMsg(m)) }

// SendMsg implements grpc.ServerStream.
func (s slowToTell) SendMsg(m any) error { return s.told(s.ServerStream.SendMsg(m)) }

func (s slowToTell) told(err error) error {
	if status.Code(err) == codes.ResourceExhausted {
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// 1.23: grpc-go ends the client's stream for a message that is too large before
// it says so. What the handler returns, and interceptors count, is the reason,
// not that the client has gone.
func TestHandlerTellsWhy(t *testing.T) {
	conn := dial(t, startBackend(t, echo))
	for _, mode := range allModes {
		for _, streams := range []bool{true, false} {
			for name, limit := range map[string]grpc.ServerOption{"request": grpc.MaxRecvMsgSize(4), "response": grpc.MaxSendMsgSize(4)} {
				for _, slow := range []bool{true, false} {
					h, ends := watched(grpcproxy.TransparentHandler(directed(mode, &grpcproxy.ConnBackend{Conn: conn}),
						grpcproxy.WithStreamedDetector(func(string) bool { return streams })))
					cc := startProxy(t, func(srv any, ss grpc.ServerStream) error {
						if slow {
							ss = slowToTell{ss}
						}
						return h(srv, ss)
					}, limit)
					_, err := ask(t, testContext(t), cc, "too long")
					if status.Code(err) != codes.ResourceExhausted {
						t.Errorf("mode %d, streamed %v, %s, slow %v: the client got %v", mode, streams, name, slow, err)
					}
					if err := <-ends; status.Code(err) != codes.ResourceExhausted {
						t.Errorf("mode %d, streamed %v, %s, slow %v: the handler returned %v", mode, streams, name, slow, err)
					}
				}
			}
		}
	}
}

// headed is a channel whose backend has a response header that grpc-go refuses
// to send.
type headed struct{ grpc.ClientConnInterface }

func (c headed) NewStream(ctx context.Context, d *grpc.StreamDesc, m string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	cs, err := c.ClientConnInterface.NewStream(ctx, d, m, opts...)
	return headedStream{cs}, err
}

type headedStream struct{ grpc.ClientStream }

// Header implements grpc.ClientStream.
func (s headedStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return metadata.Join(md, metadata.Pairs("name", "\xff")), err
}

// 1.38: headers that cannot be sent to the client fail the call in all modes:
// those of other backends would be lost with them.
func TestHeadersThatCannotBeSent(t *testing.T) {
	silent := func(ss grpc.ServerStream) error { // without headers
		<-ss.Context().Done()
		return nil
	}
	for _, mode := range allModes {
		for _, other := range []func(grpc.ServerStream) error{nil, silent} {
			all := shards(t, named("x"))
			all[0].Conn = headed{all[0].Conn}
			backends := []grpcproxy.Backend{all[0]}
			if other != nil {
				if mode == grpcproxy.One2One {
					continue
				}
				backends = append(backends, shards(t, other)[0])
			}
			for _, streams := range []bool{true, false} {
				if !streams && other != nil {
					continue // all are waited for
				}
				cc := startProxy(t, grpcproxy.TransparentHandler(directed(mode, backends...),
					grpcproxy.WithStreamedDetector(func(string) bool { return streams })))
				if got, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Internal {
					t.Errorf("mode %d, %d backends, streamed %v: %q, %v", mode, len(backends), streams, got, err)
				}
			}
		}
	}
}

// 1.23, 1.49: a call whose connection is closed here, before it or while it
// lasts, is UNAVAILABLE: the client has not cancelled it, and no backend has said
// so. A backend that says the same is believed.
func TestConnectionIsClosed(t *testing.T) {
	for _, mode := range allModes {
		for _, streams := range []bool{true, false} {
			for _, same := range []bool{true, false} {
				called := make(chan struct{}, 1)
				conn := dial(t, startBackend(t, func(ss grpc.ServerStream) error {
					called <- struct{}{}
					if same {
						return status.Error(codes.Canceled, "grpc: the client connection is closing")
					}
					<-ss.Context().Done()
					return nil
				}))
				want := codes.Unavailable
				if same {
					want = codes.Canceled
				}
				b := &accounted{ends: make(chan codes.Code, 2)}
				b.Conn, b.fatal = conn, true
				told := make(chan codes.Code, 2)
				b.OnError = func(err error) error {
					told <- status.Code(err)
					return err
				}
				cc := startProxy(t, grpcproxy.TransparentHandler(directed(mode, b),
					grpcproxy.WithStreamedDetector(func(string) bool { return streams })))
				for _, during := range []bool{true, false} {
					if same && !during {
						break
					}
					cs := stream(t, testContext(t), cc)
					_ = cs.CloseSend()
					if during {
						<-called
						if !same {
							conn.Close()
						}
					}
					_, err := recv(cs)
					if status.Code(err) != want {
						t.Errorf("mode %d, streamed %v, during %v, same %v: %v", mode, streams, during, same, err)
					}
					if e, h := <-b.ends, <-told; e != want || h != want {
						t.Errorf("mode %d, streamed %v, during %v, same %v: ended with %v, the handler got %v", mode, streams, during, same, e, h)
					}
				}
			}
		}
	}
}

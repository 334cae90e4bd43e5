package grpcproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane"
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/listener"
)

// filter is a call.Filter of functions, and its own factory; nil: continue.
type filter struct {
	request  func(c *call.Call) error
	response func(h *hpack.Block, end bool) error
	in, out  func(m *call.Message) error
	trailers func(h *hpack.Block)
	done     func(o *call.Outcome)
}

func (f *filter) NewFilter(*call.Call) call.Filter { return f }

func (f *filter) RequestHeaders(c *call.Call, _ bool) error {
	if f.request == nil {
		return nil
	}
	return f.request(c)
}

func (f *filter) ResponseHeaders(_ *call.Call, h *hpack.Block, end bool) error {
	if f.response == nil {
		return nil
	}
	return f.response(h, end)
}

func (f *filter) RequestMessage(_ *call.Call, m *call.Message) error {
	if f.in == nil {
		return nil
	}
	return f.in(m)
}

func (f *filter) ResponseMessage(_ *call.Call, m *call.Message) error {
	if f.out == nil {
		return nil
	}
	return f.out(m)
}

func (f *filter) RequestTrailers(*call.Call, *hpack.Block) {}

func (f *filter) ResponseTrailers(_ *call.Call, h *hpack.Block) {
	if f.trailers != nil {
		f.trailers(h)
	}
}

func (f *filter) Done(_ *call.Call, o *call.Outcome) {
	if f.done != nil {
		f.done(o)
	}
}

// filtered runs a backend, and a proxy of an XDSDirector with a manager before
// it.
func filtered(t *testing.T, backend func(grpc.ServerStream) error, m *call.Manager, filters ...*filter) *grpc.ClientConn {
	t.Helper()
	cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
	cl.Update(endpoints(startBackend(t, backend)))
	if m.Director == nil {
		m.Director = fixed{cl}
	}
	for _, f := range filters {
		m.Filters = append(m.Filters, f)
	}
	return startProxy(t, grpcproxy.TransparentHandler(served(t, m).Direct))
}

// served is a director whose only listener has m.
func served(t *testing.T, m *call.Manager) *grpcproxy.XDSDirector {
	t.Helper()
	chains, err := listener.NewTable(nil, &listener.Chain{Manager: m})
	if err != nil {
		t.Fatal(err)
	}
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	t.Cleanup(d.Close)
	if err := d.Serve(&listener.Listener{Name: "edge", Chains: chains}); err != nil {
		t.Fatal(err)
	}
	return d
}

// Filters of a compiled manager hold with a grpc.Server, too: in their order
// for requests, reversed for responses, with headers, messages and trailers,
// answered later or at once.
func TestXDSFilters(t *testing.T) {
	var mu sync.Mutex
	var log []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf(format, args...))
	}
	slow := func() func(c call.Handle) error { // pending once
		asked := false
		return func(h call.Handle) error {
			if asked {
				return nil
			}
			asked = true
			go h.Resume(nil)
			return call.ErrPending
		}
	}
	named := func(name string) *filter {
		later, laterOut := slow(), slow()
		var handle call.Handle
		return &filter{
			request: func(c *call.Call) error {
				handle = c.Handle
				if err := later(c.Handle); err != nil {
					return err
				}
				note("%s request", name)
				c.Headers.Append(hpack.NewField("x-"+name, "1"))
				return nil
			},
			response: func(h *hpack.Block, end bool) error {
				note("%s response %v", name, end)
				h.Append(hpack.NewField("x-by", name))
				return nil
			},
			in: func(m *call.Message) error {
				m.Drop = m.Drop || string(m.Data) == "drop"
				m.Data = append(bytes.Clone(m.Data), "<"+name...)
				return nil
			},
			out: func(m *call.Message) error {
				if err := laterOut(handle); err != nil {
					return err
				}
				m.Data = append(bytes.Clone(m.Data), ">"+name...)
				return nil
			},
			trailers: func(h *hpack.Block) {
				h.Append(hpack.NewField("x-end", name))
			},
			done: func(o *call.Outcome) { note("%s done %d", name, o.Code) },
		}
	}
	seen := make(chan metadata.MD, 1)
	cc := filtered(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		seen <- md
		return echo(ss)
	}, &call.Manager{}, named("a"), named("b"))
	cs := stream(t, metadata.AppendToOutgoingContext(testContext(t), "blob-bin", "\x00\xff"), cc)
	send(t, cs, "drop")
	send(t, cs, "m")
	want(t, cs, "m<a<b>b>a")
	_ = cs.CloseSend()
	if _, err := recv(cs); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if md := <-seen; fmt.Sprintf("%v %v %x", md["x-a"], md["x-b"], md["blob-bin"]) != "[1] [1] [00ff]" {
		t.Errorf("the backend saw %v", md)
	}
	if md, _ := cs.Header(); fmt.Sprint(md["x-by"]) != "[b a]" {
		t.Errorf("headers %v", md)
	}
	if md := cs.Trailer(); fmt.Sprint(md["x-end"], md["bye"]) != "[b a] [now]" {
		t.Errorf("trailers %v", md)
	}
	wantLog := "a request, b request, b response false, a response false, a done 0, b done 0"
	for end := time.Now().Add(longest); ; {
		mu.Lock()
		got := strings.Join(log, ", ")
		mu.Unlock()
		if got == wantLog {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("got  %s\nwant %s", got, wantLog)
		}
		if err := pause(t.Context()); err != nil {
			break
		}
	}
}

// A filter that refuses does so: with its code, before the Director is asked;
// those before it see the reply, and may change its status and trailers. So it
// is wherever in the call the refusal comes, and for panics and other errors.
func TestXDSFilterRefuses(t *testing.T) {
	no := &call.Reply{HTTP: 403, GRPC: call.PermissionDenied, Message: "no"}
	outer := func() *filter {
		return &filter{response: func(h *hpack.Block, _ bool) error {
			h.Append(hpack.NewField("x-outer", "saw"))
			return nil
		}}
	}
	tests := map[string]struct {
		f    *filter
		want codes.Code
	}{
		"headers":  {&filter{request: func(*call.Call) error { return no }}, codes.PermissionDenied},
		"message":  {&filter{in: func(*call.Message) error { return no }}, codes.PermissionDenied},
		"response": {&filter{response: func(_ *hpack.Block, end bool) error { return no }}, codes.PermissionDenied},
		"answer":   {&filter{out: func(*call.Message) error { return no }}, codes.PermissionDenied},
		"panic":    {&filter{request: func(*call.Call) error { panic("oh") }}, codes.Internal},
		"error":    {&filter{request: func(*call.Call) error { return errors.New("the database is gone") }}, codes.Unavailable},
		"later": {&filter{request: func(c *call.Call) error {
			go c.Handle.Resume(no)
			return call.ErrPending
		}}, codes.PermissionDenied},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			done := make(chan call.Code, 1)
			tt.f.done = func(o *call.Outcome) { done <- o.Code }
			cc := filtered(t, echo, &call.Manager{}, outer(), tt.f)
			cs := stream(t, testContext(t), cc)
			_ = cs.SendMsg(grpcproxy.NewFrame([]byte("m")))
			_ = cs.CloseSend()
			_, err := recv(cs)
			if status.Code(err) != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			// Once: with the reply, or with headers that had passed before.
			head, _ := cs.Header()
			if md := metadata.Join(head, cs.Trailer()); fmt.Sprint(md["x-outer"]) != "[saw]" {
				t.Errorf("the outer filter has seen %v", md)
			}
			if c := <-done; codes.Code(c) != tt.want {
				t.Errorf("Done got %v", codes.Code(c))
			}
		})
	}
	// What trailers say may be changed.
	cc := filtered(t, failing(codes.NotFound), &call.Manager{}, &filter{response: func(h *hpack.Block, end bool) error {
		for i := range h.Fields {
			if h.Fields[i].Name == "grpc-status" {
				h.Fields[i] = hpack.NewField("grpc-status", "9")
			}
		}
		return nil
	}})
	_, err := ask(t, testContext(t), cc, "x")
	wantStatus(t, err, status.New(codes.FailedPrecondition, "no"))
	// Also to OK: of a host's status, and of our own wherever it comes from.
	forgive := &filter{response: func(h *hpack.Block, end bool) error {
		for i := range h.Fields {
			if h.Fields[i].Name == "grpc-status" {
				h.Fields[i] = hpack.NewField("grpc-status", "0")
			}
		}
		return nil
	}}
	for name, cc := range map[string]*grpc.ClientConn{
		"host":       filtered(t, detailed(true), &call.Manager{}, forgive),
		"filter":     filtered(t, echo, &call.Manager{}, forgive, tests["headers"].f),
		"no host":    filtered(t, echo, &call.Manager{Director: fixed{cluster.New(cluster.Config{Name: "empty", Options: &call.UpstreamOptions{}})}}, forgive),
		"unanswered": filtered(t, echo, &call.Manager{Director: fixed{unanswered(t)}}, forgive),
	} {
		cs := stream(t, testContext(t), cc)
		_ = cs.CloseSend()
		if _, err := recv(cs); !errors.Is(err, io.EOF) {
			t.Errorf("forgiven %s: %v", name, err)
		}
	}
	// A message may be too long to be seen.
	cc = filtered(t, echo, &call.Manager{MaxMessageBytes: 5}, &filter{})
	if _, err := ask(t, testContext(t), cc, "too long"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

// unanswered is a cluster at whose only address nobody listens.
func unanswered(t *testing.T) *cluster.Cluster {
	t.Helper()
	cl := cluster.New(cluster.Config{Name: "unanswered", Options: &call.UpstreamOptions{}})
	cl.Update(endpoints("127.0.0.1:1"))
	return cl
}

// 1.9, 1.42: a Director may ask for the first message, as may any director.
func TestXDSDirectorPeeks(t *testing.T) {
	cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
	cl.Update(endpoints(startBackend(t, echo)))
	d := directorFunc(func(c *call.Call) (call.Decision, error) {
		if !c.Peek.Done {
			return call.Decision{}, call.ErrPeek
		}
		switch m := c.Peek; {
		case string(m.Message.Data) == "twice":
			return call.Decision{}, call.ErrPeek
		case string(m.Message.Data) == "long " && !m.Whole, string(m.Message.Data) == "short"[:4] && m.Whole:
			return call.Decision{Backends: cl}, nil
		}
		return call.Decision{}, &call.Reply{GRPC: call.NotFound, Message: fmt.Sprint(c.Peek.Whole, string(c.Peek.Message.Data))}
	})
	cc := filtered(t, echo, &call.Manager{Director: d, MaxPeekBytes: 5})
	for m, want := range map[string]codes.Code{"long message": codes.OK, "shor": codes.OK, "twice": codes.Internal, "other": codes.NotFound} {
		got, err := ask(t, testContext(t), cc, m)
		if status.Code(err) != want || err == nil && got != m {
			t.Errorf("%q: %q, %v", m, got, err)
		}
	}
	empty := stream(t, testContext(t), cc)
	_ = empty.CloseSend()
	_, err := recv(empty)
	wantStatus(t, err, status.New(codes.NotFound, "false"))

	plain := startProxy(t, grpcproxy.TransparentHandler(func(ctx context.Context, m string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		b, err := grpcproxy.Peek(ctx)
		if err != nil || string(b) == "refuse" {
			return 0, nil, status.Errorf(codes.NotFound, "%s %v", b, err)
		}
		return to(dial(t, startBackend(t, echo)))(ctx, m)
	}))
	if got, err := ask(t, testContext(t), plain, "x"); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err = ask(t, testContext(t), plain, "refuse")
	wantStatus(t, err, status.New(codes.NotFound, "refuse <nil>"))
	if _, err := grpcproxy.Peek(t.Context()); status.Code(err) != codes.Internal {
		t.Errorf("outside of a director: %v", err)
	}
}

// A BlockingDirector behind an XDSDirector keeps nothing of calls that have
// gone before they were decided.
func TestBlockingDirectorForgets(t *testing.T) {
	const calls, size = 100, 8 << 10
	d := dataplane.NewBlockingDirector(func(ctx context.Context, _ *dataplane.Request) (call.Decision, error) {
		select {
		case <-time.After(30 * time.Millisecond): // the client has gone by then
		case <-ctx.Done():
		}
		return call.Decision{}, call.ReplyNoCluster
	}, dataplane.BlockingOptions{Concurrency: calls})
	defer d.Close()
	cc := filtered(t, echo, &call.Manager{Director: d})
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run := func() {
		for range calls {
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(testContext(t), "big", strings.Repeat("x", size)), 5*time.Millisecond)
			if cs, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(grpcproxy.Codec())); err == nil {
				_, _ = recv(cs)
			}
			cancel()
		}
		for range 3 { // until the last decisions are made
			_ = pause(t.Context())
		}
	}
	run()
	before := heap()
	run()
	run()
	// What is under way has more than it will keep.
	for end := time.Now().Add(longest); ; _ = pause(t.Context()) {
		grown := int64(heap()) - int64(before)
		if grown <= calls*size {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d calls that have gone keep %d KiB", 2*calls, grown>>10)
		}
	}
}

// A director of one's own around an XDSDirector may refuse what that has let
// pass: the filters are told that the call has ended.
func TestXDSDirectorIsOverruled(t *testing.T) {
	done := make(chan call.Code, 1)
	cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
	f := &filter{done: func(o *call.Outcome) { done <- o.Code }}
	chains, err := listener.NewTable(nil, &listener.Chain{Manager: &call.Manager{Director: fixed{cl}, Filters: []call.FilterFactory{f}}})
	if err != nil {
		t.Fatal(err)
	}
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	if err := d.Serve(&listener.Listener{Name: "edge", Chains: chains}); err != nil {
		t.Fatal(err)
	}
	cc := startProxy(t, grpcproxy.TransparentHandler(func(ctx context.Context, m string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		if _, _, err := d.Direct(ctx, m); err != nil {
			t.Error(err)
		}
		return 0, nil, status.Error(codes.PermissionDenied, "no")
	}))
	if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	if c := <-done; c != call.Canceled {
		t.Errorf("Done got %v", c)
	}
}

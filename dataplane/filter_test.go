//go:build unix

package dataplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// factory makes filters of a function.
type factory func(c *call.Call) call.Filter

func (f factory) NewFilter(c *call.Call) call.Filter { return f(c) }

// hooks is a Filter of functions; nil: continue.
type hooks struct {
	request  func(c *call.Call, end bool) error
	response func(c *call.Call, h *hpack.Block, end bool) error
	done     func(c *call.Call, o *call.Outcome)
}

func (f *hooks) RequestHeaders(c *call.Call, end bool) error {
	if f.request == nil {
		return nil
	}
	return f.request(c, end)
}

func (f *hooks) ResponseHeaders(c *call.Call, h *hpack.Block, end bool) error {
	if f.response == nil {
		return nil
	}
	return f.response(c, h, end)
}

func (f *hooks) Done(c *call.Call, o *call.Outcome) {
	if f.done != nil {
		f.done(c, o)
	}
}

// messageHooks is a MessageFilter and TrailerFilter of functions.
type messageHooks struct {
	hooks
	in, out func(c *call.Call, m *call.Message) error
	trailer func(h *hpack.Block)
}

func (f *messageHooks) RequestMessage(c *call.Call, m *call.Message) error {
	if f.in == nil {
		return nil
	}
	return f.in(c, m)
}

func (f *messageHooks) ResponseMessage(c *call.Call, m *call.Message) error {
	if f.out == nil {
		return nil
	}
	return f.out(c, m)
}

func (f *messageHooks) RequestTrailers(*call.Call, *hpack.Block) {}

func (f *messageHooks) ResponseTrailers(_ *call.Call, h *hpack.Block) {
	if f.trailer != nil {
		f.trailer(h)
	}
}

// filtered serves d behind filters and returns a client.
func filtered(t *testing.T, d call.Director, change func(m *call.Manager), filters ...func(c *call.Call) call.Filter) echo.EchoClient {
	t.Helper()
	m := &call.Manager{Director: d}
	for _, f := range filters {
		m.Filters = append(m.Filters, factory(f))
	}
	if change != nil {
		change(m)
	}
	s := newServer(t)
	mustServe(t, s, withChains(t, "a", []string{"127.0.0.1:0"}, &listener.Chain{Key: 1, Manager: m}))
	return client(t, s)
}

// Requests pass filters in their order, responses in the reverse order; the
// director sees what filters left; each filter is told once how it ended.
func TestFilterOrder(t *testing.T) {
	h, _ := backend(t, &echo.Server{Instance: "one"})
	var mu sync.Mutex
	var log []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf(format, args...))
	}
	named := func(name string) func(*call.Call) call.Filter {
		return func(*call.Call) call.Filter {
			return &hooks{
				request: func(c *call.Call, end bool) error {
					note("%s request %v", name, end)
					c.Headers.Append(hpack.NewField("x-"+name, "1"))
					return nil
				},
				response: func(c *call.Call, h *hpack.Block, end bool) error {
					note("%s response %v", name, end)
					h.Append(hpack.NewField("x-by", name))
					return nil
				},
				done: func(c *call.Call, o *call.Outcome) { note("%s done %d", name, o.Code) },
			}
		}
	}
	d := directorFunc(func(c *call.Call) (call.Decision, error) {
		_, a := c.Headers.GetName("x-a")
		_, b := c.Headers.GetName("x-b")
		note("direct %v %v", a, b)
		return call.Decision{Backends: h}, nil
	})
	c := filtered(t, d, nil, named("a"), func(*call.Call) call.Filter { return nil }, named("b"))
	var head metadata.MD
	if _, err := c.Say(testContext(t), &echo.SayRequest{}, grpc.Header(&head)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(head.Get("x-by"), " "); got != "b a" {
		t.Errorf("x-by: %s", got)
	}
	want := "a request false\nb request false\ndirect true true\nb response false\na response false\na done 0\nb done 0"
	eventually(t, "the filters' order is "+want, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(log, "\n") == want
	})
}

type directorFunc func(c *call.Call) (call.Decision, error)

func (f directorFunc) Direct(c *call.Call) (call.Decision, error) { return f(c) }

// A filter's error is the call's, wherever it comes from; so is a panic.
func TestFilterErrors(t *testing.T) {
	h, _ := backend(t, &echo.Server{})
	no := &call.Reply{HTTP: 403, GRPC: call.PermissionDenied, Message: "no"}
	for name, tt := range map[string]struct {
		filter call.Filter
		want   codes.Code
	}{
		"request":        {&hooks{request: func(*call.Call, bool) error { return no }}, codes.PermissionDenied},
		"request, plain": {&hooks{request: func(*call.Call, bool) error { return errors.New("no") }}, codes.Unavailable},
		"request, panic": {&hooks{request: func(*call.Call, bool) error { panic("no") }}, codes.Internal},
		"response":       {&hooks{response: func(*call.Call, *hpack.Block, bool) error { return no }}, codes.PermissionDenied},
		"response, panic": {&hooks{response: func(*call.Call, *hpack.Block, bool) error {
			panic("no")
		}}, codes.Internal},
		"request message":  {&messageHooks{in: func(*call.Call, *call.Message) error { return no }}, codes.PermissionDenied},
		"response message": {&messageHooks{out: func(*call.Call, *call.Message) error { return no }}, codes.PermissionDenied},
		"message, panic":   {&messageHooks{out: func(*call.Call, *call.Message) error { panic("no") }}, codes.Internal},
		"trailers": {&messageHooks{trailer: func(h *hpack.Block) {
			h.Fields = []hpack.Field{hpack.NewField("grpc-status", "11")}
		}}, codes.OutOfRange},
		"done, panic": {&hooks{done: func(*call.Call, *call.Outcome) { panic("no") }}, codes.OK},
		"new, panic":  {nil, codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			var over atomic.Int64
			last := &hooks{done: func(_ *call.Call, o *call.Outcome) { over.Store(1 + int64(o.Code)) }}
			c := filtered(t, h, nil,
				func(*call.Call) call.Filter { return last },
				func(*call.Call) call.Filter {
					if tt.filter == nil {
						panic("no")
					}
					return tt.filter
				})
			_, err := c.Say(testContext(t), &echo.SayRequest{})
			if status.Code(err) != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			eventually(t, "Done tells the code", func() bool { return over.Load() == 1+int64(tt.want) })
		})
	}
}

// slow answers every hook later, from another goroutine, and changes the text
// of every message both ways.
type slow struct {
	wg   *sync.WaitGroup
	asks map[string]bool
}

func (f *slow) later(c *call.Call, what string) bool {
	if f.asks[what] {
		delete(f.asks, what)
		return false
	}
	f.asks[what] = true
	h := c.Handle
	f.wg.Go(func() { h.Resume(nil) })
	return true
}

func (f *slow) RequestHeaders(c *call.Call, _ bool) error {
	if f.later(c, "request") {
		return call.ErrPending
	}
	return nil
}

func (f *slow) ResponseHeaders(c *call.Call, _ *hpack.Block, _ bool) error {
	if f.later(c, "response") {
		return call.ErrPending
	}
	return nil
}

func (f *slow) Done(*call.Call, *call.Outcome) {}

func (f *slow) RequestMessage(c *call.Call, m *call.Message) error {
	if f.later(c, "in") {
		return call.ErrPending
	}
	r := &echo.SayRequest{}
	if err := proto.Unmarshal(m.Data, r); err != nil {
		return err
	}
	r.Text += ">"
	var err error
	m.Data, err = proto.Marshal(r)
	return err
}

func (f *slow) ResponseMessage(c *call.Call, m *call.Message) error {
	if f.later(c, "out") {
		return call.ErrPending
	}
	r := &echo.SayResponse{}
	if err := proto.Unmarshal(m.Data, r); err != nil {
		return err
	}
	if r.Text == "drop>" {
		m.Drop = true
		return nil
	}
	r.Text += "<"
	var err error
	m.Data, err = proto.Marshal(r)
	return err
}

// Streams whose every message, of up to a megabyte, is rewritten by a filter
// that answers later: all arrive, in order, as the filter left them.
func TestFilterMessages(t *testing.T) {
	h, _ := backend(t, &echo.Server{})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	c := filtered(t, h, nil,
		func(*call.Call) call.Filter { return &hooks{} },
		func(*call.Call) call.Filter { return &slow{wg: &wg, asks: map[string]bool{}} })
	var streams sync.WaitGroup
	for i := range 8 {
		streams.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			st, err := c.Chat(testContext(t))
			if err != nil {
				t.Error(err)
				return
			}
			var sent []*echo.SayRequest
			for n := range 40 {
				size := rnd.IntN(1000)
				if n%20 == 19 {
					size = rnd.IntN(1 << 20)
				}
				sent = append(sent, &echo.SayRequest{Text: fmt.Sprint(n), Payload: bytes.Repeat([]byte{byte(n)}, size)})
			}
			sent[3].Text = "drop"
			streams.Go(func() {
				for _, m := range sent {
					if err := st.Send(m); err != nil {
						t.Error(err)
					}
				}
				_ = st.CloseSend()
			})
			for n, m := range sent {
				if n == 3 {
					continue
				}
				got, err := st.Recv()
				if err != nil {
					t.Error(n, err)
					return
				}
				if got.Text != m.Text+"><" || !bytes.Equal(got.Payload, m.Payload) {
					t.Errorf("message %d: %q with %d bytes, want %q with %d", n, got.Text, len(got.Payload), m.Text, len(m.Payload))
				}
			}
			if _, err := st.Recv(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
	streams.Wait()
}

// A message that is longer than filters may see ends the call, in either
// direction.
func TestFilterLongMessage(t *testing.T) {
	h, _ := backend(t, &echo.Server{})
	c := filtered(t, h, func(m *call.Manager) { m.MaxMessageBytes = 1000 },
		func(*call.Call) call.Filter { return &messageHooks{} })
	if _, err := c.Say(testContext(t), &echo.SayRequest{Payload: make([]byte, 900)}); err != nil {
		t.Error(err)
	}
	if _, err := c.Say(testContext(t), &echo.SayRequest{Payload: make([]byte, 1100)}); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
}

// A filter that never answers does not outlast the client's deadline, in
// whatever part of the call it is.
func TestFilterNeverAnswers(t *testing.T) {
	h, _ := backend(t, &echo.Server{})
	never := func(*call.Call) error { return call.ErrPending }
	for name, f := range map[string]call.Filter{
		"request":          &hooks{request: func(c *call.Call, _ bool) error { return never(c) }},
		"response":         &hooks{response: func(c *call.Call, _ *hpack.Block, _ bool) error { return never(c) }},
		"request message":  &messageHooks{in: func(c *call.Call, _ *call.Message) error { return never(c) }},
		"response message": &messageHooks{out: func(c *call.Call, _ *call.Message) error { return never(c) }},
	} {
		t.Run(name, func(t *testing.T) {
			var begun, ended atomic.Int64
			last := &hooks{
				request: func(*call.Call, bool) error { begun.Add(1); return nil },
				done:    func(*call.Call, *call.Outcome) { ended.Add(1) },
			}
			c := filtered(t, h, nil, func(*call.Call) call.Filter { return last }, func(*call.Call) call.Filter { return f })
			// A call whose time is over before it has left never comes.
			for d := 50 * time.Millisecond; begun.Load() == 0 && d < patience; d *= 2 {
				ctx, cancel := context.WithTimeout(testContext(t), d)
				defer cancel()
				if _, err := c.Say(ctx, &echo.SayRequest{Payload: make([]byte, 200_000)}); status.Code(err) != codes.DeadlineExceeded {
					t.Error(err)
				}
			}
			eventually(t, "the call ends", func() bool { return begun.Load() > 0 && ended.Load() == begun.Load() })
		})
	}
}

// A director that peeks sees the first message, whole up to the limit; one
// that peeks again fails the call.
func TestPeek(t *testing.T) {
	h, _ := backend(t, &echo.Server{Instance: "one"})
	seen := make(chan call.Peek, 1)
	d := directorFunc(func(c *call.Call) (call.Decision, error) {
		if !c.Peek.Done {
			return call.Decision{}, call.ErrPeek
		}
		pk := c.Peek
		pk.Message.Data = bytes.Clone(pk.Message.Data)
		seen <- pk
		return call.Decision{Backends: h}, nil
	})
	const limit = 100_000
	c := filtered(t, d, func(m *call.Manager) { m.MaxPeekBytes = limit })
	for _, size := range []int{0, 1, 500, 90_000, limit, 300_000} {
		m := &echo.SayRequest{Payload: make([]byte, size)}
		r, err := c.Say(testContext(t), m)
		if err != nil || len(r.GetPayload()) != size {
			t.Fatal(size, len(r.GetPayload()), err)
		}
		b, _ := proto.Marshal(m)
		pk := <-seen
		if pk.Whole != (len(b) <= limit) || !bytes.Equal(pk.Message.Data, b[:min(len(b), limit)]) {
			t.Errorf("%d bytes: whole %v, %d bytes peeked", len(b), pk.Whole, len(pk.Message.Data))
		}
	}
	st, err := c.Collect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := st.CloseAndRecv(); err != nil || r.GetMessages() != 0 {
		t.Error(r, err)
	}
	if pk := <-seen; pk.Whole || len(pk.Message.Data) != 0 {
		t.Errorf("no message: %+v", pk)
	}

	c = filtered(t, directorFunc(func(*call.Call) (call.Decision, error) { return call.Decision{}, call.ErrPeek }), nil)
	if _, err := c.Say(testContext(t), &echo.SayRequest{}); status.Code(err) != codes.Internal {
		t.Error("peeking for ever:", err)
	}
}

// What a director sees is what filters left of the message; and a function that
// blocks sees it too.
func TestPeekBlocking(t *testing.T) {
	h, _ := backend(t, &echo.Server{})
	d := NewBlockingDirector(func(_ context.Context, r *Request) (call.Decision, error) {
		m := &echo.SayRequest{}
		if err := proto.Unmarshal(r.Message.Data, m); err != nil || !r.Whole {
			return call.Decision{}, fmt.Errorf("whole %v: %w", r.Whole, err)
		}
		if m.Text != "secret>" {
			return call.Decision{}, &call.Reply{HTTP: 403, GRPC: call.PermissionDenied, Message: m.Text}
		}
		return call.Decision{Backends: h}, nil
	}, BlockingOptions{Peek: true})
	defer d.Close()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	c := filtered(t, d, nil, func(*call.Call) call.Filter { return &slow{wg: &wg, asks: map[string]bool{}} })
	if _, err := c.Say(testContext(t), &echo.SayRequest{Text: "secret"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Say(testContext(t), &echo.SayRequest{Text: "guess"}); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
}

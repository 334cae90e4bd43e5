package grpcproxy_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/listener"
)

// telling is a set that tells what it is told.
type telling struct {
	call.BackendSet
	done chan call.Outcome
}

func (a *telling) Done(h call.Host, o *call.Outcome) {
	a.BackendSet.Done(h, o)
	a.done <- *o
}

// What a backend set is told of an attempt, as by the relay: an end that the
// host has not made is neither its success nor its failure, and its status is
// its own, whatever filters make of that.
func TestXDSOutcomes(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	hang := func(grpc.ServerStream) error { // it does not heed its own deadline
		<-over
		return nil
	}
	goneAt := func(event <-chan struct{}) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				<-event
				cancel()
			}()
			return ctx, cancel
		}
	}
	called, accepted := make(chan struct{}), make(chan struct{})
	taken := func(grpc.ServerStream) error {
		close(called)
		<-over
		return nil
	}
	refuse := &filter{out: func(*call.Message) error { return &call.Reply{GRPC: call.Internal, Message: "no"} }}
	rewrite := &filter{response: func(h *hpack.Block, _ bool) error {
		h.Fields = append(h.Fields[:0], hpack.NewField("grpc-status", "5"))
		return nil
	}}
	binary := &call.Route{RequestOps: []call.HeaderOp{{Field: hpack.NewField("x", "\xff"), Action: call.HeaderOverwrite}}}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // so does this
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	go func() {
		_, _ = mute.Accept()
		close(accepted)
	}()
	for name, tt := range map[string]struct {
		backend string
		client  func(context.Context) (context.Context, context.CancelFunc)
		route   *call.Route
		filter  *filter
		want    string // side, whether there is a status, HTTP status, flags, code
	}{
		"ok":                    {startBackend(t, named("x")), context.WithCancel, nil, nil, "0 true 200 - OK"},
		"fails":                 {startBackend(t, failing(codes.Internal)), context.WithCancel, nil, nil, "0 true 200 - Internal"},
		"client goes":           {startBackend(t, taken), goneAt(called), nil, nil, "1 false 0 DR Canceled"},
		"goes while connecting": {mute.Addr().String(), goneAt(accepted), nil, nil, "1 false 0 DR Canceled"},
		"not connected":         {"127.0.0.1:1", context.WithCancel, nil, nil, "2 false 0 UF Unavailable"},
		"route's timeout":       {startBackend(t, hang), context.WithCancel, &call.Route{Timeout: 50 * time.Millisecond}, nil, "0 false 0 UT DeadlineExceeded"},
		"route's limit":         {silent.Addr().String(), context.WithCancel, &call.Route{MaxStreamDuration: 50 * time.Millisecond}, nil, "0 false 0 DT DeadlineExceeded"},
		"nothing happens":       {startBackend(t, hang), context.WithCancel, &call.Route{IdleTimeout: 50 * time.Millisecond}, nil, "0 false 0 SI DeadlineExceeded"},
		"filter refuses":        {startBackend(t, named("x")), context.WithCancel, nil, refuse, "3 false 0 - Internal"},
		"metadata refused":      {startBackend(t, hang), context.WithCancel, binary, nil, "3 false 0 - Internal"},
		"filter rewrites":       {startBackend(t, failing(codes.Internal)), context.WithCancel, nil, rewrite, "0 true 200 - Internal"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
			cl.Update(endpoints(tt.backend))
			set := &telling{cl, make(chan call.Outcome, 1)}
			m := &call.Manager{Director: directorFunc(func(*call.Call) (call.Decision, error) {
				return call.Decision{Backends: set, Route: tt.route}, nil
			})}
			if tt.filter != nil {
				m.Filters = append(m.Filters, tt.filter)
			}
			chains, err := listener.NewTable(nil, &listener.Chain{Manager: m})
			if err != nil {
				t.Fatal(err)
			}
			d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
			defer d.Close()
			if err := d.Serve(&listener.Listener{Name: "edge", Chains: chains}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := tt.client(testContext(t))
			defer cancel()
			_, _ = ask(t, ctx, startProxy(t, grpcproxy.TransparentHandler(d.Direct)), "x") // the set's account is what counts
			o := <-set.done
			if got := fmt.Sprint(o.Side, " ", o.HasCode, " ", o.HTTP, " ", o.Flags, " ", codes.Code(o.Code)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A filter is waited for until the call ends and no longer: what has ended it is
// what the client and the backend set are told, not that the filter had to stop.
func TestXDSFilterStillWaits(t *testing.T) {
	asked := make(chan struct{}, 10)
	waits := func() error {
		asked <- struct{}{}
		return call.ErrPending
	}
	headers := &filter{response: func(*hpack.Block, bool) error { return waits() }}
	request := &filter{in: func(*call.Message) error { return waits() }}
	response := &filter{out: func(*call.Message) error { return waits() }}
	timeout := &call.Route{Timeout: 50 * time.Millisecond}
	limit := &call.Route{MaxStreamDuration: 50 * time.Millisecond}
	over := make(chan struct{})
	defer close(over)
	talks := func(ss grpc.ServerStream) error { // and does not heed its own deadline
		if err := ss.SendMsg(grpcproxy.NewFrame([]byte("x"))); err != nil {
			return err
		}
		<-over
		return nil
	}
	fails := func(ss grpc.ServerStream) error { // when the filter is waited for
		if err := ss.SendHeader(nil); err != nil {
			return err
		}
		<-asked
		return status.Error(codes.NotFound, "no")
	}
	for name, tt := range map[string]struct {
		backend func(grpc.ServerStream) error
		filter  *filter
		route   *call.Route
		leaves  bool
		want    string // side, whether there is a status, HTTP status, flags, code
	}{
		"headers, timeout":      {talks, headers, timeout, false, "0 false 0 UT DeadlineExceeded"},
		"response, timeout":     {talks, response, timeout, false, "0 false 0 UT DeadlineExceeded"},
		"headers, limit":        {talks, headers, limit, false, "0 false 0 DT DeadlineExceeded"},
		"request, limit":        {talks, request, limit, false, "0 false 0 DT DeadlineExceeded"},
		"response, limit":       {talks, response, limit, false, "0 false 0 DT DeadlineExceeded"},
		"headers, client goes":  {talks, headers, nil, true, "1 false 0 DR Canceled"},
		"request, client goes":  {talks, request, nil, true, "1 false 0 DR Canceled"},
		"response, client goes": {talks, response, nil, true, "1 false 0 DR Canceled"},
		"request, host fails":   {fails, request, nil, false, "0 true 200 - NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
			set := &telling{cl, make(chan call.Outcome, 1)}
			cl.Update(endpoints(startBackend(t, tt.backend)))
			cc := filtered(t, nil, &call.Manager{Director: directorFunc(func(*call.Call) (call.Decision, error) {
				return call.Decision{Backends: set, Route: tt.route}, nil
			})}, tt.filter)
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			cs := stream(t, ctx, cc)
			if tt.filter == request {
				if _, err := cs.Header(); err != nil { // they have passed the filters
					t.Fatal(err)
				}
			}
			send(t, cs, "x")
			_ = cs.CloseSend()
			if tt.leaves {
				<-asked
				cancel()
			}
			var err error
			for err == nil {
				_, err = recv(cs)
			}
			o := <-set.done
			if got := fmt.Sprint(o.Side, " ", o.HasCode, " ", o.HTTP, " ", o.Flags, " ", codes.Code(o.Code)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if status.Code(err) != codes.Code(o.Code) {
				t.Errorf("the client got %v", err)
			}
			for len(asked) > 0 {
				<-asked
			}
		})
	}
}

// 1.23, 1.44: nor is a call whose time is over kept by a client that does not
// read.
func TestXDSClientDoesNotRead(t *testing.T) {
	for want, rt := range map[call.Flags]*call.Route{
		call.UpstreamRequestTimeout: {Timeout: 50 * time.Millisecond},
		call.DurationTimeout:        {MaxStreamDuration: 50 * time.Millisecond},
		call.StreamIdleTimeout:      {IdleTimeout: 50 * time.Millisecond},
	} {
		t.Run(want.String(), func(t *testing.T) {
			cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
			set := &telling{cl, make(chan call.Outcome, 1)}
			cl.Update(endpoints(startBackend(t, flood)))
			d := served(t, &call.Manager{Director: directorFunc(func(*call.Call) (call.Decision, error) {
				return call.Decision{Backends: set, Route: rt}, nil
			})})
			h, handled := watched(grpcproxy.TransparentHandler(d.Direct))
			cs := stream(t, testContext(t), startProxy(t, h))
			_ = cs.CloseSend()
			select {
			case err := <-handled:
				if status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("the handler returned %v", err)
				}
			case <-testContext(t).Done():
				t.Fatal("the handler is kept")
			}
			var err error
			for err == nil {
				_, err = recv(cs)
			}
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("the client, when it reads: %v", err)
			}
			if o := <-set.done; o.Flags != want || codes.Code(o.Code) != codes.DeadlineExceeded {
				t.Errorf("the set was told %+v", o)
			}
		})
	}
}

// A call that the director's end cuts is UNAVAILABLE, and the host's no failure.
func TestXDSDirectorCloses(t *testing.T) {
	called := make(chan struct{})
	cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
	cl.Update(endpoints(startBackend(t, func(ss grpc.ServerStream) error {
		close(called)
		<-ss.Context().Done()
		return nil
	})))
	set := &telling{cl, make(chan call.Outcome, 1)}
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	if err := d.Serve(edge(t, fixed{set})); err != nil {
		t.Fatal(err)
	}
	cs := stream(t, testContext(t), startProxy(t, grpcproxy.TransparentHandler(d.Direct)))
	<-called
	d.Close()
	if _, err := recv(cs); status.Code(err) != codes.Unavailable {
		t.Errorf("the client got %v", err)
	}
	if o := <-set.done; o.Side != call.SideLocal || o.HasCode || codes.Code(o.Code) != codes.Unavailable {
		t.Errorf("the set was told %+v", o)
	}
}

// A panic in making a call costs the call: the set that has given a host for it
// is told, and filters are told of its end.
func TestXDSOpeningPanics(t *testing.T) {
	panics := func() string { panic("oh") }
	for name, tt := range map[string]struct {
		options []grpc.DialOption
		route   *call.Route
		picked  bool
	}{
		"interceptor": {[]grpc.DialOption{grpc.WithStreamInterceptor(func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
			panic("oh")
		})}, nil, true},
		"rewrite": {nil, &call.Route{Rewrite: &call.Rewrite{Path: func(*call.Call) string { return panics() }}}, true},
		"value":   {nil, &call.Route{RequestOps: []call.HeaderOp{{Field: hpack.NewField("x", ""), Value: func(*call.Call, *call.Outcome) string { return panics() }}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
			cl.Update(endpoints(startBackend(t, named("x"))))
			set := &telling{cl, make(chan call.Outcome, 2)}
			over := make(chan struct{})
			m := &call.Manager{
				Director: directorFunc(func(*call.Call) (call.Decision, error) { return call.Decision{Backends: set, Route: tt.route}, nil }),
				Filters:  []call.FilterFactory{&filter{done: func(*call.Outcome) { close(over) }}},
			}
			chains, err := listener.NewTable(nil, &listener.Chain{Manager: m})
			if err != nil {
				t.Fatal(err)
			}
			d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{DialOptions: tt.options})
			defer d.Close()
			if err := d.Serve(&listener.Listener{Name: "edge", Chains: chains}); err != nil {
				t.Fatal(err)
			}
			if _, err := ask(t, testContext(t), startProxy(t, grpcproxy.TransparentHandler(d.Direct), recovering), "x"); status.Code(err) != codes.DataLoss {
				t.Errorf("the client got %v", err)
			}
			select {
			case <-over:
			case <-testContext(t).Done():
				t.Fatal("the filter was not told")
			}
			if told := len(set.done) == 1; told != tt.picked {
				t.Fatalf("the set was told: %v", told)
			}
			if tt.picked {
				if o := <-set.done; o.Side != call.SideLocal || codes.Code(o.Code) != codes.Internal || o.HasCode {
					t.Errorf("the set was told %+v", o)
				}
			}
		})
	}
}

// The time that a route leaves a call is that of the relay: counted from the
// request's headers, of the client's what its offset and cap leave, and of gRPC
// calls max_grpc_timeout in the place of the timeout.
func TestXDSRouteTime(t *testing.T) {
	const hour = time.Hour
	for name, tt := range map[string]struct {
		client  time.Duration // 0: no deadline
		route   call.Route
		waits   time.Duration // of a filter
		want    time.Duration // from the call's begin; 0: none
		timeout bool          // the route's, after the request
	}{
		"none":               {0, call.Route{}, 0, 0, false},
		"client's":           {hour, call.Route{UseGRPCTimeout: true}, 0, hour, false},
		"offset":             {2 * hour, call.Route{UseGRPCTimeout: true, GRPCTimeoutOffset: hour}, 0, hour, false},
		"offset eats all":    {hour, call.Route{UseGRPCTimeout: true, GRPCTimeoutOffset: 2 * hour}, 0, hour, false},
		"cap":                {3 * hour, call.Route{UseGRPCTimeout: true, GRPCTimeoutMax: hour}, 0, hour, false},
		"duration":           {3 * hour, call.Route{UseGRPCTimeout: true, GRPCTimeoutMax: 2 * hour, MaxStreamDuration: hour}, 0, hour, false},
		"from the beginning": {0, call.Route{MaxStreamDuration: hour}, 50 * time.Millisecond, hour, false},
		"max_grpc_timeout":   {0, call.Route{Timeout: hour, OldGRPCTimeout: true, GRPCTimeoutMax: 50 * time.Millisecond}, 0, 0, true},
		"none of that":       {0, call.Route{Timeout: 50 * time.Millisecond, OldGRPCTimeout: true}, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			deadlines := make(chan time.Time, 1)
			cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
			cl.Update(endpoints(startBackend(t, func(ss grpc.ServerStream) error {
				if tt.timeout {
					<-ss.Context().Done()
					return nil
				}
				if err := drain(ss); err != nil {
					return err
				}
				time.Sleep(100 * time.Millisecond) // twice the timeout that is not one
				return nil
			})))
			var waited time.Time
			m := &call.Manager{
				Director: directorFunc(func(*call.Call) (call.Decision, error) {
					return call.Decision{Backends: cl, Route: &tt.route}, nil
				}),
				Filters: []call.FilterFactory{&filter{request: func(*call.Call) error {
					time.Sleep(tt.waits)
					waited = time.Now()
					return nil
				}}},
			}
			chains, err := listener.NewTable(nil, &listener.Chain{Manager: m})
			if err != nil {
				t.Fatal(err)
			}
			d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{DialOptions: []grpc.DialOption{grpc.WithStreamInterceptor(
				func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, m string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					by, _ := ctx.Deadline()
					deadlines <- by
					return next(ctx, desc, cc, m, opts...)
				})}})
			defer d.Close()
			if err := d.Serve(&listener.Listener{Name: "edge", Chains: chains}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			defer time.AfterFunc(30*time.Second, cancel).Stop()
			if tt.client > 0 {
				ctx, cancel = context.WithTimeout(ctx, tt.client)
				defer cancel()
			}
			cs := stream(t, ctx, startProxy(t, grpcproxy.TransparentHandler(d.Direct)))
			begun := time.Now()
			_ = cs.CloseSend()
			_, err = recv(cs)
			if got := status.Code(err) == codes.DeadlineExceeded; got != tt.timeout {
				t.Errorf("the call ended with %v", err)
			}
			by := <-deadlines
			if by.IsZero() != (tt.want == 0) {
				t.Fatalf("a deadline in %v, want %v", by.Sub(begun), tt.want)
			}
			if got := by.Sub(begun); tt.want > 0 && (got < tt.want-time.Minute || got > tt.want+time.Minute) {
				t.Errorf("a deadline in %v, want %v", got, tt.want)
			}
			if tt.waits > 0 && !by.Before(waited.Add(tt.want)) {
				t.Errorf("%v after the filter has waited", by.Sub(waited))
			}
		})
	}
}

// Filters are told that the client has gone also while the call is not at a host
// yet.
func TestXDSFilterToldOfClient(t *testing.T) {
	asked, done := make(chan struct{}), make(chan call.Outcome, 1)
	cc := filtered(t, echo, &call.Manager{Director: directorFunc(func(*call.Call) (call.Decision, error) {
		close(asked)
		return call.Decision{}, call.ErrPending
	})}, &filter{done: func(o *call.Outcome) { done <- *o }})
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	_ = stream(t, ctx, cc).CloseSend()
	<-asked
	cancel()
	o := <-done
	if got := fmt.Sprint(o.Side, " ", o.HasCode, " ", o.HTTP, " ", o.Flags, " ", codes.Code(o.Code)); got != "1 true 0 DR Canceled" {
		t.Errorf("got %s", got)
	}
}

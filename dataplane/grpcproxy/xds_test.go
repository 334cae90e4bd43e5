package grpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

var _ xdsconfig.Server = (*grpcproxy.XDSDirector)(nil)

// attach makes a director of a bootstrap.
func attach(t *testing.T, yaml string) *grpcproxy.XDSDirector {
	t.Helper()
	bs, err := bootstrap.Parse([]byte(yaml), bootstrap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	m, err := xdsconfig.Attach(t.Context(), d, bs, xdsconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		d.Close()
	})
	<-m.Ready() // until then there may be no listener
	return d
}

// bootstrapOf has one listener with routes, and clusters by name.
func bootstrapOf(routes string, clusters map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
static_resources:
  listeners:
  - name: edge
    address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config:
            validate_clusters: false
            virtual_hosts:
%s
  clusters:
`, routes)
	for name, addr := range clusters {
		host, port, _ := net.SplitHostPort(addr)
		fmt.Fprintf(&b, `
  - name: %s
    type: STATIC
    connect_timeout: 20s
    load_assignment:
      cluster_name: %s
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
`, name, name, host, port)
	}
	return b.String()
}

// 1.5, 1.7, 1.12, 1.13, 1.59: backends and mappings are declared: by
// authority, by path, by metadata; what matches nothing, and clusters that are
// not there, answer as the data plane would.
func TestXDSDirector(t *testing.T) {
	seen := make(chan metadata.MD, 1)
	d := attach(t, bootstrapOf(`
            - name: staging
              domains: [staging.example.com]
              routes: [{match: {prefix: /}, route: {cluster: staging}}]
            - name: prod
              domains: ["*"]
              request_headers_to_add: [{header: {key: from, value: edge}}]
              request_headers_to_remove: [secret]
              response_headers_to_add: [{header: {key: served, value: prod}}]
              routes:
              - match: {prefix: /acme.internal.}
                direct_response: {status: 403, body: {inline_string: internal}}
              - match: {prefix: /, headers: [{name: blob-bin, string_match: {exact: AP8}}]}
                route: {cluster: staging}
              - match: {prefix: /acme.v1.Missing/}
                route: {cluster: nowhere}
              - match: {prefix: /acme.v1.Slow/}
                route: {cluster: slow, timeout: 0.2s}
              - match: {prefix: /acme.v1.Full/}
                route: {cluster: full}
              - match: {prefix: /gone.}
                route: {cluster: prod, host_rewrite_header: no-such-header, regex_rewrite: {pattern: {regex: .*}, substitution: ""}}
              - match: {prefix: /weighted.}
                route: {host_rewrite_header: to, append_x_forwarded_host: true, weighted_clusters: {clusters: [{name: prod, weight: 1, host_rewrite_literal: weighted}]}}
              - match: {prefix: /named.}
                route: {cluster_header: to}
              - match: {prefix: /acme.}
                route: {cluster: prod, prefix_rewrite: /rewritten.}
`, map[string]string{
		"full":    startBackend(t, func(grpc.ServerStream) error { return status.Error(codes.ResourceExhausted, "full") }),
		"staging": startBackend(t, named("staging")),
		"slow": startBackend(t, func(ss grpc.ServerStream) error {
			<-ss.Context().Done()
			return nil
		}),
		"prod": startBackend(t, func(ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			m, _ := grpc.MethodFromServerStream(ss)
			md.Set("method", m)
			seen <- md
			return named("prod")(ss)
		}),
	}))
	cc := startProxy(t, grpcproxy.TransparentHandler(d.Direct))
	ctx := metadata.AppendToOutgoingContext(testContext(t), "secret", "s")

	if got, err := ask(t, ctx, cc, "", grpc.CallAuthority("staging.example.com")); got != "staging" || err != nil {
		t.Errorf("by authority: %q, %v", got, err)
	}
	if got, err := ask(t, metadata.AppendToOutgoingContext(ctx, "blob-bin", "\x00\xff"), cc, ""); got != "staging" || err != nil {
		t.Errorf("by metadata: %q, %v", got, err)
	}
	cs := stream(t, ctx, cc, grpc.CallAuthority("api.example.com"))
	_ = cs.CloseSend()
	want(t, cs, "prod")
	if h, _ := cs.Header(); fmt.Sprint(h.Get("served")) != "[prod]" {
		t.Errorf("response headers %v", h)
	}
	md := <-seen
	if got := fmt.Sprint(md.Get("from"), md.Get("secret"), md.Get(":authority"), md.Get("method")); got != "[edge] [] [api.example.com] [/rewritten.v1.Orders/Call]" {
		t.Errorf("the backend saw %s", got)
	}
	// A rewrite of which nothing would be left is none.
	if err := cc.Invoke(ctx, "/gone.Service/Call", &grpcproxy.Frame{}, new(grpcproxy.Frame), grpc.ForceCodecV2(grpcproxy.Codec()), grpc.CallAuthority("api.example.com")); err != nil {
		t.Error(err)
	}
	md = <-seen
	if got := fmt.Sprint(md.Get(":authority"), md.Get("method")); got != "[api.example.com] [/gone.Service/Call]" {
		t.Errorf("the backend saw %s", got)
	}
	// A route's rewrite comes after a weighted cluster's.
	for to, want := range map[string]string{"": "[weighted] []", "there": "[there] [weighted]"} {
		toCtx := ctx
		if to != "" {
			toCtx = metadata.AppendToOutgoingContext(ctx, "to", to)
		}
		if err := cc.Invoke(toCtx, "/weighted.Service/Call", &grpcproxy.Frame{}, new(grpcproxy.Frame), grpc.ForceCodecV2(grpcproxy.Codec())); err != nil {
			t.Error(err)
		}
		md = <-seen
		if got := fmt.Sprint(md.Get(":authority"), md.Get("x-forwarded-host")); got != want {
			t.Errorf("hosts: %s, want %s", got, want)
		}
	}
	for m, want := range map[string]codes.Code{
		"/acme.internal.X/Y":    codes.PermissionDenied,
		"/named.Service/Call":   codes.Unavailable,
		"/acme.v1.Missing/Call": codes.Unavailable,
		"/other.Service/Call":   codes.Unimplemented,
		"/acme.v1.Slow/Call":    codes.DeadlineExceeded,
		"/acme.v1.Full/Call":    codes.ResourceExhausted,
	} {
		var out grpcproxy.Frame
		var trailer metadata.MD
		err := cc.Invoke(ctx, m, &grpcproxy.Frame{}, &out, grpc.ForceCodecV2(grpcproxy.Codec()), grpc.Trailer(&trailer))
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %v", m, err, want)
		}
		// A response without messages has its headers in the trailers.
		if routed := want != codes.Unimplemented; len(trailer.Get("served")) == 1 != routed {
			t.Errorf("%s: the route's response headers: %v", m, trailer)
		}
	}
}

// Values of headers that a route adds are as on the wire, also if they are
// binary or made of others; those of responses are made of the response.
func TestXDSHeaderValues(t *testing.T) {
	seen := make(chan metadata.MD, 1)
	d := attach(t, bootstrapOf(`
            - name: all
              domains: ["*"]
              request_headers_to_add:
              - {header: {key: fixed-bin, value: AP8}}
              - {header: {key: copy-bin, value: "%REQ(blob-bin)%"}}
              response_headers_to_add:
              - {header: {key: back-bin, value: AP8}}
              - {header: {key: again-bin, value: "%RESP(blob-bin)%"}}
              - {header: {key: echoed, value: "<%RESP(echo)%>"}}
              - {header: {key: ended, value: "%GRPC_STATUS_NUMBER%"}}
              routes: [{match: {prefix: /}, route: {cluster: c}}]
`, map[string]string{"c": startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		seen <- md
		if len(md.Get("fail")) > 0 {
			ss.SetTrailer(metadata.Pairs("blob-bin", "\x01\xfe", "echo", "e"))
			return status.Error(codes.NotFound, "no")
		}
		return ss.SendHeader(metadata.Pairs("blob-bin", "\x01\xfe", "echo", "e"))
	})}))
	cc := startProxy(t, grpcproxy.TransparentHandler(d.Direct))
	ctx := metadata.AppendToOutgoingContext(testContext(t), "blob-bin", "\x00\xff")
	for _, fail := range []bool{false, true} {
		ended := "[2]" // as in Envoy: what HTTP 200 without a status means
		if fail {
			ctx, ended = metadata.AppendToOutgoingContext(ctx, "fail", "1"), "[5]"
		}
		cs := stream(t, ctx, cc)
		_ = cs.CloseSend()
		_, _ = recv(cs)
		md := <-seen
		if got := fmt.Sprintf("%x %x", md["fixed-bin"], md["copy-bin"]); got != "[00ff] [00ff]" {
			t.Errorf("the backend saw %s", got)
		}
		head, _ := cs.Header()
		if fail {
			head = cs.Trailer()
		}
		if got := fmt.Sprintf("%x %x %s %s", head["back-bin"], head["again-bin"], head["echoed"], head["ended"]); got != "[00ff] [01fe] [<e>] "+ended {
			t.Errorf("failing %v: the client saw %s", fail, got)
		}
	}
}

// fixed is a Director that sends every call to one set, as the parts of a
// compiled snapshot can be put together by hand.
type fixed struct{ set call.BackendSet }

func (f fixed) Direct(*call.Call) (call.Decision, error) { return call.Decision{Backends: f.set}, nil }

func edge(t *testing.T, d call.Director) *listener.Listener {
	t.Helper()
	chains, err := listener.NewTable(nil, &listener.Chain{Manager: &call.Manager{Director: d}})
	if err != nil {
		t.Fatal(err)
	}
	return &listener.Listener{Name: "edge", Chains: chains}
}

func endpoints(addrs ...string) *cluster.Assignment {
	l := cluster.Locality{Weight: 1}
	for _, a := range addrs {
		l.Endpoints = append(l.Endpoints, cluster.Endpoint{Network: "tcp", Address: a})
	}
	return &cluster.Assignment{Localities: []cluster.Locality{l}}
}

// 1.59: calls go round the endpoints, an update of the endpoints counts with
// the next call and not for those in progress, and the balancer's accounts are
// even at the end.
func TestXDSDirectorFollowsEndpoints(t *testing.T) {
	a, b := startBackend(t, echo), startBackend(t, named("b"))
	cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
	cl.Update(endpoints(a))
	h := cluster.NewHandle("c")
	h.Set(cl)
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	cc := startProxy(t, grpcproxy.TransparentHandler(d.Direct))

	if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("without a listener: %v", err)
	}
	if err := d.Serve(edge(t, fixed{h})); err != nil {
		t.Fatal(err)
	}
	long := stream(t, testContext(t), cc)
	send(t, long, "1")
	want(t, long, "1")

	cl.Update(endpoints(b))
	d.Sweep()
	for range 3 {
		if got, err := ask(t, testContext(t), cc, "x"); got != "b" || err != nil {
			t.Errorf("after the update: %q, %v", got, err)
		}
	}
	send(t, long, "2")
	want(t, long, "2")
	_ = long.CloseSend()
	if _, err := recv(long); !errors.Is(err, io.EOF) {
		t.Error(err)
	}

	cl.Update(endpoints(a, b))
	got := map[string]int{}
	for range 10 {
		m, err := ask(t, testContext(t), cc, "a")
		if err != nil {
			t.Fatal(err)
		}
		got[m]++
	}
	if got["a"] != 5 || got["b"] != 5 {
		t.Errorf("shares %v", got)
	}
	for _, hs := range cl.Hosts() {
		if hs.Active != 0 {
			t.Errorf("%s has %d calls when all have ended", hs.Address, hs.Active)
		}
	}
	d.Remove("edge")
	if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("after the listener has gone: %v", err)
	}
}

// unaccounted is a set that fails when a call has ended.
type unaccounted struct{ call.BackendSet }

func (unaccounted) Done(call.Host, *call.Outcome) { panic("oh") }

// 1.59: a panic in a backend set's account of a call is not the call's.
func TestXDSDirectorDonePanics(t *testing.T) {
	cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
	cl.Update(endpoints(startBackend(t, echo)))
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	if err := d.Serve(edge(t, fixed{unaccounted{cl}})); err != nil {
		t.Fatal(err)
	}
	cc := startProxy(t, grpcproxy.TransparentHandler(d.Direct))
	if got, err := ask(t, testContext(t), cc, "x"); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// hostless is a set that has neither a host nor an error.
type hostless struct{ call.BackendSet }

func (hostless) Pick(*call.Call, int) (call.Host, error) { return nil, nil } //nolint:nilnil // what is tested

// 1.59: a backend set without a host and without an error is one without a
// host.
func TestXDSDirectorNoHost(t *testing.T) {
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	if err := d.Serve(edge(t, fixed{hostless{}})); err != nil {
		t.Fatal(err)
	}
	cc := startProxy(t, grpcproxy.TransparentHandler(d.Direct))
	if _, err := ask(t, testContext(t), cc, "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("%v, want UNAVAILABLE", err)
	}
}

// pending is a Director that decides later.
type pending struct {
	set  call.BackendSet
	err  error
	wait bool
}

func (p *pending) Direct(c *call.Call) (call.Decision, error) {
	if !p.wait {
		p.wait = true
		h := c.Handle
		go h.Resume(p.err)
		return call.Decision{}, call.ErrPending
	}
	return call.Decision{Backends: p.set}, nil
}

// 1.59: a Director may answer later, or fail; a call that is waiting ends with
// its client.
func TestXDSDirectorPending(t *testing.T) {
	cl := cluster.New(cluster.Config{Name: "c", Options: &call.UpstreamOptions{}})
	cl.Update(endpoints(startBackend(t, echo)))
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{Listener: "edge"})
	defer d.Close()
	cc := startProxy(t, grpcproxy.TransparentHandler(d.Direct))
	for _, p := range []*pending{{set: cl}, {set: cl, err: call.ReplyOverflow}} {
		if err := d.Serve(edge(t, p)); err != nil {
			t.Fatal(err)
		}
		got, err := ask(t, testContext(t), cc, "x")
		if p.err == nil && (got != "x" || err != nil) || p.err != nil && status.Code(err) != codes.Unavailable {
			t.Errorf("%v: %q, %v", p.err, got, err)
		}
	}
	never := directorFunc(func(*call.Call) (call.Decision, error) { return call.Decision{}, call.ErrPending })
	if err := d.Serve(edge(t, never)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	cs, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(grpcproxy.Codec()))
	if err == nil { // or the time was over before the call began
		_, err = recv(cs)
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

type directorFunc func(*call.Call) (call.Decision, error)

func (f directorFunc) Direct(c *call.Call) (call.Decision, error) { return f(c) }

// Header operations of a route are made as by the relay: the levels one after
// the other, each of which removes, overwrites and then appends. What replaces a
// host is appended to x-forwarded-host.
func TestXDSHeaderLevels(t *testing.T) {
	seen := make(chan metadata.MD, 1)
	d := attach(t, bootstrapOf(`
            - name: all
              domains: ["*"]
              request_headers_to_remove: [gone]
              request_headers_to_add:
              - {header: {key: of-route, value: "<%REQ(route)%>"}}
              - {header: {key: of-removed, value: "<%REQ(gone)%>"}}
              response_headers_to_add:
              - {header: {key: of-route, value: "<%RESP(route)%>"}}
              routes:
              - match: {prefix: /}
                route: {cluster: c, host_rewrite_literal: other, append_x_forwarded_host: true}
                request_headers_to_add:
                - {header: {key: route, value: r}}
                - {header: {key: two, value: a}}
                - {header: {key: two, value: o}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
                - {header: {key: both, value: "1"}}
                - {header: {key: both, value: "2"}, append_action: ADD_IF_ABSENT}
                - {header: {key: late, value: "<%REQ(two)%>"}}
                response_headers_to_add:
                - {header: {key: route, value: "<%REQ(two)%>"}}
`, map[string]string{"c": startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		seen <- md
		return ss.SendHeader(nil)
	})}))
	cc := startProxy(t, grpcproxy.TransparentHandler(d.Direct))
	for _, tt := range []struct{ given, want string }{
		{"", "[client]"}, {"first", "[first,client]"}, {"first, client", "[first, client]"},
	} {
		ctx := metadata.AppendToOutgoingContext(testContext(t), "gone", "g", "two", "c")
		if tt.given != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-forwarded-host", tt.given)
		}
		cs := stream(t, ctx, cc, grpc.CallAuthority("client"))
		_ = cs.CloseSend()
		head, _ := cs.Header()
		md := <-seen
		if got := fmt.Sprint(md[":authority"], md["x-forwarded-host"]); got != "[other] "+tt.want {
			t.Errorf("hosts: %s, want %s", got, tt.want)
		}
		if got := fmt.Sprint(md["gone"], md["of-removed"], md["of-route"], md["two"], md["both"], md["late"]); got != "[] [<>] [<r>] [o a] [1 2] [<c>]" {
			t.Errorf("the backend saw %s", got)
		}
		if got := fmt.Sprint(head["route"], head["of-route"]); got != "[<o>] [<<o>>]" {
			t.Errorf("the client saw %s", got)
		}
	}
}

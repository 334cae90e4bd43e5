package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// fixedConfig is a proxy without a control plane whose bootstrap adds nothing
// to any call. The strings are YAML in flow style, put into the message that
// their name says; each begins with a comma or is empty.
type fixedConfig struct {
	hcm, http2, common string   // HttpConnectionManager, and two messages in it
	route, action      string   // Route, RouteAction
	cluster, upstream  string   // Cluster, its http2_protocol_options
	ports              []int    // of the cluster's endpoints
	args               []string // of the program
}

// yaml renders the bootstrap for a listener on port.
func (f fixedConfig) yaml(port, admin int) string {
	var eps strings.Builder
	for _, p := range f.ports {
		fmt.Fprintf(&eps, "        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n", p)
	}
	return fmt.Sprintf(`
node: {id: fixed, cluster: fixed}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: HTTP2
          server_header_transformation: PASS_THROUGH
          proxy_100_continue: true
          generate_request_id: false
          stream_idle_timeout: 0s
          max_request_headers_kb: 96
          common_http_protocol_options: {max_headers_count: 200%s}
          http2_protocol_options: {max_concurrent_streams: 500%s}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}
          route_config:
            name: r
            request_headers_to_remove: [x-forwarded-proto]
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - {match: {prefix: /}, route: {cluster: up, timeout: 0s, max_stream_duration: {grpc_timeout_header_max: 0s}%s}%s}
          %s
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 3s
    %s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {initial_stream_window_size: 65536%s}}
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
%s`, admin, port, f.common, f.http2, f.action, f.route, f.hcm, f.cluster, f.upstream, eps.String())
}

// startFixed runs a proxy with one worker, so that tests know which upstream
// connection serves a call.
func startFixed(t *testing.T, f fixedConfig) *proxy {
	t.Helper()
	return startFixedOn(t, f, freePort(t))
}

// startFixedOn is startFixed with a port of the caller's.
func startFixedOn(t *testing.T, f fixedConfig, port int) *proxy {
	t.Helper()
	p := &proxy{id: "proxy", port: port, admin: freePort(t)}
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	write(t, file, f.yaml(p.port, p.admin))
	p.Process = start(t, p.id, "dataplane", append([]string{"-c", file, "--concurrency", "1"}, f.args...)...)
	t.Cleanup(p.Kill) // no test here is about a quiet end, which takes a second
	p.waitReady(t)
	return p
}

// waitReady waits until the listeners of the bootstrap serve.
func (p *proxy) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, p.id+" is ready", func() error {
		_, err := p.get("/ready")
		return err
	})
}

// listen runs a raw server until the test ends.
func listen(t *testing.T, o rawh2.Options) *rawh2.Server {
	t.Helper()
	s, err := rawh2.Listen(o)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// connect connects a raw client until the test ends.
func connect(t *testing.T, port int, o rawh2.Options) *rawh2.Conn {
	t.Helper()
	c, err := rawh2.Dial(fmt.Sprintf("127.0.0.1:%d", port), o)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// request makes the headers of a gRPC call and adds more.
func request(more ...string) []rawh2.Field {
	return rawh2.Fields(append([]string{
		":method", "POST", ":scheme", "http", ":path", "/acme.Shop/Buy", ":authority", "shop.example:8080",
		"content-type", "application/grpc", "te", "trailers",
	}, more...)...)
}

// response makes the headers of a gRPC response and adds more.
func response(more ...string) []rawh2.Field {
	return rawh2.Fields(append([]string{":status", "200", "content-type", "application/grpc"}, more...)...)
}

// trailers makes those of a successful call and adds more.
func trailers(more ...string) []rawh2.Field {
	return rawh2.Fields(append([]string{"grpc-status", "0"}, more...)...)
}

// message frames a gRPC message.
func message(flag byte, payload string) []byte {
	n := len(payload)
	return append([]byte{flag, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, payload...)
}

// exchange is one call between a client and a server. The script of a test
// plays both.
type exchange struct {
	*testing.T
	conn   *rawh2.Conn
	srv    *rawh2.Server
	cl, sv *rawh2.Stream
}

// open sends the request's headers and waits for them at the server.
func (x *exchange) open(end bool, fields []rawh2.Field) {
	x.Helper()
	x.cl = x.conn.Open(end, fields)
	sv, err := x.srv.AcceptStream()
	must(x.T, err)
	x.sv = sv
}

func (x *exchange) must(err error) {
	x.Helper()
	must(x.T, err)
}

// settle lets everything that is under way arrive.
func (x *exchange) settle() {
	x.Helper()
	for _, c := range []*rawh2.Conn{x.conn, x.sv.Conn(), x.conn, x.sv.Conn()} {
		x.must(c.Sync())
	}
}

// scene is a raw server, a proxy in front of it, and ways to both.
type scene struct {
	srv *rawh2.Server
	p   *proxy
}

func newScene(t *testing.T, f fixedConfig) *scene {
	t.Helper()
	s := &scene{srv: listen(t, rawh2.Options{})}
	f.ports = []int{s.srv.Port()}
	s.p = startFixed(t, f)
	// The upstream connection is there before anything is measured.
	s.run(t, s.p.port, func(x *exchange) {
		x.open(true, request())
		x.sv.Headers(true, response("grpc-status", "0"))
		x.must(x.cl.WaitEnd())
	})
	return s
}

// run plays a script over a connection of its own to port.
func (s *scene) run(t *testing.T, port int, script func(x *exchange)) (client, server []string) {
	t.Helper()
	c, err := rawh2.Dial(fmt.Sprintf("127.0.0.1:%d", port), rawh2.Options{})
	must(t, err)
	defer c.Close()
	x := &exchange{T: t, conn: c, srv: s.srv}
	script(x)
	x.settle()
	return x.cl.Text(), x.sv.Text()
}

// same plays a script without the proxy and through it: both ends must see the
// same.
func (s *scene) same(t *testing.T, script func(x *exchange)) {
	t.Helper()
	wantClient, wantServer := s.run(t, s.srv.Port(), script)
	client, server := s.run(t, s.p.port, script)
	if d := cmp.Diff(unmarked(wantServer), unmarked(server)); d != "" {
		t.Errorf("what the server sees (-without +through the proxy):\n%s", d)
	}
	if d := cmp.Diff(unmarked(wantClient), unmarked(client)); d != "" {
		t.Errorf("what the client sees (-without +through the proxy):\n%s", d)
	}
}

// unmarked takes the never-indexed marks away: an intermediary may add them
// (RFC 7541 §7.1.3). That it never drops one has a test of its own.
func unmarked(lines []string) []string {
	out := slices.Clone(lines)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "(never indexed)", "")
	}
	return out
}

// TestSameFails proves that same can: a proxy that adds one header is found.
func TestSameFails(t *testing.T) {
	s := newScene(t, fixedConfig{route: `, request_headers_to_add: [{header: {key: x-added, value: "1"}}], response_headers_to_add: [{header: {key: x-added, value: "2"}}]`})
	script := func(x *exchange) {
		x.open(true, request())
		x.sv.Headers(true, response("grpc-status", "0"))
		x.must(x.cl.WaitEnd())
	}
	wantClient, wantServer := s.run(t, s.srv.Port(), script)
	client, server := s.run(t, s.p.port, script)
	if cmp.Equal(wantServer, server) || !strings.HasSuffix(server[0], ` x-added="1"`) {
		t.Errorf("the server sees %q", server)
	}
	if cmp.Equal(wantClient, client) || !strings.HasSuffix(client[0], ` x-added="2"`) {
		t.Errorf("the client sees %q", client)
	}
}

// withFields puts fields in place of those of the same name in base, and the
// others behind it. A value of "-" takes the field away.
func withFields(base []rawh2.Field, nv ...string) []rawh2.Field {
	out := slices.Clone(base)
	for _, f := range rawh2.Fields(nv...) {
		i := slices.IndexFunc(out, func(g rawh2.Field) bool { return g.Name == f.Name })
		switch {
		case i >= 0 && f.Value == "-":
			out = slices.Delete(out, i, i+1)
		case i >= 0:
			out[i] = f
		default:
			out = append(out, f)
		}
	}
	return out
}

package attack

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sluice-proxy/sluice/internal/tlstest"
	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/proc"
)

// proxy is the binary under attack. One listener has two routes: /bad/ to the
// cluster bad, everything else to good; another one has the same and TLS.
// Circuit breakers are open wide, so that it is the core's limits that hold.
type proxy struct {
	*proc.Process
	addr, tls string
	admin     proc.Admin
	roots     *x509.CertPool // of tls
}

const bootstrapYAML = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters: &filters
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: HTTP2
          request_headers_timeout: %gs
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            name: r
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - {match: {prefix: /bad/}, route: {cluster: bad}}
              - {match: {prefix: /}, route: {cluster: good, timeout: 0s}}
  - name: tls
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters: *filters
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context: {alpn_protocols: [h2], tls_certificates: [{certificate_chain: {filename: "%s"}, private_key: {filename: "%s"}}]}
  clusters:
  - &cluster
    name: good
    type: STATIC
    connect_timeout: 20s
    circuit_breakers: {thresholds: [{max_requests: 1000000, max_pending_requests: 1000000}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: good
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]
  - <<: *cluster
    name: bad
    load_assignment:
      cluster_name: bad
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]
`

// headerTimeout is configured so that a test can wait for it.
const headerTimeout = 500 * time.Millisecond

// startProxy runs the proxy in front of the ports of two backends until the
// test ends, and waits until it serves.
func startProxy(t *testing.T, good, bad int) *proxy {
	t.Helper()
	port, secure, admin := proc.FreePort(t), proc.FreePort(t), proc.FreePort(t)
	dir := t.TempDir()
	file, chain, key := filepath.Join(dir, "bootstrap.yaml"), filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	ca := tlstest.CA(t, "ca")
	leaf := ca.Leaf(t, "victim", tlstest.DNS(victim))
	for name, b := range map[string][]byte{chain: leaf.Chain, key: leaf.PEM} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(bootstrapYAML, admin, port, headerTimeout.Seconds(), secure, chain, key, good, bad)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &proxy{Process: proc.Run(t, "dataplane", program, "-c", file), addr: loopback(port), tls: loopback(secure),
		admin: proc.Admin(loopback(admin)), roots: x509.NewCertPool()}
	p.roots.AddCert(ca.Cert)
	t.Cleanup(p.Kill) // no drain
	proc.Eventually(t, patience, "the proxy is ready", func() error {
		select {
		case <-p.Done():
			t.Fatalf("the proxy ended: %s", p.Exit())
		default:
		}
		_, err := p.admin.Get("/ready")
		return err
	})
	return p
}

// victim is whom the certificate names.
const victim = "victim.org"

// stats returns all stats. Those of the listener with TLS are called
// listener.tls.*.
func (p *proxy) stats(t *testing.T) map[string]float64 {
	t.Helper()
	in, err := p.admin.Stats("")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64, len(in))
	for name, v := range in {
		if rest, ok := strings.CutPrefix(name, "listener."+strings.ReplaceAll(p.tls, ":", "_")); ok {
			name = "listener.tls" + rest
		}
		out[name] = v
	}
	return out
}

// heap returns the heap in use after two collections, in bytes.
func (p *proxy) heap(t *testing.T) int {
	t.Helper()
	for range 2 {
		if _, err := p.admin.Get("/heap_dump"); err != nil {
			t.Fatal(err)
		}
	}
	body, err := p.admin.Get("/memory")
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Allocated int64 `json:",string"`
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("/memory: %v: %s", err, body)
	}
	return int(m.Allocated)
}

// rss returns the resident memory of the process in bytes, 0 where the system
// does not tell.
func (p *proxy) rss() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest + " 0")[0])
	if err != nil {
		return 0
	}
	return kb << 10
}

// bigAnswer is the size of what any method but Echo's is answered with.
const bigAnswer = 64 << 10

// hang is a method of the good backend that reads nothing and never answers.
const hang = "/attack.Hang/Hang"

// startGood runs the backend that is attacked through the proxy: Echo, hang,
// and for every other method one message of bigAnswer bytes.
func startGood(t *testing.T) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	big := func(_ any, ss grpc.ServerStream) error {
		if m, _ := grpc.MethodFromServerStream(ss); m == hang {
			<-ss.Context().Done()
			return ss.Context().Err()
		}
		if err := ss.RecvMsg(&echo.SayRequest{}); err != nil {
			return err
		}
		return ss.SendMsg(&echo.SayResponse{Payload: make([]byte, bigAnswer)})
	}
	_, stop := echo.Start(ln, &echo.Server{Instance: "good"}, grpc.UnknownServiceHandler(big))
	t.Cleanup(stop)
	return ln.Addr().(*net.TCPAddr).Port
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

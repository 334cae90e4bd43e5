package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/proc"
)

var freePort = proc.FreePort

// longest is how long anything may take that has no time of its own: seconds
// on a machine that has much else to do.
const longest = 30 * time.Second

// eventually polls check until it succeeds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	proc.Eventually(t, longest, what, check)
}

// start runs a program of this module until the test ends.
func start(t *testing.T, name, bin string, args ...string) *proc.Process {
	t.Helper()
	return proc.Run(t, name, filepath.Join(bins, bin), args...)
}

// backend is an example server that counts its calls.
type backend struct {
	name string
	port int
}

// startBackend serves Echo under name until the test ends.
func startBackend(t *testing.T, name string, opts ...grpc.ServerOption) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, stop := echo.Start(ln, &echo.Server{Instance: name}, opts...)
	t.Cleanup(stop)
	return &backend{name: name, port: ln.Addr().(*net.TCPAddr).Port}
}

// bootstrapYAML is the bootstrap of a node whose control plane is on port cp of
// this machine; admin is its admin's port, 0: any.
func bootstrapYAML(id, group string, cp, admin int) string {
	return fmt.Sprintf(`
node: {id: %s, cluster: %s}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 20s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: xds
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]
`, id, group, admin, cp)
}

// proxy is one data plane.
type proxy struct {
	*proc.Process
	id          string
	port, admin int
}

// startProxy starts a data plane of group, whose control plane is at cp, and
// waits until its admin answers.
func startProxy(t *testing.T, group, id string, cp int, extra ...string) *proxy {
	t.Helper()
	p := &proxy{id: id, admin: freePort(t)}
	file := filepath.Join(t.TempDir(), id+".yaml")
	write(t, file, bootstrapYAML(id, group, cp, p.admin))
	p.Process = start(t, id, "dataplane", append([]string{"-c", file}, extra...)...)
	p.waitAdmin(t)
	return p
}

func (p *proxy) waitAdmin(t *testing.T) {
	t.Helper()
	eventually(t, "the admin of "+p.id+" answers", func() error {
		_, err := p.get("/server_info")
		return err
	})
}

// get asks the proxy's admin.
func (p *proxy) get(path string) (string, error) {
	return proc.Admin(fmt.Sprintf("127.0.0.1:%d", p.admin)).Get(path)
}

// stat returns one of the proxy's stats.
func (p *proxy) stat(t *testing.T, name string) float64 {
	t.Helper()
	stats, err := proc.Admin(fmt.Sprintf("127.0.0.1:%d", p.admin)).Stats("^" + strings.ReplaceAll(name, ".", `\.`) + "$")
	if err != nil {
		t.Fatal(err)
	}
	v, ok := stats[name]
	if !ok {
		t.Fatalf("%s has no stat %s", p.id, name)
	}
	return v
}

// dial connects a grpc-go client without any retry.
func dial(t *testing.T, port int) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// waitServing waits until a call through port succeeds.
func waitServing(t *testing.T, port int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	if _, err := echo.NewEchoClient(dial(t, port)).Say(ctx, &echo.SayRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatalf("the proxy on port %d does not serve: %v", port, err)
	}
}

// write replaces a file in one step, as a deployment would.
func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".tmp")
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		t.Fatal(err)
	}
}

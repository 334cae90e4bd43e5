package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
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

// freePort reserves nothing: it returns a loopback port that was free a moment
// ago.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// start runs a program until the test ends; its output is shown if the test
// failed.
func start(t *testing.T, name, bin string, args ...string) *proc.Process {
	t.Helper()
	p, err := proc.Start(name, filepath.Join(bins, bin), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Log(p.Report())
		}
	})
	return p
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
    connect_timeout: 1s
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
	eventually(t, 10*time.Second, "the admin of "+p.id+" answers", func() error {
		_, err := p.get("/server_info")
		return err
	})
}

// get asks the proxy's admin.
func (p *proxy) get(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", p.admin, path), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return string(b), err
}

// stat returns one of the proxy's stats.
func (p *proxy) stat(t *testing.T, name string) float64 {
	t.Helper()
	body, err := p.get("/stats?format=json&filter=^" + strings.ReplaceAll(name, ".", `\.`) + "$")
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Stats []struct {
			Name  string
			Value float64
		}
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("/stats: %v: %s", err, body)
	}
	for _, s := range out.Stats {
		if s.Name == name {
			return s.Value
		}
	}
	t.Fatalf("%s has no stat %s", p.id, name)
	return 0
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
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if _, err := echo.NewEchoClient(dial(t, port)).Say(ctx, &echo.SayRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatalf("the proxy on port %d does not serve: %v", port, err)
	}
}

// eventually polls check until it succeeds.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		time.Sleep(20 * time.Millisecond) // polling another process
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

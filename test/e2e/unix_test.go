package e2e

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/test/echo"
)

// TestUnixSockets: a listener on a Unix socket and an abstract one, clusters
// whose hosts are such; every way through, with a stream.
func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	downs := map[string]string{"unix:" + dir + "/in.sock": dir + "/in.sock"}
	ups := map[string]string{"path": dir + "/up.sock"}
	if runtime.GOOS == "linux" {
		name := "sluice-" + filepath.Base(filepath.Dir(dir))
		downs["unix-abstract:"+name] = "@" + name
		ups["abstract"] = "@" + name + "-up"
	}
	for name, path := range ups {
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, stop := echo.Start(ln, &echo.Server{Instance: name})
		t.Cleanup(stop)
	}
	listeners, routes, clusters := "", "", ""
	for name, path := range ups {
		routes += fmt.Sprintf("{match: {prefix: /, headers: [{name: to, string_match: {exact: %s}}]}, route: {cluster: %s}}, ", name, name)
		clusters += fmt.Sprintf(`
  - name: %s
    type: STATIC
    http2_protocol_options: {}
    load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: "%s"}}}}]}]}`, name, name, path)
	}
	i := 0
	for _, path := range downs {
		i++
		listeners += fmt.Sprintf(`
  - name: in%d
    address: {pipe: {path: "%s"}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config: {name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [%s]}]}`, i, path, routes)
	}
	p := &proxy{id: "unix", admin: freePort(t)}
	file := filepath.Join(dir, "bootstrap.yaml")
	write(t, file, fmt.Sprintf(`
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
static_resources:
  listeners:%s
  clusters:%s
`, p.admin, listeners, clusters))
	p.Process = start(t, p.id, "dataplane", "-c", file)
	p.waitReady(t)
	for target := range downs {
		cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		for name := range ups {
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "to", name), longest)
			defer cancel()
			resp, err := echo.NewEchoClient(cc).Say(ctx, &echo.SayRequest{Text: "x"})
			if err != nil || resp.GetInstance() != name {
				t.Errorf("%s to %s: %v, %v", target, name, resp, err)
			}
			st, err := echo.NewEchoClient(cc).Chat(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Send(&echo.SayRequest{Text: "x"}); err != nil {
				t.Fatal(err)
			}
			if _, err := st.Recv(); err != nil {
				t.Errorf("%s to %s: %v", target, name, err)
			}
			_ = st.CloseSend()
		}
	}
}

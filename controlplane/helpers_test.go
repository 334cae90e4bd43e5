package controlplane

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// files are a directory by path; a value "-> x" is a link to x.
type files map[string]string

func (f files) write(t *testing.T, root string) {
	t.Helper()
	for name, content := range f {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, p)
		} else {
			err = writeAside(p, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// writeAside replaces a file as a whole.
func writeAside(p, content string) error {
	if err := os.WriteFile(p+".new", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(p+".new", p)
}

func (f files) dir(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	f.write(t, root)
	return root
}

// The YAML of small resources.

func clusterYAML(name string) string {
	return fmt.Sprintf(`
- "@type": %s
  name: %s
  type: EDS
  connect_timeout: 1s
  eds_cluster_config: { eds_config: { ads: {}, resource_api_version: V3 } }
`, resourcev3.ClusterType, name)
}

func endpointsYAML(name string, port int) string {
	return fmt.Sprintf(`
- "@type": %s
  cluster_name: %s
  endpoints:
  - lb_endpoints:
    - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: %d } } }
`, resourcev3.EndpointType, name, port)
}

func routesYAML(name, cluster string) string {
	return fmt.Sprintf(`
- "@type": %s
  name: %s
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - match: { prefix: "/" }
      route: { cluster: %s, timeout: 0s }
`, resourcev3.RouteType, name, cluster)
}

func resourcesYAML(list ...string) string { return "resources:\n" + strings.Join(list, "") }

// Small resources as messages.

func edsCluster(name string, buffer int) proto.Message {
	return &clusterv3.Cluster{
		Name:                          name,
		ConnectTimeout:                durationpb.New(time.Second),
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(uint32(buffer)),
	}
}

func assignment(name string, weight int) proto.Message {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{Priority: uint32(weight)}}}
}

func routeTo(name string, clusters ...string) proto.Message {
	rc := &routev3.RouteConfiguration{Name: name}
	for _, c := range clusters {
		rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{Name: c, Routes: []*routev3.Route{{
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: c}}},
		}}})
	}
	return rc
}

func listener(name string) proto.Message { return &listenerv3.Listener{Name: name} }

func resources(t testing.TB, list ...proto.Message) Resources {
	t.Helper()
	out := Resources{}
	for _, m := range list {
		url := "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
		r, err := newResource(url, place{}, m)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.add(r); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// configDir is a control plane's directory with one group.
type configDir struct {
	root, group string
}

func newConfigDir(t *testing.T, group string) *configDir {
	t.Helper()
	return &configDir{root: t.TempDir(), group: group}
}

// put writes one file of resources.
func (d *configDir) put(t *testing.T, file string, resources ...string) {
	t.Helper()
	write(t, filepath.Join(d.root, d.group, file), "resources:\n"+strings.Join(resources, ""))
}

func listener(name string, port int, routes string) string {
	return fmt.Sprintf(`
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: %s
  address: {socket_address: {address: 127.0.0.1, port_value: %d}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: %s
        codec_type: HTTP2
        rds: {route_config_name: %s, config_source: {ads: {}, resource_api_version: V3}}
        http_filters:
        - name: envoy.filters.http.router
          typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`, name, port, name, routes)
}

func cluster(name string) string {
	return fmt.Sprintf(`
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: %s
  type: EDS
  connect_timeout: 20s
  eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: {http2_protocol_options: {}}
`, name)
}

func endpoints(name string, backends ...*backend) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: %s
  endpoints:
  - locality: {zone: z}
    lb_endpoints:
`, name)
	for _, be := range backends {
		fmt.Fprintf(&b, "    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n", be.port)
	}
	return b.String()
}

// revision is a route table whose every response carries x-rev, and which
// splits the calls between two clusters.
func revision(name string, rev, blueWeight int) string {
	return fmt.Sprintf(`
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: %s
  response_headers_to_add:
  - header: {key: x-rev, value: "%d"}
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - match: {prefix: /}
      route:
        timeout: 0s
        weighted_clusters: {clusters: [{name: blue, weight: %d}, {name: green, weight: %d}]}
`, name, rev, blueWeight, 100-blueWeight)
}

package admin

import (
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// config is a Config with two clusters.
type config struct {
	t     *testing.T
	ready chan struct{}
}

func (c *config) Ready() <-chan struct{} { return c.ready }

func (c *config) Dump() *xdsconfig.Dump {
	d := &adminv3.ClustersConfigDump{VersionInfo: "7"}
	for _, n := range []string{"web", "db"} {
		a, err := anypb.New(&clusterv3.Cluster{Name: n, AltStatName: "s"})
		if err != nil {
			c.t.Fatal(err)
		}
		d.DynamicActiveClusters = append(d.DynamicActiveClusters, &adminv3.ClustersConfigDump_DynamicCluster{Cluster: a})
	}
	return &xdsconfig.Dump{
		Bootstrap: &adminv3.BootstrapConfigDump{}, Clusters: d, Listeners: &adminv3.ListenersConfigDump{},
		Routes: &adminv3.RoutesConfigDump{}, Endpoints: &adminv3.EndpointsConfigDump{},
		Secrets: &adminv3.SecretsConfigDump{
			StaticSecrets:         []*adminv3.SecretsConfigDump_StaticSecret{{Name: "web-key"}, {Name: "web"}},
			DynamicActiveSecrets:  []*adminv3.SecretsConfigDump_DynamicSecret{{Name: "db-key"}},
			DynamicWarmingSecrets: []*adminv3.SecretsConfigDump_DynamicSecret{{Name: "new-key"}},
		},
	}
}

func (c *config) Status() xdsconfig.Status {
	ready := false
	select {
	case <-c.ready:
		ready = true
	default:
	}
	return xdsconfig.Status{Stage: "waiting for the first listeners", Ready: ready, Listeners: []xdsconfig.ListenerStatus{
		{Unit: xdsconfig.Unit{Name: "in", Warming: `routes "r"; secrets "s"`}},
	}, Clusters: []xdsconfig.ClusterStatus{
		{Unit: xdsconfig.Unit{Name: "warming", Warming: `endpoints "e"`}},
		{
			Unit:     xdsconfig.Unit{Name: "web", Serving: true},
			StatName: "w", EDSService: "ns/web",
			Hosts: []cluster.HostStatus{
				{Address: "10.0.0.1:80", Weight: 3, Health: cluster.HealthDraining},
				{Address: "[::1]:80", Connections: 2, ConnectionsTotal: 5, ConnectErrors: 1, Active: 3, Errors: 4, Pending: 6, Successes: 7, Timeouts: 8, Total: 9},
			},
			Default: cluster.DefaultThresholds(),
		},
	}}
}

func (c *config) Clusters() iter.Seq[xdsconfig.ClusterStatus] {
	return slices.Values(c.Status().Clusters)
}

func (c *config) Certificates() []*adminv3.Certificate {
	return []*adminv3.Certificate{{CertChain: []*adminv3.CertificateDetails{{SerialNumber: "2a", DaysUntilExpiration: 7}}}}
}

// TestPages asks each path and looks for what it must say.
func TestPages(t *testing.T) {
	cfg := &config{t: t, ready: make(chan struct{})}
	reg := telemetry.NewRegistry()
	reg.Counter("cluster_manager.cds.update_success").Add(2)
	reg.Counter("listener_manager.lds.update_success")
	scope := reg.Scope(telemetry.KindCluster, "web")
	var drains []Drain
	quit := 0
	level := new(slog.LevelVar)
	stopping := make(chan struct{})
	h := New(Options{
		Bootstrap: &bootstrapv3.Bootstrap{Node: &corev3.Node{Id: "n-1"}, LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{
			{Name: "low", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewNumberValue(5)}}}},
			{Name: "high"},
		}}},
		Registry: reg,
		Counters: counters{scope.Index: {call.UpstreamRqTotal: 9}},
		Listeners: func() []Listener {
			return []Listener{{"in", []string{"127.0.0.1:80", "/run/in.sock"}, true}, {"warming", []string{"127.0.0.1:81"}, false}}
		},
		Config:   cfg,
		Drain:    func(d Drain) { drains = append(drains, d) },
		Quit:     func() { quit++ },
		Stopping: stopping,
		Version:  "v",
		Level:    level,
	})
	ask := func(method, path string) (int, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec.Code, rec.Body.String()
	}
	steps := []struct {
		method, path string
		before       func()
		code         int
		has, hasNot  string
	}{
		{"GET", "/ready", nil, 503, "INITIALIZING\nServer: waiting for the first listeners\nCluster warming: endpoints \"e\"\nin: routes \"r\", secrets \"s\"\n", ""},
		{"GET", "/init_dump", nil, 200, `"name":"init manager Server"`, ""},
		{"GET", "/init_dump", nil, 200, `"routes \"r\"",`, ""},
		{"GET", "/ready", func() { close(cfg.ready) }, 200, "LIVE", ""},
		{"GET", "/server_info", nil, 200, `"n-1"`, ""},
		{"GET", "/server_info", nil, 200, `"state":"LIVE"`, ""},
		{"GET", "/stats", nil, 200, "cluster.web.upstream_rq_total: 9\n", ""},
		{"GET", "/stats?usedonly", nil, 200, "cluster_manager.cds.update_success: 2\n", "lds"},
		{"GET", "/stats?filter=^listener_manager", nil, 200, "listener_manager.lds.update_success: 0\n", "cluster"},
		{"GET", "/stats?filter=(", nil, 400, "filter", ""},
		{"GET", "/stats?format=json&filter=rq_total", nil, 200, `{"name":"cluster.web.upstream_rq_total","value":9}`, ""},
		{"GET", "/stats?format=xml", nil, 400, "xml", ""},
		{"GET", "/stats/prometheus", nil, 200, `envoy_cluster_upstream_rq_total{envoy_cluster_name="web"} 9`, ""},
		{"GET", "/listeners", nil, 200, "in::127.0.0.1:80\nin::/run/in.sock\n", "warming"},
		{"GET", "/listeners?format=json", nil, 200, `"port_value":80`, "warming"},
		{"GET", "/clusters", nil, 200, "web::default_priority::max_retries::3\n", "warming"},
		{"GET", "/clusters?format=json", nil, 200, `"eds_health_status":"DRAINING"`, ""},
		{"GET", "/clusters", nil, 200, "web::10.0.0.1:80::health_flags::/eds_status_draining\nweb::10.0.0.1:80::weight::3\n", ""},
		{"GET", "/clusters", nil, 200, "web::[::1]:80::health_flags::healthy\n", ""},
		{"GET", "/clusters", nil, 200, "web::observability_name::w\n", "UNKNOWN"},
		{"GET", "/clusters", nil, 200, "web::added_via_api::true\nweb::eds_service_name::ns/web\n", ""},
		{"GET", "/clusters", nil, 200, strings.ReplaceAll("cx_active::2\ncx_connect_fail::1\ncx_total::5\nrq_active::3\nrq_error::4\nrq_pending_active::6\nrq_success::7\nrq_timeout::8\nrq_total::9\nhostname::\n", "\n", "\nweb::[::1]:80::"), ""},
		{"GET", "/clusters", nil, 200, "web::[::1]:80::priority::0\nweb::[::1]:80::success_rate::-1\nweb::[::1]:80::local_origin_success_rate::-1\n", ""},
		{"GET", "/clusters?format=json", nil, 200, `"eds_service_name":"ns/web"`, ""},
		{"GET", "/config_dump", nil, 200, `"web"`, "EndpointsConfigDump"},
		{"GET", "/config_dump?include_eds", nil, 200, "EndpointsConfigDump", ""},
		{"GET", "/config_dump?name_regex=w.b", nil, 200, `"web"`, `"db"`},
		{"GET", "/config_dump?name_regex=w.b", nil, 200, "SecretsConfigDump", "-key"},
		{"GET", "/config_dump?name_regex=.*-key", nil, 200, `"new-key"`, `"web"`},
		{"GET", "/config_dump?resource=dynamic_active_clusters", nil, 200, `"name":"web"`, "version_info"},
		{"GET", "/config_dump?resource=dynamic_active_clusters&name_regex=db", nil, 200, `"name":"db"`, "web"},
		{"GET", "/config_dump?resource=static_clusters", nil, 200, "{}", "configs"},
		{"GET", "/config_dump?resource=nope", nil, 404, "nope not found in config dump", ""},
		{"GET", "/config_dump?resource=version_info", nil, 400, "not a repeated field", ""},
		{"GET", "/config_dump?resource=dynamic_active_clusters&mask=cluster.name", nil, 200, `"name":"web"`, "alt_stat_name"},
		{"GET", "/config_dump?resource=dynamic_active_clusters&mask=cluster.alt_stat_name,error_state", nil, 200, `"alt_stat_name":"s"`, "web"},
		{"GET", "/config_dump?resource=dynamic_active_clusters&mask=nope", nil, 400, "could not be successfully used", ""},
		{"GET", "/config_dump?resource=dynamic_active_clusters&mask=cluster.nope", nil, 400, "could not be successfully used", ""},
		{"GET", "/config_dump?mask=dynamic_active_clusters", nil, 200, `"web"`, "version_info"},
		{"GET", "/config_dump?mask=nope", nil, 400, "could not be successfully applied to any configs", ""},
		{"GET", "/config_dump?what", nil, 400, "what", ""},
		{"GET", "/init_dump", nil, 200, `"name":"init manager Listener-local-init-manager in"`, "Server"},
		{"GET", "/certs", nil, 200, `"days_until_expiration":"7"`, ""},
		{"GET", "/runtime", nil, 200, `{"layers":["low","high"],"entries":{"a":{"layer_values":["5",""],"final_value":"5"}}}`, ""},
		{"GET", "/logging", nil, 405, "", ""},
		{"POST", "/logging", nil, 200, "active loggers:\n  main: info\n", ""},
		{"POST", "/logging?level=debug", nil, 200, "main: debug", ""},
		{"POST", "/logging?level=loud", nil, 400, "want one of", ""},
		{"POST", "/logging?http=debug", nil, 400, "one logger", ""},
		{"POST", "/reset_counters", nil, 200, "OK", ""},
		{"GET", "/stats", nil, 200, "cluster.web.upstream_rq_total: 0\n", ""},
		{"GET", "/stats", func() { reg.Counter("cluster_manager.cds.update_success").Add(3) }, 200, "cluster_manager.cds.update_success: 3\n", ""},
		{"GET", "/memory", nil, 200, "allocated", ""},
		{"GET", "/heap_dump", nil, 200, "\x1f\x8b", ""}, // a gzip'd profile
		{"GET", "/", nil, 200, "/quitquitquit", ""},
		{"GET", "/nowhere", nil, 404, "", ""},
		{"GET", "/quitquitquit", nil, 405, "", ""},
		{"POST", "/drain_listeners", nil, 200, "OK", ""},
		{"POST", "/drain_listeners?graceful&inboundonly&skip_exit", nil, 200, "OK", ""},
		{"GET", "/ready", nil, 200, "LIVE", ""}, // as in Envoy
		{"POST", "/healthcheck/fail", nil, 200, "OK", ""},
		{"GET", "/ready", nil, 503, "DRAINING", ""},
		{"POST", "/healthcheck/ok", nil, 200, "OK", ""},
		{"GET", "/ready", nil, 200, "LIVE", ""},
		{"GET", "/server_info", func() { close(stopping) }, 200, `"state":"DRAINING"`, ""},
		{"POST", "/quitquitquit", nil, 200, "OK", ""},
	}
	squeeze := strings.NewReplacer(`": `, `":`)
	for _, s := range steps {
		if s.before != nil {
			s.before()
		}
		code, body := ask(s.method, s.path)
		flat := squeeze.Replace(body)
		if code != s.code || !strings.Contains(flat, s.has) || (s.hasNot != "" && strings.Contains(flat, s.hasNot)) {
			t.Errorf("%s %s: %d, want %d with %q and without %q:\n%s", s.method, s.path, code, s.code, s.has, s.hasNot, body)
		}
	}
	if want := []Drain{{}, {Graceful: true, InboundOnly: true, SkipExit: true}}; !slices.Equal(drains, want) || quit != 1 {
		t.Errorf("drains %+v, want %+v; quit %d times, want once", drains, want, quit)
	}
}

// counters are one worker's arrays: scope -> counter -> value.
type counters map[uint32]map[call.Counter]uint64

func (c counters) ReadCounters(f func(int, [][]uint64)) {
	arrays := make([][]uint64, 8)
	for scope, m := range c {
		arrays[scope] = make([]uint64, http.StatusContinue)
		for k, v := range m {
			arrays[scope][k] = v
		}
	}
	f(0, arrays)
}

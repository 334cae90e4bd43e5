package telemetry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// workers is a Source with fixed arrays.
type workers [][][]uint64

func (w workers) ReadCounters(f func(int, [][]uint64)) {
	for i, a := range w {
		f(i, a)
	}
}

// TestCollect counts on two workers, one of which has not seen the second
// scope yet, and expects sums under Envoy's names.
func TestCollect(t *testing.T) {
	r := NewRegistry()
	in := r.Scope(KindHTTP, "ingress")
	web := r.Scope(KindCluster, "web.v1")
	if again := r.Scope(KindHTTP, "ingress"); again != in {
		t.Errorf("the same name gave scope %v, then %v", in, again)
	}
	r.Counter("cluster_manager.cds.update_success").Add(3)
	r.GaugeFunc("server.live", func() uint64 { return 1 })

	r.Table([]Column{{Name: "http2.rapid_reset"}}, func(add func(call.Scope, []uint64)) {
		add(web, []uint64{3})
		add(call.Scope{}, []uint64{5}) // counts nowhere
		add(call.Scope{Index: 9}, []uint64{6})
		add(web, []uint64{1})
	})

	one := make([][]uint64, 3)
	one[in.Index] = make([]uint64, call.DownstreamCounters)
	one[in.Index][call.DownstreamRqTotal] = 5
	one[in.Index][call.DownstreamRq5xx] = 1
	one[in.Index][call.DownstreamCxRxBytes] = 9
	one[web.Index] = make([]uint64, call.UpstreamCounters)
	one[web.Index][call.UpstreamRqActive] = 2
	two := make([][]uint64, 2)
	two[in.Index] = make([]uint64, call.DownstreamCounters)
	two[in.Index][call.DownstreamRqTotal] = 7

	got := map[string]uint64{}
	stats := r.Collect(workers{one, two})
	for _, s := range stats {
		if s.Value != 0 {
			got[s.Name] = s.Value
		}
	}
	want := map[string]uint64{
		"http.ingress.downstream_rq_total":          12,
		"http.ingress.downstream_rq_5xx":            1,
		"http.ingress.downstream_cx_rx_bytes_total": 9,
		"cluster.web.v1.upstream_rq_active":         2,
		"cluster.web.v1.http2.rapid_reset":          4,
		"cluster_manager.cds.update_success":        3,
		"server.live":                               1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stats that are not zero (-want +got):\n%s", diff)
	}

	var b strings.Builder
	if err := r.Read(workers{one, two}, nil).WritePrometheus(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"# TYPE envoy_http_downstream_rq_total counter\n" + `envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="ingress"} 12`,
		"# TYPE envoy_cluster_upstream_rq_active gauge\n" + `envoy_cluster_upstream_rq_active{envoy_cluster_name="web.v1"} 2`,
		`envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="ingress",envoy_response_code_class="5"} 1`,
		`envoy_cluster_http2_rapid_reset{envoy_cluster_name="web.v1"} 4`,
		"envoy_cluster_manager_cds_update_success 3",
	} {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("no %q in the Prometheus text:\n%s", line, b.String())
		}
	}
}

// TestNames holds every counter to a name: a forgotten one would be empty.
func TestNames(t *testing.T) {
	for kind, l := range layouts {
		seen := map[string]bool{}
		for i, c := range l.columns {
			if c.Name == "" || seen[c.Name] {
				t.Errorf("kind %d: counter %d has no name of its own: %q", kind, i, c.Name)
			}
			seen[c.Name] = true
		}
	}
}

// TestServer: the gauges of the process have values that can be true.
func TestServer(t *testing.T) {
	r := NewRegistry()
	live := false
	r.AddServer(time.Now().Add(-time.Minute), func() bool { return live })
	read := func() map[string]uint64 {
		out := map[string]uint64{}
		for _, s := range r.Collect(nil) {
			out[s.Name] = s.Value
		}
		return out
	}
	got := read()
	if got["server.live"] != 0 || got["server.uptime"] < 60 || got["server.goroutines"] == 0 ||
		got["server.memory_allocated"] == 0 || got["server.memory_heap_size"] < got["server.memory_allocated"] {
		t.Errorf("got %v", got)
	}
	live = true
	if read()["server.live"] != 1 {
		t.Error("server.live does not follow")
	}
}

// Names of the configuration stand in stats as in Envoy: a cluster that is
// named like its address, in both forms.
func TestNamesAreSanitized(t *testing.T) {
	r := NewRegistry()
	r.Scope(KindCluster, "127.0.0.1:25001")
	r.Func(func(add func(Stat)) { add(TextStat("control_plane.identifier", "x")) })
	var names []string
	for _, s := range r.Collect(nil) {
		names = append(names, s.Name)
	}
	if want := "cluster.127.0.0.1_25001.upstream_rq_total"; !slices.Contains(names, want) {
		t.Errorf("no %s in %q", want, names)
	}
	var b strings.Builder
	if err := r.Read(nil, nil).WritePrometheus(&b); err != nil {
		t.Fatal(err)
	}
	if want := `envoy_cluster_upstream_rq_total{envoy_cluster_name="127.0.0.1_25001"} 0`; !strings.Contains(b.String(), want) || strings.Contains(b.String(), "identifier") {
		t.Errorf("want %s, and no text, in\n%s", want, b.String())
	}
}

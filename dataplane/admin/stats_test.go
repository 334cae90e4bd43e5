package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// TestStatsPages compares /stats with the same stats formatted by fmt and
// encoding/json at once: names and texts that need quotes, a histogram, filters.
func TestStatsPages(t *testing.T) {
	reg := telemetry.NewRegistry()
	numbers := counters{}
	for i, name := range []string{"web", "web.v1", "web-2", "a\"b\\c", "<&>", "é\xff\u2028", "x\ny\x7f"} {
		s := reg.Scope(telemetry.KindCluster, name)
		numbers[s.Index] = map[call.Counter]uint64{call.UpstreamRqTotal: uint64(i) * 1e6}
	}
	reg.Func(func(add func(telemetry.Stat)) {
		add(telemetry.TextStat("version_text", "v\"1\n<\xff>"))
		add(telemetry.TextStat("no_text", ""))
		add(telemetry.Stat{Name: "lock_us", Base: "lock_us", Value: 3, Histogram: &telemetry.Histogram{Buckets: []uint64{1, 2}, Sum: 5}})
		add(telemetry.Stat{Name: "none_us", Base: "none_us", Histogram: &telemetry.Histogram{Buckets: make([]uint64, 2)}})
	})
	h := &Handler{o: Options{Registry: reg, Counters: numbers}} // New would add stats that change
	for _, query := range []string{"", "usedonly", "filter=_text$", "filter=web.*total&usedonly", "filter=nothing", "filter=%5Cn|%3C"} {
		var text strings.Builder
		type stat struct {
			Name      string `json:"name"`
			Value     any    `json:"value"`
			Histogram string `json:"histogram,omitempty"`
		}
		list := []stat{}
		r := httptest.NewRequest("GET", "/stats?"+query, nil)
		filter := regexp.MustCompile(r.URL.Query().Get("filter"))
		for _, s := range reg.Collect(numbers) {
			if !filter.MatchString(s.Name) || (r.URL.Query().Has("usedonly") && s.Value == 0 && s.Text == "") {
				continue
			}
			st := stat{Name: s.Name, Value: s.Value}
			switch {
			case s.Histogram != nil:
				st.Histogram = s.Histogram.String()
				fmt.Fprintf(&text, "%s: %v\n", s.Name, s.Histogram)
			case s.IsText:
				st.Value = s.Text
				fmt.Fprintf(&text, "%s: %q\n", s.Name, s.Text)
			default:
				fmt.Fprintf(&text, "%s: %d\n", s.Name, s.Value)
			}
			list = append(list, st)
		}
		var js strings.Builder
		if err := json.NewEncoder(&js).Encode(map[string]any{"stats": list}); err != nil {
			t.Fatal(err)
		}
		for format, want := range map[string]string{"text": text.String(), "json": js.String()} {
			rec := httptest.NewRecorder()
			h.showStats(rec, r, format)
			if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
				t.Errorf("%s, %q: -want +got:\n%s", format, query, diff)
			}
		}
	}
}

// manyClusters returns a handler of n clusters that have taken calls.
func manyClusters(n int) *Handler {
	reg := telemetry.NewRegistry()
	arrays := make(arrays, n+1)
	for i := range n {
		s := reg.Scope(telemetry.KindCluster, fmt.Sprintf("service-%d.namespace.example", i))
		arrays[s.Index] = make([]uint64, call.UpstreamCounters)
		for k := range arrays[s.Index] {
			arrays[s.Index][k] = uint64(i * k)
		}
	}
	columns := make([]telemetry.Column, 30) // as of HTTP/2, membership and updates of endpoints
	for i := range columns {
		columns[i].Name = fmt.Sprintf("http2.column_%d", i)
	}
	reg.Table(columns, func(add func(call.Scope, []uint64)) {
		values := make([]uint64, len(columns))
		for i := range n {
			add(call.Scope{Index: uint32(i + 1)}, values)
		}
	})
	return New(Options{Registry: reg, Counters: arrays})
}

type arrays [][]uint64

func (a arrays) ReadCounters(f func(int, [][]uint64)) { f(0, a) }

// sink is a client that takes all. It knows the largest heap that it has seen.
type sink struct {
	header http.Header
	peak   uint64
	n      int
}

func (w *sink) Header() http.Header { return w.header }
func (w *sink) WriteHeader(int)     {}
func (w *sink) Write(b []byte) (int, error) {
	if w.n += len(b); w.n>>20 != (w.n-len(b))>>20 { // it stops the world
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.peak = max(w.peak, m.HeapAlloc)
	}
	return len(b), nil
}

// BenchmarkStats asks for the stats of 10,000 clusters.
//
//	go test -run xxx -bench Stats -benchmem ./dataplane/admin
func BenchmarkStats(b *testing.B) {
	h := manyClusters(10000)
	for _, path := range []string{"/stats", "/stats?usedonly", "/stats?filter=service-77[.]", "/stats?format=json", "/stats/prometheus"} {
		b.Run(path, func(b *testing.B) { benchmarkPage(b, h, path) })
	}
}

func benchmarkPage(b *testing.B, h *Handler, path string) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	}
	b.ReportMetric(float64(w.n)/float64(b.N)/1e6, "MB-page")
	if w.peak > 0 {
		b.ReportMetric((float64(w.peak)-float64(m.HeapAlloc))/1e6, "MB-peak")
	}
}

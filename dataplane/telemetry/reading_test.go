package telemetry

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// TestReadingIsSorted compares readings of random registries with all stats
// made, then sorted, then written as whole families: names that begin with one
// another or need quotes, scopes that are not shown or in no table, stats
// outside of scopes in families of scopes, several of one name, counters that
// were reset.
func TestReadingIsSorted(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r, src := randomRegistry(rnd)
		if rnd.IntN(2) == 0 {
			r.Reset(src)
			for _, w := range src {
				for _, a := range w {
					for k := range a {
						a[k] += rnd.Uint64N(3)
					}
				}
			}
		}
		var keep func([]byte, *Stat) bool
		if rnd.IntN(2) == 0 {
			keep = func(name []byte, s *Stat) bool { return s.Value%3 != 0 && !strings.HasSuffix(string(name), "total") }
		}
		want := slices.DeleteFunc(naive(r, src), func(s Stat) bool { return keep != nil && !keep([]byte(s.Name), &s) })
		got := []Stat{}
		x := r.Read(src, keep)
		for name, s := range x.All() {
			r.Scope(KindCluster, "new") // the registry is free meanwhile
			got = append(got, *s)
			got[len(got)-1].Name = string(name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: -want +got:\n%s", seed, diff)
		}
		var all, pieces strings.Builder
		if err := naivePrometheus(&all, want); err != nil {
			t.Fatal(err)
		}
		if err := x.WritePrometheus(&pieces); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all.String(), pieces.String()); diff != "" {
			t.Fatalf("seed %d: Prometheus: -want +got:\n%s", seed, diff)
		}
	}
}

func randomRegistry(rnd *rand.Rand) (*Registry, workers) {
	r := NewRegistry()
	parts := []string{"a", "b", "http2", "upstream_rq_total", "-", "é", "\"", "\n", "<&>", ".", ".", "\xff", "!", "rds"}
	name := func() (s string) {
		for range 1 + rnd.IntN(4) {
			s += parts[rnd.IntN(len(parts))]
		}
		return s
	}
	number := func() uint64 { return rnd.Uint64N(3) * rnd.Uint64N(1<<rnd.IntN(40)) }
	scopes := []call.Scope{{}, {Index: 1 << 20}}
	n := rnd.IntN(12)
	if rnd.IntN(40) == 0 {
		n = 2*metricsAtOnce + rnd.IntN(metricsAtOnce)
	}
	last := "-"
	for i := range n {
		last = name() + strings.Repeat("x", i/12)
		s := r.Scope(KindHTTP+Kind(rnd.IntN(3)), last)
		scopes = append(scopes, s)
		if rnd.IntN(4) == 0 {
			r.Hold(s)
			r.Drop(s)
		}
	}
	for i := range rnd.IntN(3) {
		columns := []Column{{Name: fmt.Sprintf("http2.x%d", i)}, {Name: fmt.Sprintf("a.gauge%d", i), Gauge: true}, {Name: fmt.Sprintf("z_%dxx", i)}}
		rows := map[call.Scope][]uint64{}
		for range rnd.IntN(12) {
			rows[scopes[rnd.IntN(len(scopes))]] = []uint64{number(), number(), number()}
		}
		r.Table(columns, func(add func(call.Scope, []uint64)) {
			for s, row := range rows {
				add(s, row)
				add(s, row)
			}
		})
	}
	for range rnd.IntN(4) {
		r.Counter("single." + name()).Add(number())
	}
	some := make([]Stat, rnd.IntN(6))
	for i := range some {
		switch s := &some[i]; rnd.IntN(4) {
		case 0:
			*s = TextStat("text."+name(), name())
		case 1:
			*s = Stat{Name: "h." + name(), Base: fmt.Sprint("h.", i), Value: 3, Histogram: &Histogram{Buckets: []uint64{1, 0, 2}, Sum: 9}}
		case 2: // several of one name
			*s = Stat{Name: "twice", Base: "twice", Value: number()}
		case 3: // in the family of a scope's, and perhaps of the same name
			*s = Stat{Name: "cluster." + Sanitize(last) + ".upstream_rq_total", Base: "cluster.upstream_rq_total", Value: number(), Label: "l", LabelValue: name()}
		}
	}
	r.Func(func(add func(Stat)) {
		for _, s := range some {
			add(s)
		}
	})
	var src workers
	for range 1 + rnd.IntN(2) {
		w := make([][]uint64, rnd.IntN(n+3))
		for i := range w {
			if rnd.IntN(4) > 0 {
				w[i] = make([]uint64, 64)
				for k := range w[i] {
					w[i][k] = number()
				}
			}
		}
		src = append(src, w)
	}
	return r, src
}

// naive makes all stats of a registry, and sorts them.
func naive(r *Registry, src workers) []Stat {
	has := r.snapshot()
	out := []Stat{}
	add := func(i int, c Column, value uint64) {
		s, l := has.scopes[i], layouts[has.scopes[i].kind]
		st := l.stat(c)
		st.Name, st.LabelValue, st.Value = s.prefix+c.Name, s.name, value
		out = append(out, st)
	}
	for i, s := range has.scopes {
		for k, c := range layouts[s.kind].columns {
			sum := uint64(0)
			for _, w := range src {
				if i < len(w) && w[i] != nil {
					sum += w[i][k]
				}
			}
			add(i, c, sum)
		}
	}
	for _, s := range has.singles {
		out = append(out, Stat{Name: s.name, Base: s.name, Gauge: s.gauge, Value: s.read()})
	}
	for _, t := range has.tables {
		rows := map[int][]uint64{}
		t.read(func(s call.Scope, values []uint64) {
			i := int(s.Index)
			if i >= len(has.scopes) || has.scopes[i].kind == 0 {
				return
			}
			if rows[i] == nil {
				rows[i] = make([]uint64, len(values))
			}
			for k, v := range values {
				rows[i][k] += v
			}
		})
		for i, row := range rows {
			for k, c := range t.columns {
				add(i, c, row[k])
			}
		}
	}
	for _, read := range has.funcs {
		read(func(s Stat) { out = append(out, s) })
	}
	slices.SortStableFunc(out, func(a, b Stat) int { return strings.Compare(a.Name, b.Name) })
	for i := range out {
		s := &out[i]
		if n := has.zero[s.Name]; s.counts() && n <= s.Value {
			s.Value -= n
		}
	}
	return out
}

// naivePrometheus writes sorted stats family by family, each of them whole.
func naivePrometheus(w io.Writer, stats []Stat) error {
	families := map[string]*dto.MetricFamily{}
	var order []string
	for i := range stats {
		s := &stats[i]
		if s.IsText {
			continue
		}
		kind, m := dto.MetricType_COUNTER, &dto.Metric{}
		switch {
		case s.Histogram != nil:
			kind, m.Histogram = dto.MetricType_HISTOGRAM, s.Histogram.prometheus()
		case s.Gauge:
			kind, m.Gauge = dto.MetricType_GAUGE, &dto.Gauge{Value: proto.Float64(float64(s.Value))}
		default:
			m.Counter = &dto.Counter{Value: proto.Float64(float64(s.Value))}
		}
		if s.Label != "" {
			m.Label = append(m.Label, &dto.LabelPair{Name: &s.Label, Value: &s.LabelValue})
		}
		if s.Label2 != "" {
			m.Label = append(m.Label, &dto.LabelPair{Name: &s.Label2, Value: &s.Label2Value})
		}
		name := promName(s.Base)
		if families[name] == nil {
			order = append(order, name)
			families[name] = &dto.MetricFamily{Name: &name, Type: &kind}
		}
		families[name].Metric = append(families[name].Metric, m)
	}
	slices.Sort(order)
	for _, name := range order {
		if _, err := expfmt.MetricFamilyToText(w, families[name]); err != nil {
			return err
		}
	}
	return nil
}

// TestReadingIsSmall: what a scrape of many clusters allocates is in proportion
// to their numbers, and not to what is written, which is 2 KiB for each and
// more.
func TestReadingIsSmall(t *testing.T) {
	const n, most = 3000, 1600 // bytes for each cluster, whose numbers are 37 x 8 bytes
	r := NewRegistry()
	for i := range n {
		r.Scope(KindCluster, fmt.Sprintf("service-%d.namespace.example", i))
	}
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / n
	}
	if got := allocated(func() {
		for range r.Read(nil, nil).All() {
		}
	}); got > most {
		t.Errorf("%d bytes are allocated for each cluster, want %d at most", got, most)
	}
	if got := allocated(func() {
		if err := r.Read(nil, nil).WritePrometheus(io.Discard); err != nil {
			t.Error(err)
		}
	}); got > most {
		t.Errorf("Prometheus: %d bytes are allocated for each cluster, want %d at most", got, most)
	}

	// As of secrets, which have a name and so a family each.
	for i := range n {
		r.Counter(fmt.Sprintf("sds.secret-%d.update_success", i))
	}
	if got := allocated(func() {
		if err := r.Read(nil, nil).WritePrometheus(io.Discard); err != nil {
			t.Error(err)
		}
	}); got > 2*most {
		t.Errorf("Prometheus: %d bytes are allocated for each cluster and secret, want %d at most", got, 2*most)
	}
	for name, p := range r.Read(nil, nil).families() {
		if strings.HasPrefix(name, "envoy_sds") && p.columns != nil {
			t.Fatalf("all scopes are gone through for %s", name)
		}
	}
}

// A client that is gone ends the walk.
func TestReadingStops(t *testing.T) {
	r := NewRegistry()
	for i := range 2000 {
		r.Scope(KindCluster, fmt.Sprint(i))
	}
	w := &deadWriter{}
	if err := r.Read(nil, nil).WritePrometheus(w); err == nil || w.writes != 1 {
		t.Errorf("%v after %d writes, want an error after one", err, w.writes)
	}
}

type deadWriter struct{ writes int }

func (w *deadWriter) Write([]byte) (int, error) {
	w.writes++
	return 0, io.ErrClosedPipe
}

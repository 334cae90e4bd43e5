package telemetry

import (
	"slices"
	"strings"
)

// Source reads the workers' counter arrays, by call.Scope's index. It calls f
// under a worker's lock, at least once per worker; each array that is not nil
// comes once. f copies and returns.
type Source interface {
	ReadCounters(f func(worker int, scopes [][]uint64))
}

// Stat is one value at the moment of a scrape.
type Stat struct {
	Name  string // Envoy's full name, e.g. "cluster.web.upstream_rq_total"
	Value uint64
	Gauge bool

	// Histogram, if not nil, is what Value counts.
	Histogram *Histogram

	// IsText: the value is Text, and Value is 0.
	IsText bool
	Text   string

	// For Prometheus: the name without the scope's, and the scope's as a label.
	Base, Label, LabelValue string
	Label2, Label2Value     string // a second one; empty: none
}

// TextStat returns a stat whose value is a text.
func TextStat(name, text string) Stat {
	return Stat{Name: name, Base: name, IsText: true, Text: text}
}

// Sanitize returns a configured name as it may stand in a stat's
// (Envoy: Stats::Utility::sanitizeStatsName).
func Sanitize(name string) string {
	name = strings.TrimPrefix(strings.TrimSuffix(name, "."), ".")
	return sanitizer.Replace(name)
}

var sanitizer = strings.NewReplacer("://", "_", ":/", "_", ":", "_", "\x00", "_")

// counts reports whether s only ever grows.
func (s *Stat) counts() bool { return !s.Gauge && !s.IsText && s.Histogram == nil }

// Collect returns all stats, sorted by name, counters since the last Reset. src
// may be nil.
func (r *Registry) Collect(src Source) []Stat {
	out := r.collect(src)
	r.mu.Lock()
	zero := r.zero
	r.mu.Unlock()
	if len(zero) == 0 {
		return out
	}
	for i := range out {
		s := &out[i]
		if n := zero[s.Name]; s.counts() && n <= s.Value { // else it is new under an old name
			s.Value -= n
		}
	}
	return out
}

func (r *Registry) collect(src Source) []Stat {
	scopes, singles, funcs := r.snapshot()
	sums := make([][]uint64, len(scopes))
	for i, s := range scopes {
		sums[i] = make([]uint64, len(layouts[s.kind].names))
	}
	if src != nil {
		src.ReadCounters(func(_ int, arrays [][]uint64) {
			for i, a := range arrays[:min(len(arrays), len(sums))] {
				for k, v := range a[:min(len(a), len(sums[i]))] {
					sums[i][k] += v
				}
			}
		})
	}
	n := len(singles)
	for _, s := range scopes {
		n += len(layouts[s.kind].names)
	}
	out := make([]Stat, 0, n+n/16)
	for i, s := range scopes {
		l, ok := layouts[s.kind]
		if !ok {
			continue // the scope that counts nowhere
		}
		for k := range l.names {
			out = append(out, l.stats[k].in(l.prefix, s.name, l.names[k], sums[i][k]))
		}
	}
	for _, s := range singles {
		out = append(out, Stat{Name: s.name, Base: s.name, Gauge: s.gauge, Value: s.read()})
	}
	for _, read := range funcs {
		read(func(s Stat) { out = append(out, s) })
	}
	slices.SortStableFunc(out, func(a, b Stat) int { return strings.Compare(a.Name, b.Name) })
	return out
}

package telemetry

import "strings"

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
// may be nil. With many scopes it is long: Read is for what goes through them
// one by one.
func (r *Registry) Collect(src Source) []Stat {
	var out []Stat
	for name, s := range r.Read(src, nil).All() {
		out = append(out, *s)
		out[len(out)-1].Name = string(name)
	}
	return out
}

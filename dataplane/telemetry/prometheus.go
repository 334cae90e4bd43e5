package telemetry

import (
	"io"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// WritePrometheus writes stats in the Prometheus text format under the names
// that Envoy gives them: envoy_ and the stat's name with every other character
// than letters and digits replaced by an underscore.
func WritePrometheus(w io.Writer, stats []Stat) error {
	named := map[string]string{} // by Base
	families := map[string][]*Stat{}
	var order []string
	for i := range stats {
		s := &stats[i]
		if s.IsText {
			continue // as Envoy, unless asked for text readouts
		}
		name, ok := named[s.Base]
		if !ok {
			name = promName(s.Base)
			named[s.Base] = name
		}
		if families[name] == nil {
			order = append(order, name)
		}
		families[name] = append(families[name], s)
	}
	slices.Sort(order)
	for _, name := range order {
		if _, err := expfmt.MetricFamilyToText(w, family(name, families[name])); err != nil {
			return err
		}
	}
	return nil
}

// family is what has one name, and the type of the first.
func family(name string, stats []*Stat) *dto.MetricFamily {
	kind := dto.MetricType_COUNTER
	switch {
	case stats[0].Histogram != nil:
		kind = dto.MetricType_HISTOGRAM
	case stats[0].Gauge:
		kind = dto.MetricType_GAUGE
	}
	fam := &dto.MetricFamily{Name: proto.String(name), Type: kind.Enum()}
	for _, s := range stats {
		m := &dto.Metric{}
		if s.Label != "" {
			m.Label = []*dto.LabelPair{{Name: proto.String(s.Label), Value: proto.String(s.LabelValue)}}
		}
		if s.Label2 != "" {
			m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(s.Label2), Value: proto.String(s.Label2Value)})
		}
		switch {
		case s.Histogram != nil:
			m.Histogram = s.Histogram.prometheus()
		case s.Gauge:
			m.Gauge = &dto.Gauge{Value: proto.Float64(float64(s.Value))}
		default:
			m.Counter = &dto.Counter{Value: proto.Float64(float64(s.Value))}
		}
		fam.Metric = append(fam.Metric, m)
	}
	return fam
}

func promName(stat string) string {
	return "envoy_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '_'
	}, stat)
}

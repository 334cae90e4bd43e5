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
	families := map[string]*dto.MetricFamily{}
	var order []string
	for _, s := range stats {
		if s.IsText {
			continue // as Envoy, unless asked for text readouts
		}
		name := promName(s.Base)
		fam, ok := families[name]
		if !ok {
			kind := dto.MetricType_COUNTER
			switch {
			case s.Histogram != nil:
				kind = dto.MetricType_HISTOGRAM
			case s.Gauge:
				kind = dto.MetricType_GAUGE
			}
			fam = &dto.MetricFamily{Name: proto.String(name), Type: kind.Enum()}
			families[name] = fam
			order = append(order, name)
		}
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
	slices.Sort(order)
	for _, name := range order {
		if _, err := expfmt.MetricFamilyToText(w, families[name]); err != nil {
			return err
		}
	}
	return nil
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

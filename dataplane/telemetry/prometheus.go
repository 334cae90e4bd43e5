package telemetry

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// WritePrometheus writes the stats in the Prometheus text format under the names
// that Envoy gives them: envoy_ and the stat's name with every other character
// than letters and digits replaced by an underscore.
func (x *Reading) WritePrometheus(w io.Writer) error {
	families := x.families()
	b := bufio.NewWriterSize(w, 32<<10)
	p := newWriter(b)
	for _, name := range slices.Sorted(maps.Keys(families)) {
		p.begin(name)
		for _, s := range x.each(*families[name]) {
			if err := p.add(s); err != nil {
				return err
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	return b.Flush()
}

// families returns which stats have one name.
func (x *Reading) families() map[string]*part {
	out := map[string]*part{}
	of := func(base string) *part {
		name := promName(base)
		p := out[name]
		if p == nil {
			p = new(part)
			out[name] = p
		}
		return p
	}
	for i := range x.sets {
		for k := range x.sets[i].stats {
			p := of(x.sets[i].stats[k].Base)
			if p.columns == nil {
				p.columns = make([][]int, len(x.sets))
			}
			p.columns[i] = append(p.columns[i], k)
		}
	}
	for i := range x.rest {
		if s := &x.rest[i]; !s.IsText { // as Envoy, unless asked for text readouts
			p := of(s.Base)
			p.rest = append(p.rest, i)
		}
	}
	return out
}

// writer writes families, some metrics at a time.
type writer struct {
	w      io.Writer
	metric []metric // memory for the next to come
	family *dto.MetricFamily
	below  bool // what is written of the family has its header
}

// metric has room for what a dto.Metric points to.
type metric struct {
	dto.Metric
	labels  [2]*dto.LabelPair
	text    [2][2]string // of the labels
	counter dto.Counter
	gauge   dto.Gauge
	value   float64
}

const metricsAtOnce = 256

func newWriter(w io.Writer) *writer {
	p := &writer{w: w, metric: make([]metric, metricsAtOnce)}
	for i := range p.metric {
		m := &p.metric[i]
		m.labels = [2]*dto.LabelPair{new(dto.LabelPair), new(dto.LabelPair)}
		m.counter.Value, m.gauge.Value = &m.value, &m.value
	}
	return p
}

func (p *writer) begin(name string) {
	p.family, p.below = &dto.MetricFamily{Name: proto.String(name), Metric: p.family.GetMetric()[:0]}, false
}

// add adds s to the family, whose type is that of the first.
func (p *writer) add(s *Stat) error {
	if p.family.Type == nil {
		kind := dto.MetricType_COUNTER
		switch {
		case s.Histogram != nil:
			kind = dto.MetricType_HISTOGRAM
		case s.Gauge:
			kind = dto.MetricType_GAUGE
		}
		p.family.Type = kind.Enum()
	}
	m := &p.metric[len(p.family.Metric)]
	m.set(s)
	p.family.Metric = append(p.family.Metric, &m.Metric)
	if len(p.family.Metric) < metricsAtOnce {
		return nil
	}
	return p.flush()
}

// flush writes what was added.
func (p *writer) flush() error {
	if len(p.family.Metric) == 0 {
		return nil
	}
	_, err := expfmt.MetricFamilyToText(&piece{w: p.w, headless: p.below}, p.family)
	p.family.Metric, p.below = p.family.Metric[:0], true
	return err
}

func (m *metric) set(s *Stat) {
	m.Label, m.Histogram, m.Gauge, m.Counter = m.labels[:0], nil, nil, nil
	m.label(s.Label, s.LabelValue)
	m.label(s.Label2, s.Label2Value)
	m.value = float64(s.Value)
	switch {
	case s.Histogram != nil:
		m.Histogram = s.Histogram.prometheus()
	case s.Gauge:
		m.Gauge = &m.gauge
	default:
		m.Counter = &m.counter
	}
}

func (m *metric) label(name, value string) {
	if name == "" {
		return
	}
	n := len(m.Label)
	m.text[n] = [2]string{name, value}
	m.labels[n].Name, m.labels[n].Value = &m.text[n][0], &m.text[n][1]
	m.Label = m.labels[:n+1]
}

// piece is where a piece of a family is written; if it is headless, without its
// first line, which tells the type.
type piece struct {
	w        io.Writer
	headless bool
}

func (p *piece) Write(b []byte) (int, error) {
	n := len(b)
	if p.headless {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return n, nil
		}
		b, p.headless = b[i+1:], false
	}
	if _, err := p.w.Write(b); err != nil {
		return 0, err
	}
	return n, nil
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

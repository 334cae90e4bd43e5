package xdsconfig

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Runtime are the runtime values of a bootstrap's static layers. Immutable.
type Runtime struct {
	Layers  []string // names, the first one weakest
	Entries map[string]RuntimeEntry

	fractions map[string]fraction // of the entries that can be read as one
}

// RuntimeEntry is the value of one key.
type RuntimeEntry struct {
	Layers []string // by layer; empty: the layer does not have the key
	Final  string
}

type fraction struct{ numerator, denominator uint32 }

// NewRuntime reads layered_runtime. Layers that are not static have no values
// here.
func NewRuntime(m *bootstrapv3.LayeredRuntime) *Runtime {
	r := &Runtime{Entries: map[string]RuntimeEntry{}, fractions: map[string]fraction{}}
	for i, l := range m.GetLayers() {
		r.Layers = append(r.Layers, l.GetName())
		if s := l.GetStaticLayer(); s != nil {
			r.walk(i, len(m.GetLayers()), "", structpb.NewStructValue(s))
		}
	}
	return r
}

// walk takes in a value of the i-th of n layers. Objects are paths of keys,
// but for those that are a FractionalPercent
// (Envoy: Runtime::ProtoLayer::walkProtoValue).
func (r *Runtime) walk(i, n int, key string, v *structpb.Value) {
	s := v.GetStructValue()
	if s != nil && (key == "" || !isFraction(s)) {
		for _, name := range slices.Sorted(maps.Keys(s.GetFields())) {
			path := name
			if key != "" {
				path = key + "." + name
			}
			r.walk(i, n, path, s.GetFields()[name])
		}
		return
	}
	e := r.Entries[key]
	if e.Layers == nil {
		e.Layers = make([]string, n)
	}
	e.Layers[i] = runtimeText(v)
	e.Final = e.Layers[i]
	r.Entries[key] = e
	delete(r.fractions, key) // a weaker layer's
	if f, ok := readFraction(v); ok {
		r.fractions[key] = f
	}
}

// Fraction returns the value of a key as a fraction; see Env.Runtime.
func (r *Runtime) Fraction(key string) (numerator, denominator uint32, ok bool) {
	f, ok := r.fractions[key]
	return f.numerator, f.denominator, ok
}

func isFraction(s *structpb.Struct) bool {
	f := s.GetFields()
	return len(f) == 0 || f["numerator"] != nil || f["denominator"] != nil
}

// readFraction reads a value as Envoy's featureEnabled does: a
// FractionalPercent, or a number, whose whole part is percents. Anything else
// leaves the default to the key's user.
func readFraction(v *structpb.Value) (fraction, bool) {
	switch x := v.GetKind().(type) {
	case *structpb.Value_StructValue:
		out := fraction{0, 100}
		for name, f := range x.StructValue.GetFields() {
			switch name {
			case "numerator":
				out.numerator = uint32(int64(f.GetNumberValue()))
			case "denominator":
				n, ok := typev3.FractionalPercent_DenominatorType_value[f.GetStringValue()]
				if !ok {
					return fraction{}, false
				}
				out.denominator = denominators[typev3.FractionalPercent_DenominatorType(n)]
			default:
				return fraction{}, false
			}
		}
		return out, true
	case *structpb.Value_NumberValue:
		return wholePercent(x.NumberValue)
	case *structpb.Value_StringValue:
		if n, err := strconv.ParseFloat(strings.TrimSpace(x.StringValue), 64); err == nil {
			return wholePercent(n)
		}
	}
	return fraction{}, false
}

func wholePercent(n float64) (fraction, bool) {
	if n < 0 || n >= 1<<64 || math.IsNaN(n) {
		return fraction{}, false
	}
	return fraction{uint32(min(n, 100)), 100}, true
}

func runtimeText(v *structpb.Value) string {
	switch x := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return x.StringValue
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(x.NumberValue, 'f', -1, 64)
	}
	b, _ := json.Marshal(v.AsInterface()) // of strings, numbers and the like
	return string(b)
}

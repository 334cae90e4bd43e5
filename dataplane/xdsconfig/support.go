package xdsconfig

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// verdict is what this version does with a field that is set.
type verdict uint8

const (
	// honoured fields do what Envoy's documentation says.
	honoured verdict = iota
	// inert fields have nothing to do in this proxy: tuning of Envoy's own
	// threads and allocators, names for people.
	inert
	// ignored fields are reported by a warning: calls flow as if they were not
	// set.
	ignored
	// refused fields make the resource an error: without them calls would go
	// elsewhere, or unprotected.
	refused
)

func (v verdict) String() string {
	return [...]string{"honoured", "inert", "ignored", "refused"}[v]
}

// fields are the verdicts on the fields of one message, each a list of names.
// Every field of the message is in exactly one list (tested), so that a new
// version of the protobufs asks for a decision.
type fields struct {
	honoured, inert, ignored, refused string
	// notes say, by field, what a verdict leaves out.
	notes map[string]string
}

// supported reports every field set in m or below that is not honoured.
// Messages without verdicts are honoured as a whole.
func (a *at) supported(m protoreflect.Message) {
	// In the order of the fields' numbers: Message.Range has none.
	for _, f := range supportTable()[m.Descriptor().FullName()] {
		if !m.Has(f.field) {
			continue
		}
		name, v := string(f.field.Name()), m.Get(f.field)
		switch {
		case f.duration:
			if d := v.Message().Interface().(*durationpb.Duration); d.AsDuration() < 0 {
				a.field(name).checkf("must not be negative")
			}
		case f.verdict == ignored:
			a.field(name).warnf("ignored by this version")
		case f.verdict == refused:
			if !isDefault(f.field, v) {
				a.field(name).checkf("not supported by this version")
			}
		case f.field.IsMap():
			entries := v.Map()
			for _, k := range sortedKeys(entries) {
				a.field(name + "[" + k.String() + "]").supported(entries.Get(k).Message())
			}
		case f.field.IsList():
			for i := range v.List().Len() {
				a.item(name, i).supported(v.List().Get(i).Message())
			}
		default:
			a.field(name).supported(v.Message())
		}
	}
}

// isDefault reports whether a field that is present says no more than its
// absence: an empty message, a wrapper of false.
func isDefault(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	if fd.IsList() || fd.IsMap() || fd.Message() == nil || fd.ContainingOneof() != nil {
		return false
	}
	return strings.HasPrefix(string(fd.Message().FullName()), "google.protobuf.") && proto.Size(v.Message().Interface()) == 0
}

// sortedKeys returns a map's keys in order, so that errors are always told in
// the same order.
func sortedKeys(m protoreflect.Map) []protoreflect.MapKey {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

package bootstrap

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	xdstypev3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// decoder fills messages from a tree of JSON values, as leniently as Envoy
// (protobuf's C++ JSON reader with case-insensitive enums): protojson would
// refuse a single value for a list, and does not say where a problem is.
type decoder struct {
	opts Options
	errs []error
}

func (d *decoder) fail(path, format string, args ...any) {
	d.errs = append(d.errs, &FieldError{Path: path, Problem: fmt.Sprintf(format, args...)})
}

// message fills m from v.
func (d *decoder) message(v any, m protoreflect.Message, path string) {
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		d.wellKnown(v, m, path)
		return
	}
	obj, ok := v.(map[string]any)
	if !ok {
		d.fail(path, "want an object, have %s", kindOf(v))
		return
	}
	fields := m.Descriptor().Fields()
	for _, key := range slices.Sorted(maps.Keys(obj)) {
		fd := fields.ByTextName(key)
		if fd == nil {
			fd = fields.ByJSONName(key)
		}
		if fd == nil {
			d.unknown(join(path, key), m.Descriptor())
			continue
		}
		val := obj[key]
		if val == nil && !isValue(fd) {
			continue // null is the same as absent
		}
		p := join(path, fd.TextName())
		if m.Has(fd) {
			d.fail(p, "given twice")
			continue
		}
		if one := fd.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if other := m.WhichOneof(one); other != nil {
				d.fail(p, "%s is given already, and only one of the two may be", other.TextName())
				continue
			}
		}
		d.field(val, m, fd, p)
	}
}

func (d *decoder) unknown(path string, md protoreflect.MessageDescriptor) {
	problem := fmt.Sprintf("no such field in %s", md.FullName())
	switch {
	case !d.opts.AllowUnknownStaticFields:
		d.fail(path, "%s", problem)
	case d.opts.Warn != nil:
		d.opts.Warn(path, problem)
	}
}

func (d *decoder) field(v any, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	switch {
	case fd.IsMap():
		d.mapField(v, m, fd, path)
	case fd.IsList():
		items, ok := v.([]any)
		if !ok {
			items = []any{v} // a single value where a list is expected
		}
		list := m.Mutable(fd).List()
		for i, item := range items {
			d.item(item, list, fd, path+"["+strconv.Itoa(i)+"]")
		}
	case fd.Message() != nil:
		d.message(v, m.Mutable(fd).Message(), path)
	default:
		if x, ok := d.scalar(v, fd, path); ok {
			m.Set(fd, x)
		}
	}
}

func (d *decoder) item(v any, list protoreflect.List, fd protoreflect.FieldDescriptor, path string) {
	switch {
	case v == nil && !isValue(fd):
		d.fail(path, "want %s, have null", want(fd))
	case fd.Message() != nil:
		d.message(v, list.AppendMutable().Message(), path)
	default:
		if x, ok := d.scalar(v, fd, path); ok {
			list.Append(x)
		}
	}
}

func (d *decoder) mapField(v any, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	obj, ok := v.(map[string]any)
	if !ok {
		d.fail(path, "want an object, have %s", kindOf(v))
		return
	}
	mp, vd := m.Mutable(fd).Map(), fd.MapValue()
	for _, key := range slices.Sorted(maps.Keys(obj)) {
		p := path + "[" + strconv.Quote(key) + "]"
		k, ok := d.mapKey(key, fd.MapKey(), p)
		switch {
		case !ok:
		case obj[key] == nil && !isValue(vd):
			d.fail(p, "want %s, have null", want(vd))
		case vd.Message() != nil:
			d.message(obj[key], mp.Mutable(k).Message(), p)
		default:
			if x, ok := d.scalar(obj[key], vd, p); ok {
				mp.Set(k, x)
			}
		}
	}
}

// wellKnown fills a message of google.protobuf, which have JSON forms of their
// own.
func (d *decoder) wellKnown(v any, m protoreflect.Message, path string) {
	name := m.Descriptor().FullName()
	switch name {
	case "google.protobuf.Any":
		d.any(v, m.Interface().(*anypb.Any), path)
		return
	case "google.protobuf.Duration":
		d.duration(v, m.Interface().(*durationpb.Duration), path)
		return
	}
	if fd := m.Descriptor().Fields().ByNumber(1); fd != nil && fd.Name() == "value" && m.Descriptor().Fields().Len() == 1 && !fd.IsList() {
		if x, ok := d.scalar(v, fd, path); ok { // a wrapper, e.g. UInt32Value
			m.Set(fd, x)
		}
		return
	}
	js, err := json.Marshal(v)
	if err == nil {
		err = protojson.Unmarshal(js, m.Interface())
	}
	if err != nil {
		d.fail(path, "%s is no %s", shorten(string(js)), name)
	}
}

func (d *decoder) duration(v any, m *durationpb.Duration, path string) {
	js, err := json.Marshal(v)
	if err == nil {
		err = protojson.Unmarshal(js, m)
	}
	if err != nil {
		d.fail(path, `want a duration such as "0.25s", have %s`, shorten(string(js)))
	}
}

// any packs an object with "@type". One whose type is not linked in is kept as
// a TypedStruct.
func (d *decoder) any(v any, m *anypb.Any, path string) {
	obj, ok := v.(map[string]any)
	if !ok {
		d.fail(path, "want an object, have %s", kindOf(v))
		return
	}
	if len(obj) == 0 {
		return // an empty Any
	}
	url, _ := obj["@type"].(string)
	if url == "" {
		d.fail(path, `want "@type" with a type URL`)
		return
	}
	fields := maps.Clone(obj)
	delete(fields, "@type")
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(url)
	if err != nil {
		d.opaque(url, fields, m, path)
		return
	}
	inner := mt.New()
	if mt.Descriptor().ParentFile().Package() == "google.protobuf" {
		d.anyWellKnown(fields, inner, path)
	} else {
		d.message(fields, inner, path)
	}
	d.pack(url, inner.Interface(), m, path)
}

// anyWellKnown fills a message whose JSON form is no object: it stands in a
// field "value".
func (d *decoder) anyWellKnown(fields map[string]any, inner protoreflect.Message, path string) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key == "value" {
			d.message(fields[key], inner, join(path, key))
		} else {
			d.unknown(join(path, key), inner.Descriptor())
		}
	}
}

const typedStructURL = "type.googleapis.com/xds.type.v3.TypedStruct"

func (d *decoder) opaque(url string, fields map[string]any, m *anypb.Any, path string) {
	if i := slices.Index([]byte(url), '/'); i < 0 || i == len(url)-1 {
		d.fail(path, "@type %q is no type URL", url)
		return
	}
	ts := &xdstypev3.TypedStruct{TypeUrl: url, Value: &structpb.Struct{}}
	d.wellKnown(fields, ts.Value.ProtoReflect(), path)
	d.pack(typedStructURL, ts, m, path)
}

func (d *decoder) pack(url string, inner proto.Message, m *anypb.Any, path string) {
	b, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(inner)
	if err != nil {
		d.fail(path, "%v", err)
		return
	}
	m.TypeUrl, m.Value = url, b
}

func isValue(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && !fd.IsMap() && fd.Message().FullName() == "google.protobuf.Value"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return shorten(strconv.Quote(v))
	default:
		return fmt.Sprint(v) // a bool or number
	}
}

// shorten keeps messages readable when a value is long or, perhaps, a key.
func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

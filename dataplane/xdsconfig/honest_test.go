package xdsconfig

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"sigs.k8s.io/yaml"

	"github.com/sluice-proxy/sluice/dataplane/route"
)

// seenElsewhere are honoured fields whose effect the comparison below cannot
// see, each with the reason. A field that is not here and changes nothing is
// not honoured.
var seenElsewhere = map[string]string{
	"envoy.config.endpoint.v3.ClusterLoadAssignment.cluster_name":                        "names the resource, or is Envoy's to check",
	"envoy.config.route.v3.RouteConfiguration.validate_clusters":                         "looked at by Check, which knows the clusters; check_test.go",
	"envoy.config.route.v3.RouteConfiguration.max_direct_response_body_size_bytes":       "refuses longer bodies; golden routes-errors",
	"envoy.config.listener.v3.Listener.bind_to_port":                                     "false is refused; golden listener-errors",
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.name":        "names the filter in errors",
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.disabled":    "the only filter is the router, which must not be disabled; golden listener-all-at-once",
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.is_optional": "accepts what is not linked in; golden listener-errors",
	"envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig.TrustDomain":    "tls_test.go",
	"envoy.extensions.transport_sockets.tls.v3.Secret":                                   "compiled by the contexts that name it; tls_test.go, secrets_test.go",
	"envoy.config.core.v3.ApiConfigSource":                                               "of the bootstrap; package bootstrap",
}

// TestHonouredIsTrue sets every scalar field with the verdict "honoured", in
// every golden input that has its message, to other values. One of them must
// change what is compiled, what becomes of the input's calls, or what is said
// about it; separately for listeners, clusters and endpoints.
func TestHonouredIsTrue(t *testing.T) {
	verdicts := make(map[protoreflect.FullName]map[string]bool)
	todo := make(map[string]bool) // resource, message and field: seen to have an effect
	for _, j := range judgements {
		names := make(map[string]bool)
		for name := range strings.FieldsSeq(j.fields.honoured) {
			names[name] = true
		}
		verdicts[j.message.ProtoReflect().Descriptor().FullName()] = names
	}
	found := make(map[protoreflect.FullName]bool)
	for file, m := range goldenInputs(t) {
		calls := goldenCalls(t, file)
		base, err := outcome(t, m, calls)
		if err != nil {
			continue
		}
		if again, _ := outcome(t, m, calls); again != base {
			t.Fatalf("%s: compiles to something else each time", file)
		}
		kind := string(m.ProtoReflect().Descriptor().Name())
		vary(m.ProtoReflect(), func(owner protoreflect.MessageDescriptor, fd protoreflect.FieldDescriptor) {
			found[owner.FullName()] = true
			if !verdicts[owner.FullName()][string(fd.Name())] {
				return
			}
			key := fmt.Sprintf("%s: %s.%s", kind, owner.FullName(), fd.Name())
			switch owner.ParentFile().Package() {
			case "envoy.config.route.v3", "envoy.extensions.transport_sockets.tls.v3": // the same code wherever they stand
				key = string(owner.FullName()) + "." + string(fd.Name())
			}
			if todo[key] {
				return
			}
			got, err := outcome(t, m, calls)
			todo[key] = got != base && (err == nil || strings.Contains(err.Error(), "not supported by this version"))
		})
	}
	for _, key := range slices.Sorted(maps.Keys(todo)) {
		field := key[strings.LastIndexByte(key, ' ')+1:]
		_, excused := seenElsewhere[key]
		_, excusedAll := seenElsewhere[field]
		if !todo[key] && !excused && !excusedAll {
			t.Errorf("%s: honoured, but it changes nothing", key)
		}
	}
	for _, j := range judgements {
		name := j.message.ProtoReflect().Descriptor().FullName()
		if strings.HasPrefix(string(name), "envoy.config.bootstrap.v3.") || !hasScalars(j.message, verdicts[name]) {
			continue
		}
		if _, ok := seenElsewhere[string(name)]; !ok && !found[name] {
			t.Errorf("%s: in no golden input", name)
		}
	}
	for key, why := range seenElsewhere {
		if why == "" {
			t.Errorf("%s: no reason", key)
		}
	}
}

// hasScalars reports whether one of those fields of m is a scalar.
func hasScalars(m proto.Message, names map[string]bool) bool {
	r := m.ProtoReflect()
	for i := range r.Descriptor().Fields().Len() {
		fd := r.Descriptor().Fields().Get(i)
		if names[string(fd.Name())] && otherValues(r, fd) != nil {
			return true
		}
	}
	return false
}

// goldenCalls are the calls of a golden input.
func goldenCalls(t *testing.T, file string) (list []testCall) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/compile", file))
	if err != nil {
		t.Fatal(err)
	}
	_, calls, _ := bytes.Cut(data, []byte("\n---\n"))
	if err := yaml.UnmarshalStrict(calls, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// outcome is all that can be seen of a compilation.
func outcome(t *testing.T, m proto.Message, calls []testCall) (string, error) {
	t.Helper()
	var out strings.Builder
	env := goldenEnv(func(w Warning) { fmt.Fprintln(&out, w) })
	result, err := compileAny(t, m, env)
	if err != nil {
		out.WriteString(err.Error())
		return out.String(), err
	}
	if tbl, ok := result.(*route.Table); ok {
		for _, tc := range calls {
			direct(t, &out, tbl, tc)
		}
	}
	inside(&out, reflect.ValueOf(result), make(map[uintptr]bool))
	return out.String(), nil
}

// inside writes everything that v leads to, but for functions, and hashes of
// the configuration, which change with every field.
func inside(out *strings.Builder, v reflect.Value, been map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Invalid, reflect.Func, reflect.Chan, reflect.UnsafePointer:
	case reflect.Pointer:
		if v.IsNil() || been[v.Pointer()] {
			return
		}
		been[v.Pointer()] = true
		inside(out, v.Elem(), been)
	case reflect.Interface:
		inside(out, v.Elem(), been)
	case reflect.Struct:
		if t := v.Type(); t.PkgPath() == "sync/atomic" && strings.HasPrefix(t.Name(), "Pointer[") {
			// type Pointer[T any] struct { _ [0]*T; _ noCopy; v unsafe.Pointer }
			if p := v.FieldByName("v").UnsafePointer(); p != nil {
				inside(out, reflect.NewAt(t.Field(0).Type.Elem().Elem(), p), been)
			}
			return
		}
		out.WriteString(v.Type().String())
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Key" && name != "tlsPrint" && name != "Hash" {
				fmt.Fprintf(out, " %s=", name)
				inside(out, v.Field(i), been)
			}
		}
	case reflect.Slice, reflect.Array:
		fmt.Fprintf(out, "[%d:", v.Len())
		for i := range v.Len() {
			inside(out, v.Index(i), been)
			out.WriteByte(' ')
		}
		out.WriteByte(']')
	case reflect.Map:
		var entries []string
		for it := v.MapRange(); it.Next(); {
			var e strings.Builder
			inside(&e, it.Key(), been)
			e.WriteByte(':')
			inside(&e, it.Value(), been)
			entries = append(entries, e.String())
		}
		slices.Sort(entries)
		fmt.Fprint(out, entries)
	default:
		fmt.Fprint(out, v)
	}
}

// vary calls f with every scalar field below m, set or not, given each of some
// other values.
func vary(m protoreflect.Message, f func(protoreflect.MessageDescriptor, protoreflect.FieldDescriptor)) {
	if x, ok := m.Interface().(*anypb.Any); ok {
		inner, err := x.UnmarshalNew()
		if err != nil {
			return
		}
		old := x.Value
		vary(inner.ProtoReflect(), func(md protoreflect.MessageDescriptor, fd protoreflect.FieldDescriptor) {
			x.Value, _ = proto.Marshal(inner)
			f(md, fd)
		})
		x.Value = old
		return
	}
	md := m.Descriptor()
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if md.FullName().Parent() == "google.protobuf" {
			return
		}
		if values := otherValues(m, fd); values != nil && !fd.IsMap() {
			had, oneof := m.Has(fd), fd.ContainingOneof()
			var other protoreflect.FieldDescriptor
			if oneof != nil {
				other = m.WhichOneof(oneof)
			}
			var otherValue protoreflect.Value
			if other != nil {
				otherValue = m.Get(other)
			}
			old := copied(m, fd, m.Get(fd))
			for _, v := range values {
				m.Set(fd, v)
				f(md, fd)
			}
			m.Clear(fd)
			if had {
				f(md, fd)
				m.Set(fd, old)
			} else if other != nil {
				m.Set(other, otherValue)
			}
		} else {
			f2 := func(md protoreflect.MessageDescriptor, fd protoreflect.FieldDescriptor) { f(md, fd) }
			v := m.Get(fd)
			switch {
			case !m.Has(fd):
			case fd.IsMap():
				if fd.MapValue().Message() != nil {
					v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { vary(e.Message(), f2); return true })
				}
			case fd.IsList():
				for i := range v.List().Len() {
					vary(v.List().Get(i).Message(), f2)
				}
			default:
				vary(v.Message(), f2)
			}
		}
	}
}

// otherValues are values to try in a scalar field, wrappers and durations
// included; nil if it is none.
func otherValues(m protoreflect.Message, fd protoreflect.FieldDescriptor) (out []protoreflect.Value) {
	if fd.IsList() {
		if fd.Message() != nil {
			return nil
		}
		for _, e := range scalars(fd) {
			l := m.NewField(fd)
			l.List().Append(e)
			out = append(out, l)
		}
		return out
	}
	if fd.Message() == nil {
		return scalars(fd)
	}
	switch fd.Message().FullName() {
	case "google.protobuf.Duration":
		for _, d := range []int64{0, 1, 7, 70} {
			out = append(out, protoreflect.ValueOfMessage((&durationpb.Duration{Seconds: d}).ProtoReflect()))
		}
	case "google.protobuf.BoolValue", "google.protobuf.UInt32Value", "google.protobuf.UInt64Value", "google.protobuf.StringValue", "google.protobuf.DoubleValue":
		inner := fd.Message().Fields().ByNumber(1)
		for _, e := range scalars(inner) {
			w := m.NewField(fd)
			w.Message().Set(inner, e)
			out = append(out, w)
		}
	}
	return out
}

func scalars(fd protoreflect.FieldDescriptor) (out []protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return []protoreflect.Value{protoreflect.ValueOfBool(true), protoreflect.ValueOfBool(false)}
	case protoreflect.EnumKind:
		for i := range fd.Enum().Values().Len() {
			out = append(out, protoreflect.ValueOfEnum(fd.Enum().Values().Get(i).Number()))
		}
	case protoreflect.StringKind:
		for _, s := range []string{"zz", "5xx", "/zz", "*.zz", "10.9.8.7", "P-256", strings.Repeat("ab", 32), strings.Repeat("abcd", 10) + "abc="} {
			out = append(out, protoreflect.ValueOfString(s))
		}
	case protoreflect.BytesKind:
		return []protoreflect.Value{protoreflect.ValueOfBytes([]byte("zz"))}
	case protoreflect.Uint32Kind:
		for _, n := range []uint32{0, 1, 2, 7, 100, 404, 70000} {
			out = append(out, protoreflect.ValueOfUint32(n))
		}
	case protoreflect.Int32Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt32(3), protoreflect.ValueOfInt32(0)}
	case protoreflect.Uint64Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint64(3), protoreflect.ValueOfUint64(0)}
	case protoreflect.Int64Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt64(3), protoreflect.ValueOfInt64(math.MaxInt64)}
	case protoreflect.DoubleKind:
		return []protoreflect.Value{protoreflect.ValueOfFloat64(0.5), protoreflect.ValueOfFloat64(3)}
	}
	return out
}

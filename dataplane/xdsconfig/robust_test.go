package xdsconfig

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// compileAny compiles a resource of any type.
func compileAny(t *testing.T, m proto.Message, env *Env) (any, error) {
	t.Helper()
	switch m := m.(type) {
	case *listenerv3.Listener:
		return CompileListener(m, env)
	case *routev3.RouteConfiguration:
		return CompileRoutes(m, env)
	case *clusterv3.Cluster:
		return CompileCluster(m, env)
	case *endpointv3.ClusterLoadAssignment:
		return CompileEndpoints(m, env)
	}
	t.Fatalf("%T", m)
	return nil, nil
}

// goldenInputs are the resources of testdata/compile by file name.
func goldenInputs(t *testing.T) map[string]proto.Message {
	t.Helper()
	files, err := filepath.Glob("testdata/compile/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no inputs", err)
	}
	out := make(map[string]proto.Message)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		resource, _, _ := bytes.Cut(data, []byte("\n---\n"))
		var x anypb.Any
		if err := bootstrap.Unmarshal(resource, &x, bootstrap.Options{}); err != nil {
			t.Fatal(err)
		}
		m, err := x.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = m
	}
	return out
}

// spoil calls f with each field below m in turn cleared, or with a value that
// it should not have. m is as before when spoil returns.
func spoil(m protoreflect.Message, f func()) {
	if x, ok := m.Interface().(*anypb.Any); ok {
		inner, err := x.UnmarshalNew()
		if err != nil {
			return
		}
		old := x.Value
		spoil(inner.ProtoReflect(), func() {
			x.Value, _ = proto.Marshal(inner)
			f()
		})
		x.Value = old
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		v = copied(m, fd, v)
		m.Clear(fd)
		f()
		if !fd.IsList() && !fd.IsMap() {
			for _, bad := range badValues(fd.Kind()) {
				m.Set(fd, bad)
				f()
			}
			if fd.Message() != nil {
				m.Set(fd, protoreflect.ValueOfMessage(v.Message().New()))
				f()
			}
		}
		m.Set(fd, v)
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { spoil(e.Message(), f); return true })
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				spoil(v.List().Get(i).Message(), f)
			}
		default:
			spoil(v.Message(), f)
		}
		return true
	})
}

// copied returns v in a list or map of its own, which outlives the field.
func copied(m protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
	switch {
	case fd.IsList():
		c := m.NewField(fd)
		for i := range v.List().Len() {
			c.List().Append(v.List().Get(i))
		}
		return c
	case fd.IsMap():
		c := m.NewField(fd)
		v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool { c.Map().Set(k, e); return true })
		return c
	}
	return v
}

func badValues(k protoreflect.Kind) []protoreflect.Value {
	switch k {
	case protoreflect.EnumKind:
		return []protoreflect.Value{protoreflect.ValueOfEnum(99), protoreflect.ValueOfEnum(-1)}
	case protoreflect.StringKind:
		return []protoreflect.Value{protoreflect.ValueOfString("%(\n*"), protoreflect.ValueOfString("")}
	case protoreflect.BytesKind:
		return []protoreflect.Value{protoreflect.ValueOfBytes(nil)}
	case protoreflect.Uint32Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint32(0), protoreflect.ValueOfUint32(math.MaxUint32)}
	case protoreflect.Int32Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt32(math.MinInt32)}
	case protoreflect.Uint64Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint64(0), protoreflect.ValueOfUint64(math.MaxUint64)}
	case protoreflect.Int64Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt64(math.MinInt64), protoreflect.ValueOfInt64(math.MaxInt64)}
	case protoreflect.DoubleKind:
		return []protoreflect.Value{protoreflect.ValueOfFloat64(math.NaN()), protoreflect.ValueOfFloat64(-1)}
	}
	return nil
}

// TestCompileSpoilt compiles all golden inputs with one field at a time spoilt.
// No input makes Compile panic, though it goes on after a check that failed;
// an error names its resource, and none is told twice.
func TestCompileSpoilt(t *testing.T) {
	n := 0
	for name, m := range goldenInputs(t) {
		t.Run(name, func(t *testing.T) {
			spoil(m.ProtoReflect(), func() {
				n++
				_, err := compileAny(t, m, &Env{})
				if err == nil {
					return
				}
				seen := make(map[string]bool)
				for line := range strings.SplitSeq(err.Error(), "\n") {
					if seen[line] {
						t.Errorf("told twice: %s", line)
					}
					seen[line] = true
				}
			})
		})
	}
	t.Logf("%d resources", n)
}

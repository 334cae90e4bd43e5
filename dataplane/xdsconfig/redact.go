package xdsconfig

import (
	"bytes"

	annotationsv1 "github.com/cncf/xds/go/udpa/annotations"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// redactedText stands for what is not shown, as in Envoy's dumps.
const redactedText = "[redacted]"

// tlsPackage is the package of all messages that private keys stand in.
var tlsPackage = []byte("envoy.extensions.transport_sockets.tls.v3.")

// redacted returns x without private keys and passwords: what its protobuf
// marks as sensitive. x is not changed. Without a TLS context in it, x itself
// comes back: route tables are large.
func redacted(x *anypb.Any) *anypb.Any {
	if !bytes.Contains(x.GetValue(), tlsPackage) && !bytes.Contains([]byte(x.GetTypeUrl()), tlsPackage) {
		return x
	}
	m, err := x.UnmarshalNew()
	if err != nil {
		return &anypb.Any{TypeUrl: x.GetTypeUrl()}
	}
	redact(m.ProtoReflect())
	out, err := anypb.New(m)
	if err != nil {
		return &anypb.Any{TypeUrl: x.GetTypeUrl()}
	}
	return out
}

func redactedBootstrap(bs *bootstrapv3.Bootstrap) *bootstrapv3.Bootstrap {
	bs = proto.CloneOf(bs)
	redact(bs.ProtoReflect())
	return bs
}

// redact overwrites what is sensitive in m.
func redact(m protoreflect.Message) {
	if x, ok := m.Interface().(*anypb.Any); ok {
		shown := redacted(x)
		x.TypeUrl, x.Value = shown.GetTypeUrl(), shown.GetValue()
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		sensitive, _ := proto.GetExtension(fd.Options(), annotationsv1.E_Sensitive).(bool)
		switch {
		case sensitive:
			overwrite(m, fd, v)
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					redact(v.Message())
					return true
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				redact(v.List().Get(i).Message())
			}
		default:
			redact(v.Message())
		}
		return true
	})
}

// overwrite replaces the strings and bytes of a sensitive field, however deep
// they stand.
func overwrite(m protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case fd.Message() != nil:
		one := func(sub protoreflect.Message) {
			sub.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				if fd.Name() != "filename" && fd.Name() != "environment_variable" { // they say where, not what
					overwrite(sub, fd, v)
				}
				return true
			})
		}
		switch {
		case fd.IsMap():
			m.Clear(fd)
		case fd.IsList():
			for i := range v.List().Len() {
				one(v.List().Get(i).Message())
			}
		default:
			one(v.Message())
		}
	case fd.IsList() || fd.IsMap():
		m.Clear(fd)
	case fd.Kind() == protoreflect.StringKind:
		m.Set(fd, protoreflect.ValueOfString(redactedText))
	case fd.Kind() == protoreflect.BytesKind:
		m.Set(fd, protoreflect.ValueOfBytes([]byte(redactedText)))
	}
}

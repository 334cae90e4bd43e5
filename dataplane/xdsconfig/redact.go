package xdsconfig

import (
	"bytes"

	annotationsv1 "github.com/cncf/xds/go/udpa/annotations"
	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
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
	switch x := m.Interface().(type) {
	case *anypb.Any:
		shown := redacted(x)
		x.TypeUrl, x.Value = shown.GetTypeUrl(), shown.GetValue()
		return
	case *udpav1.TypedStruct:
		redactStruct(x.GetTypeUrl(), x.GetValue())
		return
	case *xdsv3.TypedStruct:
		redactStruct(x.GetTypeUrl(), x.GetValue())
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

// redactStruct overwrites what is sensitive in a message of a TypedStruct. One
// with a TLS context that cannot be read is not shown at all.
func redactStruct(url string, v *structpb.Struct) {
	text, err := protojson.Marshal(v)
	if err == nil && !bytes.Contains([]byte(url), tlsPackage) && !bytes.Contains(text, tlsPackage) {
		return
	}
	shown := &structpb.Struct{}
	if mt, findErr := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(urlName(url))); err == nil && findErr == nil {
		inner := mt.New().Interface()
		if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, inner) == nil {
			before := proto.Clone(inner)
			if redact(inner.ProtoReflect()); proto.Equal(before, inner) {
				return // it stays as it is written
			}
			if text, err = (protojson.MarshalOptions{UseProtoNames: true}).Marshal(inner); err == nil {
				_ = protojson.Unmarshal(text, shown) // an object, as we have just written it
			}
		}
	}
	if v != nil {
		v.Fields = shown.GetFields()
	}
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

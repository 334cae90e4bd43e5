package xdsconfig

import (
	"strings"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// typeName returns the message name of what x holds, seen through a
// TypedStruct; "" if x is malformed or empty.
func typeName(x *anypb.Any) string {
	if s, ok := typedStruct(x); ok {
		return urlName(s.url)
	}
	return urlName(x.GetTypeUrl())
}

func urlName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// structured is a message in a TypedStruct: planes send them for types that
// they have no code of (Istio's EnvoyFilter).
type structured struct {
	url   string
	value *structpb.Struct
}

func typedStruct(x *anypb.Any) (structured, bool) {
	switch urlName(x.GetTypeUrl()) {
	case "udpa.type.v1.TypedStruct":
		var m udpav1.TypedStruct
		if proto.Unmarshal(x.Value, &m) == nil {
			return structured{m.TypeUrl, m.Value}, true
		}
	case "xds.type.v3.TypedStruct":
		var m xdsv3.TypedStruct
		if proto.Unmarshal(x.Value, &m) == nil {
			return structured{m.TypeUrl, m.Value}, true
		}
	}
	return structured{}, false
}

// unpack returns the message in x, validated; nil if a says why not.
func (a *at) unpack(x *anypb.Any) proto.Message {
	if x == nil {
		a.errorf("value is required")
		return nil
	}
	name := typeName(x)
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		a.errorf("type %q: unknown to this version", name)
		return nil
	}
	m := mt.New().Interface()
	if s, ok := typedStruct(x); ok {
		var text []byte
		if text, err = protojson.Marshal(s.value); err == nil {
			err = protojson.UnmarshalOptions{DiscardUnknown: !a.r.env.RefuseUnknownFields}.Unmarshal(text, m)
		}
	} else {
		err = proto.Unmarshal(x.Value, m)
	}
	if err != nil {
		a.errorf("type %q: %s", name, plainText(err))
		return nil
	}
	a.check(m)
	return m
}

// unpackAs unpacks x, which must hold an M; nil and false if a says why not.
func unpackAs[M proto.Message](a *at, x *anypb.Any) (m M, ok bool) {
	want := string(m.ProtoReflect().Descriptor().FullName())
	if x != nil && typeName(x) != want {
		a.errorf("type %q: want %q", typeName(x), want)
		return m, false
	}
	m, ok = a.unpack(x).(M)
	return m, ok
}

// check runs what holds for every message: its own validation, unknown fields
// if they are refused, and what this version can do with it.
func (a *at) check(m proto.Message) {
	a.validate(m)
	if a.r.env.RefuseUnknownFields {
		a.known(m.ProtoReflect())
	}
	a.supported(m.ProtoReflect())
}

// plainText returns err's text without the no-break spaces that the protobuf
// library puts in at random, so that the same fault is always told alike.
func plainText(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == ' ' || r == '\u00a0' }), " ")
}

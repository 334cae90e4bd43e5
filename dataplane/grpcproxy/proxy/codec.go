package proxy

import (
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// frame is one message of the proxy.
type frame = grpcproxy.Frame

// Codec returns a codec of grpc-go's first kind for grpc.CustomCodec and
// grpc.WithCodec.
//
// Deprecated: the proxy works without a codec, and costs less with
// grpcproxy.Codec on the server.
func Codec() grpc.Codec {
	return CodecWithParent(protoCodec{})
}

// CodecWithParent is Codec with another codec for messages that are not the
// proxy's.
//
// Deprecated: as Codec.
func CodecWithParent(fallback grpc.Codec) grpc.Codec {
	return &rawCodec{fallback}
}

type rawCodec struct {
	parent grpc.Codec
}

// Marshal implements grpc.Codec.
func (c *rawCodec) Marshal(v any) ([]byte, error) {
	if f, ok := v.(*frame); ok {
		return f.Data(), nil
	}
	return c.parent.Marshal(v)
}

// Unmarshal implements grpc.Codec.
func (c *rawCodec) Unmarshal(data []byte, v any) error {
	if f, ok := v.(*frame); ok {
		f.Set(data) // grpc-go hands out a slice of its own
		return nil
	}
	return c.parent.Unmarshal(data, v)
}

// String implements grpc.Codec.
func (c *rawCodec) String() string { return c.parent.String() }

// protoCodec is protobuf.
type protoCodec struct{}

var errNotProto = errors.New("proxy: not a protobuf message")

// Marshal implements grpc.Codec.
func (protoCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, errNotProto
	}
	return proto.Marshal(m)
}

// Unmarshal implements grpc.Codec.
func (protoCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return errNotProto
	}
	return proto.Unmarshal(data, m)
}

// String implements grpc.Codec.
func (protoCodec) String() string { return "proto" }

package grpcproxy

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// Codec returns a codec that passes frames through without copying them and
// leaves every other message to grpc-go's protobuf codec. It is for
// grpc.ForceServerCodecV2 and, where calls are made with a Frame by hand,
// grpc.ForceCodecV2. Without it the proxy works as well, at the cost of one
// copy per message and side (see Frame's ProtoReflect).
func Codec() encoding.CodecV2 { return CodecWithParent(encoding.GetCodecV2(protocodec.Name)) }

// CodecWithParent is Codec with another codec for messages that are not
// frames.
func CodecWithParent(fallback encoding.CodecV2) encoding.CodecV2 { return &rawCodec{fallback} }

type rawCodec struct{ parent encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c *rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*Frame); ok {
		return f.share(), nil
	}
	return c.parent.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c *rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*Frame); ok {
		f.receive(data)
		return nil
	}
	return c.parent.Unmarshal(data, v)
}

// Name implements encoding.CodecV2. It ends up in content-type when a client
// forces this codec and sets no content-subtype, so it is the parent's.
func (c *rawCodec) Name() string { return c.parent.Name() }

// wireCodec is the codec of the proxy's own calls: nothing but frames. Its
// value is the content-subtype that the backend sees.
type wireCodec string

// Marshal implements encoding.CodecV2.
func (wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*Frame)
	if !ok {
		return nil, errNotFrame
	}
	return f.share(), nil
}

// Unmarshal implements encoding.CodecV2.
func (wireCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*Frame)
	if !ok {
		return errNotFrame
	}
	f.receive(data)
	return nil
}

// Name implements encoding.CodecV2. grpc-go makes it the content-subtype; an
// empty one gives the content-type application/grpc.
func (c wireCodec) Name() string { return string(c) }

// Call options of the usual content-subtypes. Read-only.
var (
	plainCall = []grpc.CallOption{grpc.ForceCodecV2(wireCodec(""))}
	protoCall = []grpc.CallOption{grpc.ForceCodecV2(wireCodec("proto"))}
)

// callOptions returns the options that make a call with frames and the
// content-subtype of the incoming call of ctx, which is passed on as it is.
func callOptions(ctx context.Context) []grpc.CallOption {
	switch s := contentSubtype(ctx); s {
	case "":
		return plainCall
	case "proto":
		return protoCall
	default:
		return []grpc.CallOption{grpc.ForceCodecV2(wireCodec(s))}
	}
}

// contentSubtype returns what followed application/grpc+ in the content-type
// of the incoming call of ctx.
func contentSubtype(ctx context.Context) string {
	if s, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ ContentSubtype() string }); ok {
		return s.ContentSubtype()
	}
	for _, v := range metadata.ValueFromIncomingContext(ctx, "content-type") {
		if _, s, ok := strings.Cut(v, "+"); ok {
			return strings.ToLower(s)
		}
	}
	return ""
}

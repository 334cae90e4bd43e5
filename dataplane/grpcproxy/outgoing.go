package grpcproxy

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// Forwarded returns ctx with the incoming metadata as its outgoing metadata,
// without what belongs to one hop.
func Forwarded(ctx context.Context) context.Context {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return ctx
	}
	stripHop(md)
	return metadata.NewOutgoingContext(ctx, md)
}

// acceptEncoding says what encodings one hop can undo; grpc-go's client sends
// its own.
const acceptEncoding = "grpc-accept-encoding"

// stripHop deletes what must not be passed on. All else that belongs to one
// hop (te, content-type, user-agent, grpc-timeout, pseudo-headers) is reserved
// in grpc-go: its client writes its own and leaves these out.
func stripHop(md metadata.MD) {
	delete(md, acceptEncoding)
	delete(md, "connection")
}

// ownEncodings returns the outgoing context without the client's list of
// encodings, if a director has passed it on with everything else: the backend
// must see the proxy's list alone.
func ownEncodings(in, out context.Context) context.Context {
	if len(metadata.ValueFromIncomingContext(in, acceptEncoding)) == 0 {
		return out
	}
	md, ok := metadata.FromOutgoingContext(out)
	if !ok || len(md[acceptEncoding]) == 0 {
		return out
	}
	delete(md, acceptEncoding)
	return metadata.NewOutgoingContext(out, md)
}

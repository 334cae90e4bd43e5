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

const (
	// acceptEncoding says what encodings one hop can undo; grpc-go's client
	// sends its own.
	acceptEncoding = "grpc-accept-encoding"
	// contentLength is what clients and servers that are not grpc-go's may say
	// of a body with one message. Compressed otherwise, or changed, that has
	// another length, and whoever compares them ends the call with
	// PROTOCOL_ERROR (RFC 9113 §8.1.1).
	contentLength = "content-length"
)

// stripHop deletes what must not be passed on. All else that belongs to one
// hop (te, content-type, user-agent, grpc-timeout, pseudo-headers) is reserved
// in grpc-go: its client writes its own and leaves these out.
func stripHop(md metadata.MD) {
	delete(md, acceptEncoding)
	delete(md, contentLength)
	delete(md, "connection")
}

// headerOf returns response headers for the client: without what is about the
// backend's hop alone.
func headerOf(md metadata.MD) metadata.MD {
	return without(without(md, acceptEncoding), contentLength)
}

// ownEncodings returns the outgoing context without the client's list of
// encodings, if a director has passed it on with everything else: the backend
// must see the proxy's list alone, and no length in the client's encoding.
func ownEncodings(in, out context.Context) context.Context {
	if len(metadata.ValueFromIncomingContext(in, acceptEncoding)) == 0 {
		return out
	}
	md, ok := metadata.FromOutgoingContext(out)
	if !ok || len(md[acceptEncoding]) == 0 {
		return out
	}
	stripHop(md)
	return metadata.NewOutgoingContext(out, md)
}

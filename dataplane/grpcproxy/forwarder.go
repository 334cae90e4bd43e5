package grpcproxy

import (
	"context"
	"reflect"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Forwarder relays calls to backends by address, over a ConnectionCache. Safe
// for concurrent use.
type Forwarder struct {
	cache *ConnectionCache
	pumps *pumps
}

// NewForwarder returns a Forwarder with a cache of its own; the arguments are
// those of NewConnectionCache.
func NewForwarder(ka *keepalive.ClientParameters, creds credentials.TransportCredentials, dialOpts []grpc.DialOption) *Forwarder {
	return &Forwarder{cache: NewConnectionCache(ka, creds, dialOpts), pumps: newPumps(residents(), handlerLinger)}
}

// Cache returns the Forwarder's connections.
func (f *Forwarder) Cache() *ConnectionCache { return f.cache }

// Forward relays serverStream to the backend of an address and returns the
// call's status. The call ends with ctx, and with serverStream if ctx is not
// derived from its context. md goes to the backend together with the incoming
// metadata of ctx. firstFrame is the first message if it was received already, else nil;
// Forward frees it.
func (f *Forwarder) Forward(ctx context.Context, fullMethodName string, serverStream grpc.ServerStream, backend string, md metadata.MD, firstFrame *Frame) error {
	out, _ := metadata.FromIncomingContext(ctx)
	if len(md) > 0 {
		out = metadata.Join(out, md)
	}
	stripHop(out)
	return f.forward(ctx, serverStream, fullMethodName, backend, out, firstFrame)
}

// forward is Forward with all of the outgoing metadata.
func (f *Forwarder) forward(ctx context.Context, ss grpc.ServerStream, method, backend string, md metadata.MD, first *Frame) error {
	cc, err := f.cache.acquire(backend)
	if err != nil {
		if first != nil {
			first.Free()
		}
		return status.Errorf(codes.Unavailable, "grpcproxy: backend %s: %v", backend, err)
	}
	defer cc.release()
	if of := ss.Context(); !same(ctx, of) {
		if ctx.Done() != of.Done() { // it may not be derived from that of the stream
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(of, cancel)()
		}
		ss = &streamWithContext{ServerStream: ss, ctx: ctx}
	}
	to := &target{name: backend, conn: cc.ClientConn, md: md}
	var frames []*Frame
	if first != nil {
		frames = []*Frame{first}
	}
	return relay(ss, method, to, frames, f.pumps)
}

// same reports that two contexts are one. Only pointers are sure to be
// comparable; others are taken for different.
func same(a, b context.Context) bool {
	return reflect.TypeOf(a).Kind() == reflect.Pointer && a == b
}

// Close closes all connections; calls on them fail with UNAVAILABLE.
func (f *Forwarder) Close() { f.cache.Close() }

// target is the backend of one call.
type target struct {
	SingleBackend
	name string
	conn *grpc.ClientConn
	md   metadata.MD
}

// String implements Backend.
func (t *target) String() string { return t.name }

// GetConnection implements Backend.
func (t *target) GetConnection(ctx context.Context, _ string) (context.Context, *grpc.ClientConn, error) {
	return metadata.NewOutgoingContext(ctx, t.md), t.conn, nil
}

// streamWithContext is a stream whose context somebody has added to.
type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // what the stream's Context returns
}

// Context implements grpc.ServerStream.
func (s *streamWithContext) Context() context.Context { return s.ctx }

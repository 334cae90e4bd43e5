package proxy

import (
	"context"

	"google.golang.org/grpc"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// StreamDirector chooses the connection for a call, and makes the context of
// the call to the backend, which should be derived from ctx; metadata is passed
// on only as far as it puts it there. Its error is the call's.
//
// It runs after the server's stream interceptors.
type StreamDirector func(ctx context.Context, fullMethodName string) (context.Context, *grpc.ClientConn, error)

// NewProxy returns a server that relays every call to dst.
func NewProxy(dst *grpc.ClientConn, opts ...grpc.ServerOption) *grpc.Server {
	all := []grpc.ServerOption{grpc.ForceServerCodecV2(grpcproxy.Codec())}
	all = append(all, opts...)
	return grpc.NewServer(append(all, DefaultProxyOpt(dst))...)
}

// DefaultProxyOpt returns the option that makes a server relay to cc whatever
// it does not know itself.
func DefaultProxyOpt(cc *grpc.ClientConn) grpc.ServerOption {
	return grpc.UnknownServiceHandler(TransparentHandler(DefaultDirector(cc)))
}

// DefaultDirector returns a director that sends every call to cc, with its
// metadata.
func DefaultDirector(cc *grpc.ClientConn) StreamDirector {
	return func(ctx context.Context, _ string) (context.Context, *grpc.ClientConn, error) {
		return grpcproxy.Forwarded(ctx), cc, nil
	}
}

// TransparentHandler returns a handler for grpc.UnknownServiceHandler.
func TransparentHandler(director StreamDirector) grpc.StreamHandler {
	return grpcproxy.TransparentHandler(adapt(director))
}

// RegisterService makes server relay the named methods of one service.
func RegisterService(server *grpc.Server, director StreamDirector, serviceName string, methodNames ...string) {
	grpcproxy.RegisterService(server, adapt(director), serviceName, grpcproxy.WithMethodNames(methodNames...))
}

// adapt makes d a director of grpcproxy. d is asked there once per call: when
// the connection is wanted.
func adapt(d StreamDirector) grpcproxy.StreamDirector {
	only := []grpcproxy.Backend{&backend{director: d}}
	return func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		return grpcproxy.One2One, only, nil
	}
}

type backend struct {
	grpcproxy.SingleBackend
	director StreamDirector
}

// GetConnection implements grpcproxy.Backend.
func (b *backend) GetConnection(ctx context.Context, method string) (context.Context, *grpc.ClientConn, error) {
	return b.director(ctx, method)
}

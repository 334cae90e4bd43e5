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
//
// The functions of this package take directors of the same shape for any other
// kind of connection too: those that return a grpc.ClientConnInterface, as the
// latest programs' do.
type StreamDirector func(ctx context.Context, fullMethodName string) (context.Context, *grpc.ClientConn, error)

// NewProxy returns a server that relays every call to dst.
func NewProxy(dst grpc.ClientConnInterface, opts ...grpc.ServerOption) *grpc.Server {
	all := []grpc.ServerOption{grpc.ForceServerCodecV2(grpcproxy.Codec())}
	all = append(all, opts...)
	return grpc.NewServer(append(all, DefaultProxyOpt(dst))...)
}

// DefaultProxyOpt returns the option that makes a server relay to cc whatever
// it does not know itself.
func DefaultProxyOpt(cc grpc.ClientConnInterface) grpc.ServerOption {
	return grpc.UnknownServiceHandler(TransparentHandler(DefaultDirector(cc)))
}

// DefaultDirector returns a director that sends every call to cc, with its
// metadata. Of a *grpc.ClientConn it is a StreamDirector.
func DefaultDirector[C grpc.ClientConnInterface](cc C) func(ctx context.Context, fullMethodName string) (context.Context, C, error) {
	return func(ctx context.Context, _ string) (context.Context, C, error) {
		return grpcproxy.Forwarded(ctx), cc, nil
	}
}

// TransparentHandler returns a handler for grpc.UnknownServiceHandler. director
// is a StreamDirector, or one for another kind of connection.
func TransparentHandler[C grpc.ClientConnInterface](director func(ctx context.Context, fullMethodName string) (context.Context, C, error)) grpc.StreamHandler {
	return grpcproxy.TransparentHandler(adapt(director))
}

// RegisterService makes server relay the named methods of one service. director
// is as for TransparentHandler.
func RegisterService[C grpc.ClientConnInterface](server *grpc.Server, director func(ctx context.Context, fullMethodName string) (context.Context, C, error), serviceName string, methodNames ...string) {
	grpcproxy.RegisterService(server, adapt(director), serviceName, grpcproxy.WithMethodNames(methodNames...))
}

// adapt makes d a director of grpcproxy. d is asked there once per call: when
// the connection is wanted.
func adapt[C grpc.ClientConnInterface](d func(context.Context, string) (context.Context, C, error)) grpcproxy.StreamDirector {
	only := []grpcproxy.Backend{&backend[C]{director: d}}
	return func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
		return grpcproxy.One2One, only, nil
	}
}

type backend[C grpc.ClientConnInterface] struct {
	grpcproxy.SingleBackend
	director func(context.Context, string) (context.Context, C, error)
}

// Connect implements grpcproxy.Connector.
func (b *backend[C]) Connect(ctx context.Context, method string) (context.Context, grpc.ClientConnInterface, error) {
	out, conn, err := b.director(ctx, method)
	if cc, ok := any(conn).(*grpc.ClientConn); ok && cc == nil {
		return out, nil, err
	}
	return out, conn, err
}

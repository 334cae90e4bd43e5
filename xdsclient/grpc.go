package xdsclient

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// GRPC is the Transport over grpc-go.
//
// Each stream has a channel of its own, so that opening a stream is one attempt
// to connect, whose failure is known at once, and all waiting between attempts
// is the client's.
type GRPC struct {
	// Dial makes a channel (grpc.NewClient, grpcclient.Dial), with DialOptions.
	Dial func() (*grpc.ClientConn, error)
	// Metadata goes with each stream (GrpcService.initial_metadata).
	Metadata metadata.MD
}

// DialOptions are the options that a channel for xDS should have. Pings keep
// the connection alive and find dead peers; a pause of zero means 5 minutes,
// the least that a grpc-go server tolerates unless told otherwise (gRFC A8).
func DialOptions(keepaliveTime, keepaliveTimeout time.Duration) []grpc.DialOption {
	if keepaliveTime <= 0 {
		keepaliveTime = 5 * time.Minute
	}
	if keepaliveTimeout <= 0 {
		keepaliveTimeout = 20 * time.Second
	}
	return []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt)),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
	}
}

// Open implements Transport.
func (g *GRPC) Open(ctx context.Context, method string) (Stream, error) {
	cc, err := g.Dial()
	if err != nil {
		return nil, err
	}
	if len(g.Metadata) > 0 {
		ctx = metadata.NewOutgoingContext(ctx, g.Metadata)
	}
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	cs, err := cc.NewStream(ctx, desc, method, grpc.MaxCallRecvMsgSize(math.MaxInt))
	if err != nil {
		cc.Close()
		return nil, err
	}
	return &grpcStream{cc: cc, cs: cs}, nil
}

type grpcStream struct {
	cc *grpc.ClientConn
	cs grpc.ClientStream
}

func (s *grpcStream) Send(m proto.Message) error { return s.cs.SendMsg(m) }
func (s *grpcStream) Recv(m proto.Message) error { return s.cs.RecvMsg(m) }
func (s *grpcStream) Close()                     { s.cc.Close() }

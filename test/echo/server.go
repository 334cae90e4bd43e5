// Package echo is the example backend: an echo service that names its
// instance, with gRPC health and reflection beside it. The demo, the e2e tests
// and people with a gRPC client of their own talk to it.
package echo

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative echo.proto

// Server implements Echo.
type Server struct {
	UnimplementedEchoServer
	// Instance is the name it answers with.
	Instance string
	// OnCall, if set, is called with the full method at the start of each call.
	OnCall func(ctx context.Context, method string)
}

// Start serves Echo, health and reflection on ln until stop is called. stop
// ends open calls and waits for the server's goroutines.
func Start(ln net.Listener, s *Server, opts ...grpc.ServerOption) (srv *grpc.Server, stop func()) {
	srv = grpc.NewServer(opts...)
	RegisterEchoServer(srv, s)
	hs := health.NewServer()
	hs.SetServingStatus(Echo_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(srv, hs)
	reflection.Register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // returns when stopped; the listener is ours
	}()
	return srv, func() {
		srv.Stop()
		<-done
	}
}

func (s *Server) seen(ctx context.Context, method string) {
	if s.OnCall != nil {
		s.OnCall(ctx, method)
	}
}

// answer waits and fails as the request asks, or makes its answer.
func (s *Server) answer(ctx context.Context, r *SayRequest, seq uint64) (*SayResponse, error) {
	if d := time.Duration(r.GetDelayMs()) * time.Millisecond; d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if c := r.GetFailWith(); c != 0 {
		return nil, status.Errorf(codes.Code(c), "as requested by %q", r.GetText())
	}
	return &SayResponse{Instance: s.Instance, Text: r.GetText(), Payload: r.GetPayload(), Sequence: seq}, nil
}

// Say implements Echo.
func (s *Server) Say(ctx context.Context, r *SayRequest) (*SayResponse, error) {
	s.seen(ctx, Echo_Say_FullMethodName)
	return s.answer(ctx, r, 0)
}

// Chat implements Echo.
func (s *Server) Chat(st grpc.BidiStreamingServer[SayRequest, SayResponse]) error {
	s.seen(st.Context(), Echo_Chat_FullMethodName)
	for seq := uint64(0); ; seq++ {
		r, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a, err := s.answer(st.Context(), r, seq)
		if err != nil {
			return err
		}
		if err := st.Send(a); err != nil {
			return err
		}
	}
}

// Count implements Echo.
func (s *Server) Count(r *CountRequest, st grpc.ServerStreamingServer[SayResponse]) error {
	s.seen(st.Context(), Echo_Count_FullMethodName)
	for seq := range uint64(r.GetTimes()) {
		a, err := s.answer(st.Context(), &SayRequest{DelayMs: r.GetEveryMs()}, seq)
		if err != nil {
			return err
		}
		if err := st.Send(a); err != nil {
			return err
		}
	}
	return nil
}

// Collect implements Echo.
func (s *Server) Collect(st grpc.ClientStreamingServer[SayRequest, CollectResponse]) error {
	s.seen(st.Context(), Echo_Collect_FullMethodName)
	sum := &CollectResponse{Instance: s.Instance}
	for {
		r, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return st.SendAndClose(sum)
		}
		if err != nil {
			return err
		}
		if _, err := s.answer(st.Context(), r, sum.Messages); err != nil {
			return err
		}
		sum.Messages++
		sum.Bytes += uint64(len(r.GetPayload()))
	}
}

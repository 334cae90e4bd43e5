package grpcproxy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// endedStream is a stream whose context has ended, and which nobody wakes from
// RecvMsg.
type endedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endedStream) Context() context.Context { return s.ctx }

// transportStream is a transport's stream.
type transportStream struct{ ctx context.Context }

func (transportStream) Method() string               { return "" }
func (transportStream) SetHeader(metadata.MD) error  { return nil }
func (transportStream) SendHeader(metadata.MD) error { return nil }
func (transportStream) SetTrailer(metadata.MD) error { return nil }
func (s transportStream) Context() context.Context   { return s.ctx }

// An interceptor's timeout ends a call at once, though the client's stream goes
// on and its reader with it; of other transports one waits in vain, but not for
// long.
func TestReadingGoesOn(t *testing.T) {
	for name, tt := range map[string]struct {
		transport grpc.ServerTransportStream
		want      time.Duration
	}{
		"grpc-go": {transportStream{context.Background()}, 0},
		"other":   {nil, 100 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			if tt.transport != nil {
				ctx = grpc.NewContextWithServerTransportStream(ctx, tt.transport)
			}
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			var r reading
			r.Store(true)
			begun := time.Now()
			r.settle(endedStream{ctx: ctx})
			if got := time.Since(begun); got != tt.want {
				t.Errorf("%s: waited for %v, want %v", name, got, tt.want)
			}
		})
	}
}

package grpcproxy

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// sending is true while a message is being sent to a backend, until an error in
// that is noted. grpc-go ends a call for such an error before SendMsg returns
// it, so RecvMsg may tell of it first, as if it were the backend's.
type sending struct{ atomic.Bool }

// settle waits, after RecvMsg has told the end of cs, until what it told is
// noted if it is an error in sending.
//
// An interceptor may make RecvMsg fail in a call that goes on, where SendMsg may
// wait for the backend for ever. Nobody waits for that.
func (s *sending) settle(cs grpc.ClientStream) { settle(&s.Bool, cs.Context) }

// reading is true while the client is read from, until the error that ends it
// is noted. grpc-go ends a stream, and the calls to backends with it, before
// RecvMsg returns the reason: a message that is too large, for example.
type reading struct{ atomic.Bool }

// settle waits, if ss has ended, until it is noted why. An interceptor may have
// given ss a context that ends sooner: then nothing ends RecvMsg.
func (r *reading) settle(ss grpc.ServerStream) {
	ctx := ss.Context()
	if ctx.Err() == nil {
		return
	}
	of := context.Background() // of another transport one cannot know
	if s, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ Context() context.Context }); ok {
		if of = s.Context(); of.Err() == nil {
			return
		}
	}
	settle(&r.Bool, func() context.Context { return of })
}

func settle(busy *atomic.Bool, of func() context.Context) {
	const step, ofCall, ofOther = 100 * time.Microsecond, 10 * time.Second, 100 * time.Millisecond
	for waited := time.Duration(0); busy.Load() && waited < ofCall; waited += step {
		if waited >= ofOther && of().Err() == nil {
			return
		}
		time.Sleep(step)
	}
}

package grpcproxy

import (
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
func (s *sending) settle(cs grpc.ClientStream) {
	const step, ofCall, ofOther = 100 * time.Microsecond, 10 * time.Second, 100 * time.Millisecond
	for waited := time.Duration(0); s.Load() && waited < ofCall; waited += step {
		if waited >= ofOther && cs.Context().Err() == nil {
			return
		}
		time.Sleep(step)
	}
}

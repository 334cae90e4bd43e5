package grpcproxy

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// idleStream is a call of which nothing but the context is used.
type idleStream struct{ grpc.ServerStream }

func (idleStream) Context() context.Context { return context.Background() }

// TestCauseBeforeConsequence: one backend has failed a One2Many call, another
// finds it failed while a third is about to write. The client is told why.
func TestCauseBeforeConsequence(t *testing.T) {
	f := &fan{ss: idleStream{}, cancel: func() {}}
	_ = f.cause(status.Error(codes.NotFound, "no"))
	f.sending.Lock() // the third has not looked yet
	f.release(errOver)
	f.sending.Unlock()
	f.late.stop()
	if err := f.told(); status.Code(err) != codes.NotFound {
		t.Errorf("the client is told %v", err)
	}
}

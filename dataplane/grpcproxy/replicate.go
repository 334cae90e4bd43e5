package grpcproxy

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// replicate relays a Replicated call: the request to all, the response of the
// first to the client. first, if not nil, has for each destination the messages
// that go before what the client still sends.
func (h *handler) replicate(ss grpc.ServerStream, method string, backends []Backend, first []*Frame) error {
	ctx, cancel := context.WithCancel(ss.Context())
	f := &fan{ss: ss, method: method, ctx: ctx, cancel: cancel}
	f.open(backends)
	defer f.close()
	defer cancel()
	for i, d := range f.dests {
		if d.err == nil {
			continue
		}
		freeAll(first)
		return replicaError(i, d.backend, d.err)
	}
	for i, m := range first {
		err := f.dests[i].cs.SendMsg(m)
		m.Free()
		if err != nil && !errors.Is(err, io.EOF) { // at the end of its call RecvMsg tells
			freeAll(first[i+1:])
			return replicaError(i, f.dests[i].backend, statusOf(err))
		}
	}

	secondary := make([]error, len(f.dests))
	var drains sync.WaitGroup
	for i, d := range f.dests[1:] {
		drains.Go(func() {
			err := drain(d.cs)
			if err == nil || f.clientError() != nil || ctx.Err() != nil {
				return
			}
			if secondary[i+1] = replicaError(i+1, d.backend, err); secondary[i+1] != nil {
				cancel()
			}
		})
	}
	f.distribute(h.queue)
	own, err := download(ss, f.dests[0].cs)
	if own {
		f.fail(err)
	}
	if err != nil && ctx.Err() == nil {
		err = handled(f.dests[0].backend, err)
		if err != nil {
			cancel() // the others' work is void
		}
	}
	drains.Wait()

	if own := f.clientError(); own != nil {
		return own
	}
	if gone := ss.Context().Err(); gone != nil {
		return statusOf(gone)
	}
	for _, e := range secondary {
		if e != nil {
			return e
		}
	}
	return err
}

// replicaError is the status of a call that failed because of destination i.
func replicaError(i int, b Backend, err error) error {
	err = handled(b, err)
	if err == nil || i == 0 {
		return err
	}
	return status.Errorf(codes.Internal, "grpcproxy: secondary %s: %s", b, status.Convert(err).Message())
}

// drain reads a response to its end.
func drain(cs grpc.ClientStream) error {
	var f Frame
	defer f.Free()
	for {
		if err := cs.RecvMsg(&f); err != nil {
			return unlessEOF(err)
		}
	}
}

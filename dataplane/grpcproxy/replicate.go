package grpcproxy

import (
	"context"
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
	f.expect(backends)
	defer f.close()
	defer cancel()
	var opening sync.WaitGroup
	for _, d := range f.dests {
		opening.Go(func() {
			defer f.catch()
			d.open(f)
		})
	}
	opening.Wait()
	f.rethrow()
	for i, d := range f.dests {
		if d.err == nil {
			continue
		}
		if err := f.replicaError(i, d.err); err != nil {
			freeAll(first)
			return err
		}
	}

	secondary := make([]error, len(f.dests))
	var drains sync.WaitGroup
	for i, d := range f.dests[1:] {
		if d.cs == nil { // its error was swallowed
			continue
		}
		drains.Go(func() {
			defer f.catch()
			err := drain(d.cs)
			if err == nil {
				return
			}
			if d.sending.settle(d.cs); f.told() != nil || ended(ctx) != nil {
				return
			}
			if err = f.replicaError(i+1, err); err != nil {
				secondary[i+1] = err
				cancel()
				f.end(err) // the client may not read the primary's response
			}
		})
	}
	f.distribute(h.queue, first)
	var own bool
	var err error
	if primary := f.dests[0].cs; primary != nil { // nil as above
		own, err = download(ss, primary, new(Frame))
		if err != nil && !own {
			f.dests[0].sending.settle(primary)
		}
	}
	if own {
		f.fail(err)
	}
	if err != nil && ended(ctx) == nil {
		err = handled(f.dests[0].backend, err)
		if err != nil {
			cancel() // the others' work is void
		}
	}
	drains.Wait()
	f.reading.settle(ss)
	f.rethrow()

	if told := f.told(); told != nil {
		return told
	}
	if gone := ended(ss.Context()); gone != nil {
		return statusOf(gone)
	}
	for _, e := range secondary {
		if e != nil {
			return e
		}
	}
	return err
}

// replicaError is the status of a call after an error of destination i: the
// client's own end, if that came before.
func (f *fan) replicaError(i int, err error) error {
	b := f.dests[i].backend
	if gone := ended(f.ss.Context()); gone != nil {
		return statusOf(gone)
	}
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
		if err := recvMsg(cs, &f); err != nil {
			return unlessEOF(err)
		}
	}
}

package grpcproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// fanOut relays a One2Many call.
func (h *handler) fanOut(ss grpc.ServerStream, method string, backends []Backend) error {
	ctx, cancel := context.WithCancel(ss.Context())
	f := &fan{ss: ss, method: method, ctx: ctx, cancel: cancel, merge: h.merge}
	f.streaming = h.streamed != nil && h.streamed(method)
	f.expect(backends)
	defer f.close()

	errs := make([]error, len(f.dests))
	responses := make([]Response, len(f.dests))
	var receivers sync.WaitGroup
	for i, d := range f.dests {
		responses[i].Backend = d.backend
		receivers.Go(func() {
			defer f.catch()
			d.open(f) // one that is slow to connect holds up none of the others
			if f.streaming {
				errs[i] = f.passOn(d)
			} else {
				responses[i].Messages, errs[i] = f.collect(d)
			}
			if errs[i] != nil {
				f.release(errs[i]) // one failure that is no message fails all
			}
		})
	}
	f.distribute(h.queue, nil)
	receivers.Wait()
	f.reading.settle(ss)
	f.rethrow()
	ss.SetTrailer(f.trailer)

	if err := f.told(); err != nil {
		return err
	}
	if err := f.firstCause(errs); err != nil {
		return err
	}
	if !f.streaming {
		merged, err := f.merge(method, responses)
		if err != nil {
			return statusOf(fmt.Errorf("grpcproxy: merging the responses of %s: %w", method, err))
		}
		if err := ss.SendMsg(NewFrame(merged)); err != nil {
			f.fail(err)
			f.reading.settle(ss)
			f.rethrow()
			if told := f.told(); told != nil {
				return told
			}
			return ownError(ss, err)
		}
	}
	return nil
}

// fan is a call with several destinations.
type fan struct {
	ss        grpc.ServerStream
	method    string
	ctx       context.Context //nolint:containedctx // of all calls; ends with the handler
	cancel    context.CancelFunc
	merge     Merger
	streaming bool
	dests     []*destination
	senders   sync.WaitGroup
	reading   reading
	late      late

	// sending is held to write to the client, which may take as long as the
	// client wants. It is taken before mu.
	sending sync.Mutex

	mu        sync.Mutex // guards all below
	head      metadata.MD
	answered  bool // some destination has sent headers
	headers   bool // they were sent on
	trailer   metadata.MD
	awaited   int   // destinations whose headers may still come
	clientErr error // why the client cannot be read from or written to
	caused    error // the first error that failed the call
	ended     error // the call's status, decided before all has ended
	panicked  error // a panic of one of the goroutines
}

// destination is one call of several.
type destination struct {
	backend Backend
	opened  chan struct{}     // closed when cs is set
	cs      grpc.ClientStream // nil: there is no call
	err     error             // why there is none; the receiver's
	queue   chan *Frame       // requests to send; closed after the last
	sending sending
	gone    chan struct{} // closed when no more are taken
	answers bool          // its headers were counted
}

// expect makes the destinations, each of which is to be opened.
func (f *fan) expect(backends []Backend) {
	f.dests = make([]*destination, len(backends))
	f.awaited = len(backends)
	for i, b := range backends {
		f.dests[i] = &destination{backend: b, opened: make(chan struct{}), gone: make(chan struct{})}
	}
}

// open makes the call.
func (d *destination) open(f *fan) {
	defer close(d.opened)
	d.cs, d.err = open(f.ctx, f.ss, f.method, d.backend)
}

// distribute starts to send the requests of the client to every destination:
// one goroutine reads, and one for each destination writes, through a queue of
// its own. The reader ends at the latest when the server ends the stream. first
// is replicate's.
func (f *fan) distribute(size int, first []*Frame) {
	for i, d := range f.dests {
		d.queue = make(chan *Frame, size)
		if first != nil && first[i] != nil {
			d.queue <- first[i]
		}
		f.senders.Go(func() { d.send(f) })
	}
	f.reading.Store(true)
	go f.read()
}

// read takes the requests off the client.
func (f *fan) read() {
	defer f.readEnds()
	defer f.reading.Store(false)
	defer f.catch()
	for {
		var m Frame
		if err := f.ss.RecvMsg(&m); err != nil {
			if !errors.Is(err, io.EOF) {
				f.fail(err)
			}
			return
		}
		live := 0
		for _, d := range f.dests {
			c := m.Clone()
			select {
			case d.queue <- c:
				live++
			case <-d.gone:
				c.Free()
			case <-f.ctx.Done():
				c.Free()
			}
		}
		m.Free()
		if live == 0 {
			return // nobody listens any more
		}
	}
}

// send writes the requests to one destination, once it is open, until the last
// or the call's end.
func (d *destination) send(f *fan) {
	defer close(d.gone)
	defer d.sending.Store(false)
	defer f.catch()
	<-d.opened
	if d.cs == nil {
		return
	}
	for {
		select {
		case m, more := <-d.queue:
			if !more {
				_ = d.cs.CloseSend() // it never fails; RecvMsg tells the call's end
				return
			}
			d.sending.Store(true)
			err := d.cs.SendMsg(m)
			m.Free()
			if err == nil {
				d.sending.Store(false)
				continue
			}
			if !errors.Is(err, io.EOF) { // else RecvMsg tells
				f.fail(err)
			}
			return
		case <-f.ctx.Done():
			return
		}
	}
}

// readEnds says that no requests follow, and frees those that nobody takes.
func (f *fan) readEnds() {
	for _, d := range f.dests {
		close(d.queue)
	}
	for _, d := range f.dests {
		<-d.gone // at the latest when the call has ended
		for m := range d.queue {
			m.Free()
		}
	}
}

// fail ends the call for an error that is not a backend's, unless it follows
// from one that has ended it already. Of two of those that read and write one
// may only say that the other has ended the stream.
func (f *fan) fail(err error) {
	err = ownError(f.ss, err)
	f.mu.Lock()
	first := f.clientErr == nil && f.caused == nil && f.ended == nil
	if first || f.clientErr != nil && follows(f.clientErr) && !follows(err) {
		f.clientErr = err
	}
	f.mu.Unlock()
	f.cancel()
	if first {
		f.late.finish(f.ss.Context(), err)
	}
}

// release ends the call for a cause that was noted. If the client does not
// read, it is told all the same: whoever writes to it would keep the call.
func (f *fan) release(err error) {
	f.cancel()
	if f.sending.TryLock() {
		f.sending.Unlock() // who writes from now on sees the cause
		return
	}
	f.end(err)
}

// end makes err the call's status, and tells the client if the handler does
// not return.
func (f *fan) end(err error) {
	if f.ss.Context().Err() != nil {
		return
	}
	f.mu.Lock()
	if f.caused != nil {
		err = f.caused // the other may only follow from it
	}
	err = statusOf(err)
	first := f.ended == nil && f.clientErr == nil
	if first {
		f.ended = err
	}
	f.mu.Unlock()
	if first {
		f.late.finish(f.ss.Context(), err)
	}
}

// catch is deferred where foreign methods run: it ends the call for a panic, and
// keeps it for the handler.
func (f *fan) catch() {
	r := recover()
	if r == nil {
		return
	}
	p := newPanicked(r)
	f.mu.Lock()
	if f.panicked == nil {
		f.panicked = p
	}
	f.mu.Unlock()
	err := f.cause(errPanicked)
	f.cancel()
	f.end(err)
}

// rethrow makes a panic that was caught the handler's.
func (f *fan) rethrow() {
	f.mu.Lock()
	p := f.panicked
	f.mu.Unlock()
	rethrow(p)
}

// failed reports that the call has failed: what comes now may follow from it.
func (f *fan) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clientErr != nil || f.caused != nil
}

// told returns the status that was decided, or that the client is the cause
// of: then nothing else matters.
func (f *fan) told() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended != nil {
		return f.ended
	}
	return f.clientErr
}

// close ends all calls, which nobody reads any more, and waits for the
// goroutines that are the fan's own. The reader ends with the server's stream.
func (f *fan) close() {
	f.late.stop()
	f.cancel()
	f.senders.Wait()
	for _, d := range f.dests {
		abandon(d.cs)
	}
}

// cause notes the first error that fails the call; those after it may follow
// from the cancellation.
func (f *fan) cause(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.caused == nil {
		f.caused = err
	}
	return err
}

// firstCause returns the status of a failed call: of one error, or of several
// that are not mere consequences, the code of the first and all messages.
func (f *fan) firstCause(errs []error) error {
	f.mu.Lock()
	caused := f.caused
	f.mu.Unlock()
	if gone := ended(f.ss.Context()); gone != nil {
		return statusOf(gone)
	}
	if caused == nil {
		return errors.Join(errs...)
	}
	st, isStatus := status.FromError(statusOf(caused))
	if !isStatus {
		st = status.New(codes.Unknown, caused.Error())
	}
	var others []string
	for i, err := range errs {
		if err != nil && !errors.Is(err, caused) && status.Code(err) != codes.Canceled {
			others = append(others, fmt.Sprintf("%s: %s", f.dests[i].backend, status.Convert(err).Message()))
		}
	}
	if len(others) == 0 {
		return st.Err()
	}
	p := st.Proto()
	p.Message += "; and " + strings.Join(others, "; ")
	return status.FromProto(p).Err()
}

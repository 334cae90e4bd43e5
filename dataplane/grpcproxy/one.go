package grpcproxy

import (
	"context"
	"errors"
	"io"
	"reflect"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// relay joins ss to a call to b, and returns the call's status. first are
// messages of ss that were received already.
//
// The handler's own goroutine carries the response; one more carries the
// request, and ends at the latest when the server ends ss after relay has
// returned. p provides it.
func relay(ss grpc.ServerStream, method string, b Backend, first []*Frame, p *pumps) error {
	// A stream of grpc-go's has ended when it returns an error, and its context
	// with it: one of the call's own would cost three allocations.
	ctx, cancel := ss.Context(), func() {}
	if !bare(ss) || finisherOf(ctx) == nil {
		ctx, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	cs, err := open(ctx, ss, method, b)
	if err != nil {
		freeAll(first)
		return ofBackend(ss, b, err)
	}
	defer abandon(cs)
	c := &carried{up: upward{ss: ss, cs: cs, cancel: cancel, first: first}}
	c.up.reading.Store(true)
	p.run(&c.up)
	own, err := download(ss, cs, &c.down)
	c.up.late.stop()
	if err == nil {
		return nil
	}
	if !own {
		c.up.sending.settle(cs)
	}
	c.up.reading.settle(ss)
	if failed := c.up.failed.Load(); failed != nil {
		rethrow(*failed)
		if !own || follows(err) {
			// The calls to the backend and of the client were ended because of it.
			return *failed
		}
	}
	if own { // the client has gone, or cannot be written to
		if x, ok := b.(*xdsBackend); ok {
			if why := x.cutBy(); why != nil {
				return why.error // the client was told
			}
		}
		return err
	}
	return ofBackend(ss, b, err)
}

// carried is a relayed call's own memory, in one piece.
type carried struct {
	up   upward
	down Frame
}

// ofBackend is the call's status after an error on the side of b: the client's
// own end, if that came before, else what b makes of the error.
func ofBackend(ss grpc.ServerStream, b Backend, err error) error {
	if gone := ended(ss.Context()); gone != nil {
		return statusOf(gone)
	}
	return handled(b, err)
}

// handled lets b change an error of its own.
func handled(b Backend, err error) error {
	err = unlessAnswered(err)
	if h, ok := b.(ErrorHandler); ok && err != nil {
		return h.HandleError(err)
	}
	return err
}

// download passes the response of cs on to ss: headers as soon as they are
// there, messages, trailers. f is used for them and left empty. own says that
// err is of ss, not of cs.
func download(ss grpc.ServerStream, cs grpc.ClientStream, f *Frame) (own bool, err error) {
	// No headers, and no error, is a response of trailers only.
	if md, err := cs.Header(); err == nil && md != nil {
		if err := ss.SendHeader(headerOf(md)); err != nil {
			return true, ownError(ss, err)
		}
	}
	defer f.Free()
	for {
		if err := recvMsg(cs, f); err != nil {
			ss.SetTrailer(trailerOf(cs, err))
			return false, unlessEOF(err)
		}
		if err := ss.SendMsg(f); err != nil {
			return true, ownError(ss, err)
		}
	}
}

// ownError is the status of an error in reading from or writing to the client:
// if it has gone or its time is over, that is the reason, however the transport
// says it. But grpc-go also ends a stream for errors of its own.
func ownError(ss grpc.ServerStream, err error) error {
	if gone := ss.Context().Err(); gone != nil && follows(err) {
		err = gone
	}
	return statusOf(err)
}

// follows reports that err may be how a transport says that a stream has ended,
// and not why it has.
func follows(err error) bool {
	st, ok := status.FromError(err)
	if !ok {
		return true
	}
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return true
	}
	return false
}

// upward carries the request of ss to cs.
type upward struct {
	ss     grpc.ServerStream
	cs     grpc.ClientStream
	cancel func() // of the call to cs, if it does not end with ss
	first  []*Frame
	late   late

	sending sending
	reading reading // all of run

	// failed is why the call to the backend was cancelled: an error of ss, or
	// one in sending to cs that cs itself does not tell, or a panic in either.
	failed atomic.Pointer[error]
}

// run uses frame for the messages, and leaves it empty.
func (u *upward) run(frame *Frame) {
	defer u.reading.Store(false)
	defer u.catch()
	for i, f := range u.first {
		if f == nil {
			continue
		}
		ok := u.send(f)
		f.Free()
		if !ok {
			freeAll(u.first[i+1:])
			return
		}
	}
	defer frame.Free()
	for {
		if err := u.ss.RecvMsg(frame); err != nil {
			if errors.Is(err, io.EOF) {
				_ = u.cs.CloseSend() // it never fails; RecvMsg tells the call's end
				return
			}
			u.fail(err)
			return
		}
		if !u.send(frame) {
			return
		}
	}
}

// send reports whether more may be sent. io.EOF says that the call has ended:
// its status is RecvMsg's to tell, and what the client sends after it is of no
// interest.
func (u *upward) send(m *Frame) bool {
	u.sending.Store(true)
	err := u.cs.SendMsg(m)
	if err != nil && !errors.Is(err, io.EOF) {
		u.fail(err)
	}
	u.sending.Store(false)
	return err == nil
}

func (u *upward) fail(err error) {
	err = statusOf(err)
	u.end(err, err)
}

// catch keeps a panic, of an interceptor's stream for example, for the handler.
func (u *upward) catch() {
	if r := recover(); r != nil {
		u.end(newPanicked(r), errPanicked)
		u.sending.Store(false)
	}
}

// end ends the call for a cause, of which the client is told err unless the
// handler tells it.
func (u *upward) end(cause, err error) {
	u.failed.Store(&cause)
	u.cancel()
	if u.cs.Context().Err() == nil {
		finish(u.ss.Context(), err) // nothing else ends the call to cs
		return
	}
	u.late.finish(u.ss.Context(), err)
}

// late finishes a stream unless its handler returns: what that returns is the
// interceptors' to change.
type late struct {
	timer   atomic.Pointer[time.Timer]
	stopped atomic.Bool
}

// finishAfter is how long a handler has to return, which takes no time unless
// the client does not read.
const finishAfter = time.Second

// finish counts the first time.
func (l *late) finish(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it has ended
	}
	t := time.AfterFunc(finishAfter, func() { finish(ctx, err) })
	if !l.timer.CompareAndSwap(nil, t) || l.stopped.Load() {
		t.Stop()
	}
}

// stop says that the handler returns.
func (l *late) stop() {
	l.stopped.Store(true)
	if t := l.timer.Load(); t != nil {
		t.Stop()
	}
}

// bare reports that ss is a stream of grpc-go's, with nobody's methods in
// between.
func bare(ss grpc.ServerStream) bool {
	switch s := ss.(type) {
	case *streamWithContext:
		return bare(s.ServerStream)
	case *peekedStream:
		return bare(s.ServerStream)
	}
	t := reflect.TypeOf(ss)
	if t.Kind() != reflect.Pointer || t.Elem().PkgPath() != grpcPath {
		return false
	}
	// What grpc-go exports is generated code's stream around any other.
	name := t.Elem().Name()
	return name[0] >= 'a'
}

var grpcPath = reflect.TypeFor[grpc.Server]().PkgPath()

// finish ends the client's call with a status, as returning it from the handler
// does, for a handler that may be in SendMsg: a client that does not read would
// keep it there. What the handler returns later is not sent any more.
//
// With a transport that is not grpc-go's own it does nothing: the handler then
// returns when the client reads or goes.
func finish(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it has ended
	}
	if f := finisherOf(ctx); f != nil {
		_ = f.WriteStatus(status.Convert(err))
	}
}

// finisher is what the streams of grpc-go's transports can do: it ends the
// stream, and its context.
type finisher interface {
	WriteStatus(st *status.Status) error
}

func finisherOf(ctx context.Context) finisher {
	f, _ := grpc.ServerTransportStreamFromContext(ctx).(finisher)
	return f
}

func unlessEOF(err error) error {
	if isEOF(err) {
		return nil
	}
	return err
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

func freeAll(frames []*Frame) {
	for _, f := range frames {
		if f != nil {
			f.Free()
		}
	}
}

package grpcproxy

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// PeekDirector is a StreamDirector that may look at the first message before
// it decides, and gives each destination a message of its own.
type PeekDirector func(ctx context.Context, fullMethodName string, peeker StreamPeeker) (*StreamParameters, error)

// StreamPeeker looks ahead.
type StreamPeeker interface {
	// Peek returns the first message, which it waits for; the message is still
	// relayed. io.EOF says that there is none. The bytes must not be changed.
	Peek() ([]byte, error)
}

// Destination is where a call goes.
type Destination struct {
	// Ctx is the context of the call to the destination, derived from the
	// director's; nil: the director's, with the incoming metadata.
	Ctx context.Context //nolint:containedctx // the shape that is asked for
	// Conn is its connection.
	Conn grpc.ClientConnInterface
	// Msg takes the place of the first message; nil: the client's.
	Msg []byte
	// ErrHandler changes an error of this destination, or makes it a success
	// by nil; nil: errors stay.
	ErrHandler func(err error) error
}

// StreamParameters are what a PeekDirector decides.
type StreamParameters struct {
	primary     Destination
	secondaries []Destination
	finalizer   func() error
	options     []grpc.CallOption
}

// NewStreamParameters sends a call to primary, whose response the client gets,
// and to secondaries, whose responses are dropped. requestFinalizer, which may
// be nil, is called when the call has ended; its error is the call's if there
// is no other.
func NewStreamParameters(primary Destination, secondaries []Destination, requestFinalizer func() error, callOptions []grpc.CallOption) *StreamParameters {
	return &StreamParameters{primary: primary, secondaries: secondaries, finalizer: requestFinalizer, options: callOptions}
}

// Primary returns the destination whose response the client gets.
func (p *StreamParameters) Primary() Destination { return p.primary }

// Secondaries returns the other destinations.
func (p *StreamParameters) Secondaries() []Destination { return p.secondaries }

// CallOptions returns the options of all calls.
func (p *StreamParameters) CallOptions() []grpc.CallOption { return p.options }

// RequestFinalizer calls the finalizer.
func (p *StreamParameters) RequestFinalizer() error {
	if p.finalizer == nil {
		return nil
	}
	return p.finalizer()
}

// PeekHandler returns a handler for grpc.UnknownServiceHandler, or for
// RegisterStreamHandlers, that asks a PeekDirector. Of the options only
// WithQueue and WithHeapReserve matter to it.
//
// Of several errors the director's comes first, then those of the destinations
// as their ErrHandlers leave them, then the finalizer's.
func PeekHandler(director PeekDirector, options ...Option) grpc.StreamHandler {
	h := newHandler(nil, "", options)
	return func(_ any, ss grpc.ServerStream) error { return h.peek(ss, director) }
}

func (h *handler) peek(ss grpc.ServerStream, director PeekDirector) error {
	method, ok := grpc.MethodFromServerStream(ss)
	if !ok {
		return status.Error(codes.Internal, "grpcproxy: the stream has no method")
	}
	p := &peeker{ss: ss}
	defer p.free()
	params, err := director(ss.Context(), method, p)
	if err != nil {
		return statusOf(err)
	}
	if params == nil {
		return status.Error(codes.Internal, "grpcproxy: the director has decided nothing")
	}
	if p.err != nil && !errors.Is(p.err, io.EOF) {
		_ = params.RequestFinalizer() // the client is gone: nobody to tell
		return statusOf(p.err)
	}
	err = h.toDestinations(ss, method, params, p)
	if final := params.RequestFinalizer(); err == nil {
		err = statusOf(final)
	}
	return err
}

// toDestinations relays ss as params say.
func (h *handler) toDestinations(ss grpc.ServerStream, method string, params *StreamParameters, p *peeker) error {
	all := append([]Destination{params.primary}, params.secondaries...)
	backends := make([]Backend, len(all))
	rewritten := false
	for i := range all {
		backends[i] = &peekBackend{d: &all[i], options: params.options}
		rewritten = rewritten || all[i].Msg != nil
	}
	if rewritten {
		// What is replaced must be taken off the stream, even if nobody has
		// looked at it.
		if _, err := p.Peek(); err != nil && !errors.Is(err, io.EOF) {
			return statusOf(err)
		}
	}
	var first []*Frame // nil where there is none
	if p.first != nil || rewritten {
		first = make([]*Frame, len(all))
		for i, d := range all {
			switch {
			case d.Msg != nil:
				first[i] = FrameOf(d.Msg)
			case p.first != nil:
				first[i] = p.first.Clone()
			}
		}
	}
	p.over()
	if len(all) == 1 {
		return relay(ss, method, backends[0], first, h.pumps)
	}
	return h.replicate(ss, method, backends, first)
}

// Peek returns the first message of an incoming call, which it waits for, to a
// StreamDirector, until that decides: ctx is the director's, or derived from it.
// The message is still relayed. io.EOF says that there is none. The bytes must
// not be changed.
func Peek(ctx context.Context) ([]byte, error) {
	p, ok := ctx.Value(peekKey{}).(*peeker)
	if !ok {
		return nil, errNoPeeker
	}
	return p.Peek()
}

var errNoPeeker = status.Error(codes.Internal, "grpcproxy: the first message can be looked at in the context of a director only, and until it decides")

// directing is the context of a director: it can look at the first message.
type directing struct {
	context.Context //nolint:containedctx // it is one
	peeker
}

type peekKey struct{}

// Value implements context.Context.
func (d *directing) Value(key any) any {
	if key == (peekKey{}) {
		return &d.peeker
	}
	return d.Context.Value(key)
}

// peeker is the StreamPeeker of one call.
type peeker struct {
	ss    grpc.ServerStream
	done  bool
	first *Frame
	bytes []byte
	err   error
}

// Peek implements StreamPeeker.
func (p *peeker) Peek() ([]byte, error) {
	if !p.done {
		p.done = true
		var f Frame
		if p.err = p.ss.RecvMsg(&f); p.err == nil {
			p.first, p.bytes = &f, f.Data()
		}
	}
	return p.bytes, p.err
}

// over says that others read the stream from now on.
func (p *peeker) over() {
	if !p.done {
		p.done, p.err = true, errNoPeeker
	}
}

func (p *peeker) free() {
	if p.first != nil {
		p.first.Free()
	}
}

// peekBackend is a Destination as a Backend.
type peekBackend struct {
	SingleBackend
	d       *Destination
	options []grpc.CallOption
}

// String implements Backend.
func (b *peekBackend) String() string {
	if t, ok := b.d.Conn.(interface{ Target() string }); ok {
		return t.Target()
	}
	return "destination"
}

// Connect implements Connector.
func (b *peekBackend) Connect(ctx context.Context, _ string) (context.Context, grpc.ClientConnInterface, error) {
	if b.d.Ctx == nil {
		return Forwarded(ctx), b.d.Conn, nil
	}
	return b.d.Ctx, b.d.Conn, nil
}

// CallOptions implements CallOptioner.
func (b *peekBackend) CallOptions() []grpc.CallOption { return b.options }

// HandleError implements ErrorHandler.
func (b *peekBackend) HandleError(err error) error {
	if b.d.ErrHandler == nil {
		return err
	}
	return b.d.ErrHandler(err)
}

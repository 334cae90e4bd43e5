package grpcproxy

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TransparentHandler returns a handler for grpc.UnknownServiceHandler: it
// relays every call of which the server knows no service or method. The server
// should be given Codec with grpc.ForceServerCodecV2.
func TransparentHandler(director StreamDirector, options ...Option) grpc.StreamHandler {
	return newHandler(director, "", options).handle
}

// RegisterService makes server relay the methods of one service that
// WithMethodNames lists, and no others.
func RegisterService(server grpc.ServiceRegistrar, director StreamDirector, serviceName string, options ...Option) {
	h := newHandler(director, serviceName, options)
	methods := make(map[string]grpc.StreamHandler, len(h.methods))
	for _, m := range h.methods {
		methods[m] = h.handle
	}
	RegisterStreamHandlers(server, serviceName, methods)
}

// RegisterStreamHandlers registers handlers by method name as the service of
// that name: methods that are answered here rather than relayed.
func RegisterStreamHandlers(server grpc.ServiceRegistrar, serviceName string, methods map[string]grpc.StreamHandler) {
	desc := &grpc.ServiceDesc{ServiceName: serviceName, HandlerType: (*any)(nil)}
	for name, h := range methods {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName: name, Handler: h, ServerStreams: true, ClientStreams: true,
		})
	}
	server.RegisterService(desc, struct{}{})
}

// handler relays the calls of one director.
type handler struct {
	director StreamDirector
	pumps    *pumps
	options
}

func newHandler(director StreamDirector, service string, opts []Option) *handler {
	h := &handler{director: director, pumps: newPumps(residents(), handlerLinger), options: options{service: service, queue: defaultQueue, merge: Concatenate}}
	for _, o := range opts {
		o(&h.options)
	}
	if h.reserve == nil {
		h.reserve = processReserve()
	}
	return h
}

// handle is a grpc.StreamHandler.
func (h *handler) handle(_ any, ss grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(ss)
	if !ok {
		return status.Error(codes.Internal, "grpcproxy: the stream has no method")
	}
	growStack(false)
	return h.direct(ss, method)
}

// growStack makes a new goroutine's stack what opening a call takes. It would
// grow anyway, but step by step and deep in grpc-go, where a step copies and
// adjusts three times as many frames. The frame counts when the function is
// entered; only touching it would cost something.
//
//go:noinline
func growStack(touch bool) {
	if touch {
		var frame [4 << 10]byte
		use(&frame)
	}
}

//go:noinline
func use(*[4 << 10]byte) {}

// direct asks the director about ss and relays it.
func (h *handler) direct(ss grpc.ServerStream, method string) error {
	d := &directing{Context: ss.Context(), peeker: peeker{ss: ss}}
	mode, backends, err := h.director(d, method)
	if d.done {
		p := &peekedStream{streamWithContext: streamWithContext{ServerStream: ss, ctx: ss.Context()}, ended: d.err}
		p.first.Store(d.first)
		defer p.free()
		ss = p
	}
	switch {
	case err != nil:
		return unlessAnswered(statusOf(err))
	case d.err != nil && !isEOF(d.err):
		return statusOf(d.err)
	}
	d.over()
	if h.mode != nil {
		mode = *h.mode
	}
	switch mode {
	case One2One:
		if len(backends) != 1 || backends[0] == nil {
			return status.Errorf(codes.Internal, "grpcproxy: one-to-one relay to %d backends", len(backends))
		}
		return relay(ss, method, backends[0], nil, h.pumps)
	case One2Many, Replicated:
		if len(backends) == 0 {
			return status.Error(codes.Unavailable, "grpcproxy: no backends")
		}
		if slices.Contains(backends, nil) {
			return status.Error(codes.Internal, "grpcproxy: a backend is nil")
		}
		if mode == Replicated {
			return h.replicate(ss, method, backends, nil)
		}
		return h.fanOut(ss, method, backends)
	default:
		return status.Errorf(codes.Internal, "grpcproxy: unknown mode %d", mode)
	}
}

// streamDesc is that of every call to a backend: what it really is only the
// backend knows.
var streamDesc = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// open begins the call to a backend, which ends with ctx whatever context the
// backend returns. ctx is derived from that of ss.
func open(ctx context.Context, ss grpc.ServerStream, method string, b Backend) (cs grpc.ClientStream, err error) {
	var conn grpc.ClientConnInterface
	var out context.Context
	if c, ok := b.(Connector); ok {
		out, conn, err = c.Connect(ctx, method)
	} else {
		var cc *grpc.ClientConn
		out, cc, err = b.GetConnection(ctx, method)
		if cc != nil {
			conn = cc
		}
	}
	if err != nil {
		return nil, statusOf(err)
	}
	defer func() {
		if cs == nil && err == nil { // a panic, of an interceptor for example
			_ = end(out, b, errPanicked)
		}
	}()
	if conn == nil {
		return nil, end(out, b, status.Errorf(codes.Unavailable, "grpcproxy: %s has no connection", b))
	}
	if out == nil {
		return nil, end(ctx, b, status.Errorf(codes.Internal, "grpcproxy: %s has a connection and no context", b))
	}
	// A context that ends otherwise than ctx may not be derived from it.
	if out.Done() != ctx.Done() {
		var cancel context.CancelFunc
		out, cancel = context.WithCancel(out)
		context.AfterFunc(ctx, cancel)
	}
	in := ss.Context()
	opts := callOptions(in)
	if c, ok := b.(CallOptioner); ok {
		if own := c.CallOptions(); len(own) > 0 {
			opts = append(append([]grpc.CallOption(nil), own...), opts...)
		}
	}
	cs, err = conn.NewStream(ownEncodings(in, out), streamDesc, method, opts...)
	if err != nil {
		return nil, end(out, b, statusOf(unlessClosing(err)))
	}
	if e, ok := b.(Ender); ok {
		return &endingStream{ClientStream: cs, out: out, ender: e}, nil
	}
	return cs, nil
}

// recvMsg is RecvMsg of a call to a backend.
func recvMsg(cs grpc.ClientStream, m any) error { return unlessClosing(cs.RecvMsg(m)) }

// unlessClosing is err, unless it is grpc-go's word for a connection that was
// closed here: to the client that is no cancellation of its own. What a backend
// has said stays as it is, though it be the same.
func unlessClosing(err error) error {
	if err == grpc.ErrClientConnClosing { //nolint:errorlint,staticcheck // only itself; its code alone may be a backend's
		return errConnClosed
	}
	return err
}

var errConnClosed = status.Error(codes.Unavailable, "grpcproxy: the connection to the backend was closed")

// end tells an Ender of a call that did not begin.
func end(out context.Context, b Backend, err error) error {
	if e, ok := b.(Ender); ok {
		e.End(out, unlessAnswered(err))
	}
	return err
}

// errAnswered stands for OK where there is neither a call to a backend nor an
// error: filters have made that of a local reply.
var errAnswered = errors.New("grpcproxy: answered with OK")

func unlessAnswered(err error) error {
	if errors.Is(err, errAnswered) {
		return nil
	}
	return err
}

// endingStream tells an Ender when the call has ended. RecvMsg and close have
// one caller.
type endingStream struct {
	grpc.ClientStream
	out   context.Context //nolint:containedctx // the Ender's
	ender Ender           // nil: it was told
}

// RecvMsg implements grpc.ClientStream.
func (s *endingStream) RecvMsg(m any) error {
	err := recvMsg(s.ClientStream, m)
	if err != nil {
		s.end(unlessEOF(err))
	}
	return err
}

func (s *endingStream) end(err error) {
	if e := s.ender; e != nil {
		s.ender = nil
		e.End(s.out, err)
	}
}

// abandon ends a call that was cancelled, and may not have been read to its
// end.
func abandon(cs grpc.ClientStream) {
	if s, ok := cs.(*endingStream); ok {
		s.end(status.Error(codes.Canceled, "grpcproxy: the client has gone"))
	}
}

// ended is why ctx has ended. Its deadline counts once it is over: backends keep
// the same one, and a backend's timer may be faster than that of ctx.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}

// statusOf makes a status error of any: a context's error tells its own code.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		if _, ok := status.FromError(err); !ok {
			return status.FromContextError(err).Err()
		}
	}
	return replyStatus(err)
}

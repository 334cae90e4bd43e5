package grpcproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Config configures a Server. Either DefaultBackend or Director must be set.
type Config struct {
	// DefaultBackend is the address of the calls that no middleware sends
	// elsewhere.
	DefaultBackend string
	// Director decides about calls that no middleware has set a backend for. It
	// gets the metadata as the middlewares have left it.
	// The backends of DefaultBackend and of middlewares are connected to by
	// the server, those of the Director by itself.
	Director StreamDirector
	// Options are for what the Director decides.
	Options []Option
	// FirstPayload makes every call wait for its first message before the
	// middlewares see it, in Request.FirstPayload: as in gRPCat, which holds up
	// servers that speak first.
	FirstPayload bool

	KeepaliveParams       *keepalive.ClientParameters      // of connections to backends; nil: grpc-go's defaults
	BackendTransportCreds credentials.TransportCredentials // nil: plaintext
	BackendDialOptions    []grpc.DialOption                // after the server's own
	ServerOptions         []grpc.ServerOption              // after the server's own
	Hooks                 *Hooks                           // nil: none

	// MaxRecvMsgSize and MaxSendMsgSize bound messages on both sides, in
	// bytes; 0: no limit here. A server on a public address should have one.
	MaxRecvMsgSize, MaxSendMsgSize int
	// BackendIdleTimeout closes connections to backends that were not used
	// for so long; 0: they are kept.
	BackendIdleTimeout time.Duration

	// HeapReserve is memory that the server asks for and never touches, in
	// bytes: to the garbage collector it is live, so that it works less often,
	// as with a larger GOGC for small heaps only. It costs address space, and
	// at most as much memory in garbage. 0: what all servers and handlers of the
	// process share, 32 MiB or a sixteenth of GOMEMLIMIT if that is less;
	// negative: none.
	HeapReserve int
}

// Hooks are called at certain points of a call. All may be nil.
type Hooks struct {
	// OnFirstFrameError is called when a middleware looks at the first message
	// and it cannot be read; that there is none is no such error. What it
	// returns, if not nil, takes the error's place for the middlewares and
	// interceptors. The client has been told the original by then.
	OnFirstFrameError func(req *RequestInfo, err error) error
}

// Server is a proxy with a listener: a grpc.Server that relays whatever is not
// registered with it. Its methods are safe for concurrent use.
type Server struct {
	// Set at creation.

	config    Config
	server    *grpc.Server
	forwarder *Forwarder
	directed  *handler // nil without a Director
	reserve   []byte   // never touched
	stopped   chan struct{}
	stop      sync.Once

	mu    sync.Mutex                   // held to change chain
	chain atomic.Pointer[[]Middleware] // replaced, never changed
}

// NewServer returns a server that does not listen yet. It must be stopped.
func NewServer(c *Config) (*Server, error) {
	if c == nil || c.DefaultBackend == "" && c.Director == nil {
		return nil, errors.New("grpcproxy: neither DefaultBackend nor Director is set")
	}
	s := &Server{config: *c, stopped: make(chan struct{})}
	s.chain.Store(new([]Middleware))
	if c.HeapReserve == 0 {
		s.reserve = processReserve()
	} else {
		s.reserve = make([]byte, max(c.HeapReserve, 0))
	}

	recv, send := limit(c.MaxRecvMsgSize), limit(c.MaxSendMsgSize)
	dial := []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(recv), grpc.MaxCallSendMsgSize(send))}
	s.forwarder = NewForwarder(c.KeepaliveParams, c.BackendTransportCreds, append(dial, c.BackendDialOptions...))
	s.forwarder.cache.WithEviction(c.BackendIdleTimeout)
	s.forwarder.pumps = newPumps(residents(), 0)
	if c.Director != nil {
		s.directed = newHandler(c.Director, "", append([]Option{WithHeapReserve(0)}, c.Options...))
		s.directed.pumps = s.forwarder.pumps
	}
	opts := append(ServerOptions(), grpc.MaxRecvMsgSize(recv), grpc.MaxSendMsgSize(send),
		grpc.WaitForHandlers(true), grpc.UnknownServiceHandler(s.TransparentHandler()))
	s.server = grpc.NewServer(append(opts, c.ServerOptions...)...)
	return s, nil
}

func limit(n int) int {
	if n <= 0 {
		return maxMessage
	}
	return n
}

// Use adds a middleware behind those that are there. Calls that have begun are
// not affected. It panics if m is nil, rather than with the first call.
func (s *Server) Use(m Middleware) {
	if f, ok := m.(MiddlewareFunc); m == nil || ok && f == nil {
		panic("grpcproxy: Use of a nil Middleware") //nolint:forbidigo // a mistake in the program, not input
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	chain := append(slices.Clone(*s.chain.Load()), m)
	s.chain.Store(&chain)
}

// GetGRPCServer returns the grpc.Server, to register services with that are
// answered here: health, reflection, one's own.
func (s *Server) GetGRPCServer() *grpc.Server { return s.server }

// Start listens on a TCP address and serves until Stop, or until ctx is done;
// then it stops as Stop does.
func (s *Server) Start(ctx context.Context, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("grpcproxy: listen: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve is Start with a listener, which it closes.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	undo := context.AfterFunc(ctx, s.Stop)
	err := s.server.Serve(ln)
	if undo() {
		return err
	}
	<-s.stopped // ctx is done: its Stop is at work
	return err
}

// Stop lets the calls in progress end, and then closes all connections. Calling
// it again waits for the same.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.server.GracefulStop()
		s.finish()
	})
}

// Close ends the calls in progress with the connections, and returns when
// their handlers have: middlewares and directors have to heed their contexts.
func (s *Server) Close() {
	s.server.Stop() // also hurries a Stop at work
	s.stop.Do(s.finish)
}

// finish lets go of everything once the grpc.Server has stopped.
func (s *Server) finish() {
	s.forwarder.Close()
	s.forwarder.pumps.close()
	close(s.stopped)
}

// TransparentHandler returns the handler of the calls that are relayed, for
// use with another grpc.Server. That is to be stopped first: Stop and Close wait
// for its calls too, and those that begin later fail unless the Director has
// connections for them.
func (s *Server) TransparentHandler() grpc.StreamHandler { return s.handle }

// handle is a grpc.StreamHandler.
func (s *Server) handle(_ any, ss grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(ss)
	if !ok {
		return status.Error(codes.Internal, "grpcproxy: the stream has no method")
	}
	c := newContext(ss, method, *s.chain.Load(), s.config.Hooks)
	defer c.recycle()
	if s.config.FirstPayload {
		_, _ = c.Peek() // its error is kept
	}
	c.Next()
	if c.IsAborted() {
		return c.answer()
	}
	if c.firstErr != nil && !errors.Is(c.firstErr, io.EOF) {
		return c.firstErr
	}
	if c.Backend == "" && s.directed != nil {
		if len(c.chain) == 0 && !c.peeked {
			return s.directed.direct(ss, method)
		}
		edited := streamWithContext{ServerStream: ss, ctx: metadata.NewIncomingContext(c.ctx, c.Metadata)}
		if !c.peeked {
			return s.directed.direct(&edited, method)
		}
		p := &peekedStream{streamWithContext: edited, ended: c.firstErr}
		p.first.Store(c.takeFirst())
		defer p.free()
		return s.directed.direct(p, method)
	}
	backend := c.Backend
	if backend == "" {
		backend = s.config.DefaultBackend
	}
	return s.forwarder.forward(c.ctx, ss, method, backend, c.Metadata, c.takeFirst())
}

// peekedStream is a stream whose first message was received before.
type peekedStream struct {
	streamWithContext
	first atomic.Pointer[Frame] // nil: it was taken; the reader may outlive the handler
	ended error                 // what RecvMsg said instead of a first message
}

// RecvMsg implements grpc.ServerStream, for frames.
func (s *peekedStream) RecvMsg(m any) error {
	if s.ended != nil {
		return s.ended
	}
	f, ok := m.(*Frame)
	if !ok {
		return s.ServerStream.RecvMsg(m)
	}
	first := s.first.Swap(nil)
	if first == nil {
		return s.ServerStream.RecvMsg(m)
	}
	f.Free()
	f.data, first.data = first.data, nil
	return nil
}

// free gives up a first message that nobody has taken.
func (s *peekedStream) free() {
	if first := s.first.Swap(nil); first != nil {
		first.Free()
	}
}

package grpcproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Middleware sees the calls of a Server before they go to a backend. Handle is
// called on many goroutines at once.
type Middleware interface {
	Handle(c *Context)
}

// MiddlewareFunc is a function as a Middleware.
type MiddlewareFunc func(c *Context)

// Handle implements Middleware.
func (f MiddlewareFunc) Handle(c *Context) { f(c) }

// RequestInfo is what is known of a call.
type RequestInfo struct {
	FullMethod string // /package.Service/Method
	Service    string // package.Service
	Method     string // Method
	// Metadata is Context.Metadata: the same map, under the name that it has
	// in gRPCat. Changes in it reach the backend.
	Metadata metadata.MD
	// FirstPayload is the first message, once a middleware has asked for it
	// with Peek, or for all if Config.FirstPayload is set; nil if there is none.
	// Rewrite changes it, not writing to it.
	FirstPayload []byte
}

// ResponseInfo is what a middleware answered.
type ResponseInfo struct {
	Data []byte // of a response with SendResponse; never nil then
	Code codes.Code
	Msg  string
}

// Context is one call on its way through the middlewares. It is valid until
// the first middleware's Handle returns, and belongs to one goroutine but for
// Set, Get and GetString.
type Context struct {
	Request  *RequestInfo
	Response *ResponseInfo // nil unless a middleware answered
	// Backend is the address the call goes to; empty: the server's default.
	Backend string
	// Metadata goes to the backend, or to the Director: what the client sent,
	// and what the middlewares make of it. Request.Metadata is the same map; of
	// two that a middleware has made different, this one counts.
	Metadata metadata.MD

	stream   grpc.ServerStream // nil: a Context of NewContext
	ctx      context.Context   //nolint:containedctx // the call's, as middlewares have changed it
	request  RequestInfo
	chain    []Middleware
	at       int
	first    *Frame
	firstErr error
	peeked   bool
	hooks    *Hooks

	mu     sync.RWMutex // guards values
	values map[string]any
}

// aborted is a position behind every chain.
const aborted = math.MaxInt / 2

var contexts = sync.Pool{New: func() any { return new(Context) }}

func newContext(ss grpc.ServerStream, method string, chain []Middleware, hooks *Hooks) *Context {
	c := contexts.Get().(*Context)
	c.stream, c.ctx, c.chain, c.at, c.hooks = ss, ss.Context(), chain, -1, hooks
	c.request.FullMethod = method
	c.request.Service, c.request.Method = splitMethod(method)
	c.Metadata, _ = metadata.FromIncomingContext(c.ctx)
	if c.Metadata == nil {
		c.Metadata = metadata.MD{}
	}
	stripHop(c.Metadata)
	c.request.Metadata = c.Metadata
	c.Request = &c.request
	return c
}

// NewContext returns a Context of no call, to try middlewares with. Its first
// message is req.FirstPayload.
func NewContext(req *RequestInfo, middlewares []Middleware) *Context {
	c := new(Context)
	c.init(req, middlewares)
	return c
}

// AcquireContext is NewContext from a pool, to which ReleaseContext gives it
// back.
func AcquireContext(req *RequestInfo, middlewares []Middleware) *Context {
	c := contexts.Get().(*Context)
	c.init(req, middlewares)
	return c
}

// ReleaseContext gives c back. It must not be used afterwards.
func ReleaseContext(c *Context) { c.recycle() }

func (c *Context) init(req *RequestInfo, middlewares []Middleware) {
	if req == nil {
		req = &RequestInfo{}
	}
	if req.Metadata == nil {
		req.Metadata = metadata.MD{}
	}
	c.Request, c.Metadata, c.chain, c.at, c.ctx = req, req.Metadata, middlewares, -1, context.Background()
}

// recycle makes c ready for another call.
func (c *Context) recycle() {
	if c.first != nil {
		c.first.Free()
	}
	*c = Context{}
	contexts.Put(c)
}

// splitMethod makes service and method of /service/method.
func splitMethod(full string) (service, method string) {
	full = strings.TrimPrefix(full, "/")
	i := strings.LastIndexByte(full, '/')
	if i < 0 {
		return full, ""
	}
	return full[:i], full[i+1:]
}

// Context returns the call's context: its deadline, and when the client goes.
func (c *Context) Context() context.Context { return c.ctx }

// WithContext makes ctx, which must be derived from Context, the context of
// the call to the backend.
func (c *Context) WithContext(ctx context.Context) { c.ctx = ctx }

// Next calls the middlewares after this one and returns when they have. One
// that does not call it is followed by the others all the same: only Abort,
// AbortWithError and SendResponse stop the chain.
func (c *Context) Next() {
	for c.at++; c.at < len(c.chain); c.at++ {
		c.chain[c.at].Handle(c)
	}
}

// Abort stops the chain. Without an answer the call fails with INTERNAL.
func (c *Context) Abort() { c.at = aborted }

// AbortWithError stops the chain and fails the call.
func (c *Context) AbortWithError(code codes.Code, msg string) {
	c.Response = &ResponseInfo{Code: code, Msg: msg}
	c.Abort()
}

// SendResponse stops the chain and answers the call with one message, which
// belongs to the server from now on.
func (c *Context) SendResponse(data []byte) {
	c.Response = &ResponseInfo{Data: notNil(data)}
	c.Abort()
}

// IsAborted reports whether the chain was stopped.
func (c *Context) IsAborted() bool { return c.at >= aborted }

// SetBackend sets the address that the call goes to.
func (c *Context) SetBackend(backend string) { c.Backend = backend }

// AddMetadata adds a value to what the backend gets.
func (c *Context) AddMetadata(key, value string) {
	if c.Metadata == nil {
		c.Metadata = metadata.MD{}
	}
	c.Metadata.Append(key, value)
}

// Peek returns a copy of the first message: it waits for it, which is why a
// call is not held up unless a middleware asks. io.EOF says that the client
// sends none. The message goes to the backend as if it had not been looked at.
func (c *Context) Peek() ([]byte, error) {
	if c.stream == nil {
		if c.Request == nil || c.Request.FirstPayload == nil {
			return nil, io.EOF
		}
		return bytes.Clone(c.Request.FirstPayload), nil
	}
	if !c.peeked {
		c.peeked = true
		var f Frame
		if err := c.stream.RecvMsg(&f); err == nil {
			c.first = &f
			c.request.FirstPayload = notNil(f.Data())
		} else {
			c.firstErr = c.firstFrameError(err)
		}
	}
	if c.first == nil {
		return nil, c.firstErr
	}
	return c.first.Data(), nil
}

// firstFrameError asks the hook about an error that is not the client's end.
func (c *Context) firstFrameError(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if c.hooks != nil && c.hooks.OnFirstFrameError != nil {
		if other := c.hooks.OnFirstFrameError(c.Request, err); other != nil {
			return statusOf(other)
		}
	}
	return statusOf(err)
}

// Rewrite puts payload, which belongs to the server from now on, in the place
// of the first message.
func (c *Context) Rewrite(payload []byte) error {
	if _, err := c.Peek(); err != nil {
		return err
	}
	if c.first != nil {
		c.first.Set(payload)
	}
	c.Request.FirstPayload = notNil(payload)
	return nil
}

// notNil tells an empty message from none.
func notNil(payload []byte) []byte {
	if payload == nil {
		return []byte{}
	}
	return payload
}

// Set keeps a value for later middlewares. Safe for concurrent use.
func (c *Context) Set(key string, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = make(map[string]any)
	}
	c.values[key] = value
}

// Get returns a value that Set keeps. Safe for concurrent use.
func (c *Context) Get(key string) (any, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.values[key]
	return v, ok
}

// GetString is Get for strings; empty if it is none. Safe for concurrent use.
func (c *Context) GetString(key string) string {
	v, _ := c.Get(key)
	s, _ := v.(string)
	return s
}

// answer sends what the middlewares answered.
func (c *Context) answer() error {
	switch r := c.Response; {
	case r == nil:
		return status.Error(codes.Internal, "grpcproxy: a middleware stopped the call without an answer")
	case r.Data != nil:
		if err := c.stream.SendMsg(FrameOf(r.Data)); err != nil {
			return ownError(c.stream, err)
		}
		return nil
	default:
		return status.Error(r.Code, r.Msg)
	}
}

// takeFirst returns the first message, if it was looked at, for the relay to
// free.
func (c *Context) takeFirst() *Frame {
	f := c.first
	c.first = nil
	return f
}

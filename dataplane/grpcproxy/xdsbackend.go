package grpcproxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// xdsBackend is where the routes send one call.
type xdsBackend struct {
	*xdsCall
	decision call.Decision
	used     func() bool // keeps the call from ending by itself with the client's

	// Set by Connect.

	host    call.Host
	conn    *hostConn
	started clock.Nanos
	client  context.Context //nolint:containedctx // of the client's stream
	ctx     context.Context //nolint:containedctx // of the attempt
	cancel  context.CancelCauseFunc
	stop    context.CancelFunc // of the limit, if there is one
	opened  bool

	timeout atomic.Pointer[time.Timer] // the route's, from the end of the request
	idle    idle
	late    late
	ended   atomic.Bool
	final   call.Outcome // once it has ended
}

// idle is for how long nothing may happen in a call.
type idle struct {
	limit time.Duration
	last  atomic.Int64 // clock.Nanos
	timer atomic.Pointer[time.Timer]
}

// cutOff is why the proxy has cut an attempt, and what is said of that.
type cutOff struct {
	error
	outcome call.Outcome
}

// As the relay says it.
var (
	routeTimeout    = &cutOff{status.Error(codes.DeadlineExceeded, "upstream request timeout"), call.Outcome{Flags: call.UpstreamRequestTimeout}}
	idleTimeout     = &cutOff{status.Error(codes.DeadlineExceeded, "stream timeout"), call.Outcome{Flags: call.StreamIdleTimeout}}
	durationTimeout = &cutOff{statusOf(context.DeadlineExceeded), timeOver}
)

// cut ends the call, though the client may not read what the host has sent.
func (b *xdsBackend) cut(why *cutOff) {
	b.cancel(why)
	b.late.finish(b.client, why.error)
}

// cutBy is why the attempt was cut; nil if it was not, or by the client.
func (b *xdsBackend) cutBy() *cutOff {
	if why, ok := context.Cause(b.ctx).(*cutOff); ok { //nolint:errorlint // it is the cause itself
		return why
	}
	if errors.Is(b.ctx.Err(), context.DeadlineExceeded) {
		return durationTimeout
	}
	return nil
}

// watchIdle begins to wait for what happens in the call.
func (b *xdsBackend) watchIdle() {
	b.idle.limit = b.manager.StreamIdleTimeout
	if rt := b.decision.Route; rt != nil && rt.IdleTimeout != 0 {
		b.idle.limit = rt.IdleTimeout
	}
	if b.idle.limit > 0 {
		b.active()
		b.idleIn(b.idle.limit)
	}
}

// active says that something has happened.
func (b *xdsBackend) active() {
	if b.idle.limit > 0 {
		b.idle.last.Store(int64(b.director.now()))
	}
}

// idleIn looks after d whether nothing has happened.
func (b *xdsBackend) idleIn(d time.Duration) {
	t := time.AfterFunc(d, func() {
		if left := b.idle.limit - b.director.now().Sub(clock.Nanos(b.idle.last.Load())); left > 0 {
			b.idleIn(left)
			return
		}
		b.cut(idleTimeout)
	})
	b.idle.timer.Store(t)
	if b.ended.Load() {
		t.Stop()
	}
}

// String implements Backend.
func (b *xdsBackend) String() string {
	if b.host == nil {
		return "cluster"
	}
	return b.host.Target().Address
}

// GetConnection implements Backend. It is not used: see Connect.
func (b *xdsBackend) GetConnection(context.Context, string) (context.Context, *grpc.ClientConn, error) {
	return nil, nil, errors.ErrUnsupported
}

// AppendInfo implements Backend.
func (b *xdsBackend) AppendInfo(_ bool, resp []byte) ([]byte, error) { return resp, nil }

// BuildError implements Backend.
func (b *xdsBackend) BuildError(bool, error) ([]byte, error) { return nil, nil }

// Connect implements Connector.
func (b *xdsBackend) Connect(ctx context.Context, _ string) (context.Context, grpc.ClientConnInterface, error) {
	md := b.md.Copy()
	stripHop(md)
	if rt := b.decision.Route; rt != nil {
		b.apply(md, rt.RequestOps, nil) // a panic in it leaves nothing behind
	}
	b.used()
	var host call.Host
	err := b.once(func() (err error) {
		b.call.Draw = rand.Uint64()
		if host, err = b.decision.Backends.Pick(&b.call, 0); host == nil && err == nil {
			err = call.ReplyNoHealthy
		}
		return err
	})
	if err != nil {
		return nil, nil, b.refuse(ctx, err)
	}
	b.host, b.started = host, b.director.now()
	if b.conn, err = b.director.hosts.acquire(host); err != nil {
		err = status.Errorf(codes.Unavailable, "grpcproxy: host %s: %v", b, err)
		b.done(notConnected, err)
		return nil, nil, b.refuse(ctx, err)
	}
	out := metadata.NewOutgoingContext(ctx, md)
	out, b.cancel = context.WithCancelCause(out)
	b.client = ctx
	if left, limited := b.limit(ctx); limited {
		var cancel context.CancelFunc
		out, cancel = context.WithTimeout(out, left)
		over := context.AfterFunc(out, func() {
			if errors.Is(out.Err(), context.DeadlineExceeded) {
				b.late.finish(ctx, durationTimeout.error)
			}
		})
		b.stop = func() {
			over()
			cancel()
		}
	}
	b.ctx = out
	return out, &xdsChannel{ClientConnInterface: b.conn, backend: b}, nil
}

// limit is the longest that the call may take from now on, whatever it does, if
// that is less than the client gives it.
func (b *xdsBackend) limit(ctx context.Context) (left time.Duration, limited bool) {
	spent := b.started.Sub(b.call.Arrived)
	limit := b.manager.MaxStreamDuration
	rt := b.decision.Route
	if rt != nil && rt.MaxStreamDuration != 0 {
		limit = rt.MaxStreamDuration
	}
	if by, ok := ctx.Deadline(); ok && rt != nil && rt.UseGRPCTimeout {
		whole := time.Until(by) + spent
		d := whole - rt.GRPCTimeoutOffset
		if d <= 0 {
			d = whole // as in Envoy
		}
		if rt.GRPCTimeoutMax > 0 {
			d = min(d, rt.GRPCTimeoutMax)
		}
		if d < whole && (limit <= 0 || d < limit) {
			limit = d
		}
	}
	return limit - spent, limit > 0
}

// requestEnded starts the route's timeout.
func (b *xdsBackend) requestEnded(ctx context.Context) {
	rt := b.decision.Route
	if rt == nil {
		return
	}
	timeout := rt.Timeout
	if rt.OldGRPCTimeout {
		timeout = rt.GRPCTimeoutMax
	}
	if timeout <= 0 {
		return
	}
	if _, ok := ctx.Deadline(); ok && rt.UseGRPCTimeout {
		return // the client's holds instead
	}
	t := time.AfterFunc(timeout, func() { b.cut(routeTimeout) })
	b.timeout.Store(t)
	if b.ended.Load() {
		t.Stop()
	}
}

// End implements Ender.
func (b *xdsBackend) End(_ context.Context, err error) {
	by := clientGone
	if !b.opened {
		by = weAnswered
	} else if why := b.cutBy(); why != nil && !b.ended.Load() { // with a client that does not read
		by, err = why.outcome, why.error
	}
	b.done(by, err) // unless the response has told, or why there is none
	b.final.Code, b.final.HasCode, b.final.HTTP = call.Code(status.Code(err)), true, 200
	for _, p := range []*atomic.Pointer[time.Timer]{&b.timeout, &b.idle.timer} {
		if t := p.Load(); t != nil {
			t.Stop()
		}
	}
	b.late.stop()
	if b.stop != nil {
		b.stop()
	}
	b.cancel(nil)
	b.conn.release()
	b.xdsCall.end(&b.final)
}

// What may have ended an attempt. Read-only.
var (
	hostAnswered = call.Outcome{HTTP: 200, HasCode: true}
	notConnected = call.Outcome{Side: call.SideUpstream, Flags: call.UpstreamConnFailure}
	clientGone   = call.Outcome{Side: call.SideDownstream, Flags: call.DownstreamRemoteReset}
	timeOver     = call.Outcome{Flags: call.DurationTimeout}
	weAnswered   = call.Outcome{Side: call.SideLocal}
)

// endOf returns what has ended an attempt with err: ctx, which is that of the
// attempt, the director's end, or the host.
func endOf(ctx context.Context, err error) call.Outcome {
	gone := ended(ctx)
	switch {
	case err == errConnClosed: //nolint:errorlint // not its like of the host's
		return weAnswered
	case gone == nil || status.Code(err) != status.FromContextError(gone).Code():
		return hostAnswered
	case errors.Is(gone, context.DeadlineExceeded):
		return timeOver
	default:
		return clientGone
	}
}

// done tells the backend set how the attempt went, once: by what it ended, and
// with which status.
func (b *xdsBackend) done(o call.Outcome, err error) {
	if b.ended.Swap(true) {
		return
	}
	o.Host, o.Code = b.host, call.Code(status.Code(err))
	o.MaybeSeen, o.Connected = b.opened, b.opened
	o.Start, o.End = b.started, b.director.now()
	b.mu.Lock()
	_ = b.guardedLocked(func() error { b.decision.Backends.Done(b.host, &o); return nil }) // the call goes on as it is
	b.mu.Unlock()
	b.final = o
}

// xdsChannel makes one call to a host as the route says.
type xdsChannel struct {
	grpc.ClientConnInterface
	backend *xdsBackend
}

// NewStream implements grpc.ClientConnInterface.
func (c *xdsChannel) NewStream(ctx context.Context, desc *grpc.StreamDesc, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	b := c.backend
	method, authority := b.call.Path, b.call.Host
	if rt := b.decision.Route; rt != nil && rt.Rewrite != nil {
		if rt.Rewrite.Path != nil {
			method = cmp.Or(rt.Rewrite.Path(&b.call), method)
		}
		if rt.Rewrite.Host != nil {
			authority = cmp.Or(rt.Rewrite.Base, authority)
			if h := rt.Rewrite.Host(&b.call, b.host); h != "" {
				if rt.Rewrite.AppendHost {
					ctx = forwardedHost(ctx, authority)
				}
				authority = h
			}
		}
	}
	if authority != "" {
		opts = append(opts[:len(opts):len(opts)], grpc.CallAuthority(authority))
	}
	cs, err := c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err = unlessClosing(err); err != nil {
		o := endOf(ctx, err)
		switch {
		case !o.HasCode:
		case status.Code(err) == codes.Unavailable:
			o = notConnected
		default:
			o = weAnswered // grpc-go refuses what the call has
		}
		b.done(o, err)
		return nil, b.refuse(ctx, err)
	}
	b.opened = true
	b.watchIdle()
	return &xdsStream{ClientStream: cs, ctx: ctx, backend: b}, nil
}

// forwardedHost tells the host in outgoing metadata which one the client has
// asked for, unless the last one that is told is that.
func forwardedHost(ctx context.Context, authority string) context.Context {
	const name = "x-forwarded-host"
	md, _ := metadata.FromOutgoingContext(ctx)
	all := slices.DeleteFunc(md[name], func(v string) bool { return v == "" })
	last := strings.Join(all, ",")
	last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	if authority == "" || last == authority {
		return ctx
	}
	md = metadata.Join(md)
	md[name] = []string{strings.Join(append(all, authority), ",")}
	return metadata.NewOutgoingContext(ctx, md)
}

// xdsStream is a call to a host. Header, RecvMsg and Trailer have one caller,
// SendMsg and CloseSend another.
type xdsStream struct {
	grpc.ClientStream
	ctx     context.Context //nolint:containedctx // its cause says why the call was cancelled
	backend *xdsBackend

	// Owned by the receiver.

	head    metadata.MD
	trailer metadata.MD
	cut     bool  // the call ended while a filter was waited for
	over    error // how the response ended; io.EOF: OK

	failed atomic.Pointer[error] // the local reply that has ended the call
}

// CloseSend implements grpc.ClientStream.
func (s *xdsStream) CloseSend() error {
	s.backend.requestEnded(s.ctx)
	return s.ClientStream.CloseSend()
}

// SendMsg implements grpc.ClientStream. A local reply is RecvMsg's to tell, like
// an end that the backend has made, so that filters see it; once headers have
// passed they would not, and a client that does not read must not keep it.
// RecvMsg also tells what has ended a call while a filter was waited for.
func (s *xdsStream) SendMsg(m any) error {
	if f, ok := m.(*Frame); ok {
		drop, err := s.backend.filterMessage(s.ctx, f, true)
		if err != nil {
			if s.fail(err) && s.backend.flt.passed.Load() {
				return statusOfCall(err)
			}
			return io.EOF
		}
		if drop {
			return nil
		}
	}
	err := s.ClientStream.SendMsg(m)
	s.backend.active()
	return err
}

// fail ends the call to the host for a local reply. If it has ended already the
// filter may only have been waited for until then: err is none, and it reports
// false.
func (s *xdsStream) fail(err error) bool {
	if s.ctx.Err() != nil {
		return false
	}
	if s.failed.CompareAndSwap(nil, &err) {
		s.backend.cancel(errLocalReply)
	}
	return true
}

// refuse ends the response for an error of a filter's.
func (s *xdsStream) refuse(err error) {
	if !s.fail(err) {
		s.cut, err = true, statusOf(s.ctx.Err())
	}
	s.end(err)
}

var errLocalReply = errors.New("a filter has answered")

// Header implements grpc.ClientStream.
func (s *xdsStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil || md == nil || s.backend.flt.shown {
		return s.head, err
	}
	s.backend.active()
	s.backend.routeResponse(md, s.backend.host, nil)
	if s.head, err = s.backend.filterResponseHeaders(s.ctx, md); err != nil {
		s.refuse(err)
		return nil, err
	}
	return s.head, nil
}

// RecvMsg implements grpc.ClientStream.
func (s *xdsStream) RecvMsg(m any) error {
	for s.over == nil {
		err := recvMsg(s.ClientStream, m)
		if err != nil || s.failed.Load() != nil { // what had come before counts no more
			s.end(err)
			break
		}
		s.backend.active()
		f, ok := m.(*Frame)
		if !ok {
			return nil
		}
		drop, err := s.backend.filterMessage(s.ctx, f, false)
		if err != nil {
			s.refuse(err)
			break
		}
		if !drop {
			return nil
		}
	}
	return s.over
}

// Trailer implements grpc.ClientStream.
func (s *xdsStream) Trailer() metadata.MD { return s.trailer }

// end decides how the response ends.
func (s *xdsStream) end(err error) {
	b := s.backend
	local := s.cut // it may have trailers that have not been read to yet
	var by call.Outcome
	cut, _ := context.Cause(s.ctx).(*cutOff) //nolint:errorlint // it is the cause itself
	switch failed := s.failed.Load(); {
	case failed != nil:
		err, local, by = statusOfCall(*failed), true, weAnswered
	case isEOF(err):
		err, by = nil, hostAnswered
	case cut != nil:
		err, local, by = cut.error, true, cut.outcome
	default:
		by = endOf(s.ctx, err)
	}
	b.done(by, err)
	if !local {
		s.trailer = s.ClientStream.Trailer()
	}
	if !b.flt.shown { // its trailers are its headers
		s.trailer = s.trailer.Copy()
		b.routeResponse(s.trailer, b.host, status.Convert(err))
	}
	if s.trailer, err = b.filterEnd(err, s.trailer, local); err == nil {
		err = io.EOF
	}
	s.over = err
}

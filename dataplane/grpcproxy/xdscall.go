package grpcproxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// xdsCall is an incoming call in the data plane's words.
type xdsCall struct {
	director *XDSDirector
	manager  *call.Manager
	headers  hpack.Block
	md       metadata.MD // what was received, as filters have left it
	route    *call.Route // what the Director has decided; nil before, or if there is none

	// mu is held while a Filter, Director or BackendSet has call: the pumps of
	// the two directions are different goroutines.
	mu   sync.Mutex
	call call.Call
	flt  xdsFilters

	waking sync.Mutex // guards wake
	wake   *wakeup    // of the next Resume; nil: nobody has been asked since the last
}

// wakeup tells those who wait that the call was resumed.
type wakeup struct {
	done chan struct{}
	err  error // what it was resumed with; read-only once done is closed
}

func newXDSCall(ctx context.Context, d *XDSDirector, m *call.Manager, method string, conn *call.Conn) *xdsCall {
	x := &xdsCall{director: d, manager: m}
	x.md, _ = metadata.FromIncomingContext(ctx)
	authority := ""
	if v := x.md.Get(":authority"); len(v) > 0 {
		authority = v[0]
	}
	scheme := "http"
	if conn.TLS != nil {
		scheme = "https"
	}
	for _, h := range [...][2]string{{":method", "POST"}, {":scheme", scheme}, {":path", method}, {":authority", authority}} {
		x.headers.AppendCopy(h[0], h[1])
	}
	appendMD(&x.headers, x.md)
	now := d.now()
	x.call = call.Call{
		Conn: conn, Headers: &x.headers, Path: method, Host: authority, Method: "POST", GRPC: true,
		Arrived: now, Now: now, Rand: rand.Uint64(),
	}
	d.slots.add(x)
	return x
}

// appendMD adds metadata as it was on the wire.
func appendMD(b *hpack.Block, md metadata.MD) {
	for k, values := range md {
		if strings.HasPrefix(k, ":") {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(k, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			b.AppendCopy(k, v)
		}
	}
}

// mdOf is the inverse of appendMD. What is no base64 stays as it is.
func mdOf(b *hpack.Block) metadata.MD {
	md := make(metadata.MD, len(b.Fields))
	for i := range b.Fields {
		k, v := b.Fields[i].Name, strings.Clone(b.Fields[i].Value)
		if strings.HasPrefix(k, ":") {
			continue
		}
		k = strings.Clone(k)
		md[k] = append(md[k], offWire(k, v))
	}
	return md
}

// offWire makes metadata of a header's value.
func offWire(k, v string) string {
	if strings.HasSuffix(k, "-bin") {
		if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "=")); err == nil {
			return string(raw)
		}
	}
	return v
}

// resume continues the parts of the call that are pending.
func (x *xdsCall) resume(err error) {
	x.waking.Lock()
	defer x.waking.Unlock()
	if x.wake != nil {
		x.wake.err = err
		close(x.wake.done)
		x.wake = nil
	}
}

// waker returns what tells that the call is resumed from now on.
func (x *xdsCall) waker() *wakeup {
	x.waking.Lock()
	defer x.waking.Unlock()
	if x.wake == nil {
		x.wake = &wakeup{done: make(chan struct{})}
	}
	return x.wake
}

// ask calls foreign code, and again as often as it is pending and the call is
// resumed. A panic in it costs the call.
func (x *xdsCall) ask(ctx context.Context, f func() error) error {
	for {
		wake := x.waker() // before f: it may be resumed at once
		err := x.once(f)
		if !errors.Is(err, call.ErrPending) {
			return err
		}
		select {
		case <-wake.done:
			if wake.err != nil {
				return wake.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// once is ask without ErrPending. After the filters' Done nothing is asked.
func (x *xdsCall) once(f func() error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.flt.done {
		return errOver
	}
	return x.guardedLocked(f)
}

func (x *xdsCall) guardedLocked(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			x.director.log.Error("panic in a director or filter", "reason", fmt.Sprint(r), "path", x.call.Path, "stack", string(debug.Stack()))
			err = replyPanic
		}
	}()
	x.call.Now = x.director.now()
	return f()
}

var (
	replyPanic       = &call.Reply{HTTP: 500, GRPC: call.Internal, Detail: "internal_error", Message: "internal error"}
	replyPeekedTwice = &call.Reply{HTTP: 500, GRPC: call.Internal, Detail: "internal_error", Message: "the director asked for the first message twice"}
)

// direct asks the Director until it has decided.
func (x *xdsCall) direct(ctx context.Context) (decision call.Decision, err error) {
	for {
		err = x.ask(ctx, func() (err error) {
			decision, err = x.manager.Director.Direct(&x.call)
			return err
		})
		if !errors.Is(err, call.ErrPeek) {
			return decision, err
		}
		if x.call.Peek.Done {
			return decision, replyPeekedTwice
		}
		if err := x.peek(ctx); err != nil {
			return decision, err
		}
	}
}

const defaultMaxPeek = 64 << 10

// peek waits for the first message and shows it to the Director.
func (x *xdsCall) peek(ctx context.Context) error {
	b, err := Peek(ctx)
	if err != nil && !isEOF(err) {
		return err
	}
	limit := x.manager.MaxPeekBytes
	if limit <= 0 {
		limit = defaultMaxPeek
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.call.Peek = call.Peek{Done: true, Whole: err == nil && len(b) <= limit, Message: call.Message{Data: b[:min(len(b), limit)]}}
	return nil
}

// readHead tells the call's fields what filters have left of the headers.
func (x *xdsCall) readHead() {
	c := &x.call
	if v, ok := x.headers.Get(hdr.Path); ok {
		c.Path = v
	}
	if v, ok := x.headers.Get(hdr.Authority); ok {
		c.Host = v
	}
	if v, ok := x.headers.Get(hdr.Method); ok {
		c.Method = v
	}
	x.md = mdOf(&x.headers)
}

// statusOfCall is the status of an error of a Director, BackendSet or Filter: a
// Reply's, a status as it is, the client's end, and else UNAVAILABLE.
func statusOfCall(err error) error {
	var r *call.Reply
	if errors.As(err, &r) {
		return direct(r)
	}
	err = statusOf(err)
	if _, ok := status.FromError(err); !ok {
		return status.Error(codes.Unavailable, err.Error())
	}
	return err
}

// routeResponse changes the headers of a response as the route says: one of
// host's, or of our own if that is nil. st is the status of one that ends with
// them, else nil.
func (x *xdsCall) routeResponse(md metadata.MD, host call.Host, st *status.Status) {
	if x.route == nil || len(x.route.ResponseOps) == 0 {
		return
	}
	var b hpack.Block
	appendHead(&b, st)
	appendMD(&b, md)
	x.apply(md, x.route.ResponseOps, &call.Outcome{Host: host, HTTP: 200, Response: &b})
}

// apply changes md as header operations of a route say, level by level as the
// relay does: a level removes first; then all its values are made, of the headers
// as they are; then it overwrites, and appends last. o has the headers of a
// response; of a request they are the call's.
func (x *xdsCall) apply(md metadata.MD, ops []call.HeaderOp, o *call.Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := headers{md, &x.headers}
	if o != nil {
		h.block = o.Response
	}
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && !ops[n].Next {
			n++
		}
		x.applyLevelLocked(h, ops[:n], o)
		ops = ops[n:]
	}
}

func (x *xdsCall) applyLevelLocked(h headers, ops []call.HeaderOp, o *call.Outcome) {
	var appends, overwrites [][2]string
	for i := range ops {
		op := &ops[i]
		name, v := op.Field.Name, op.Field.Value
		if op.Action == call.HeaderRemove {
			h.remove(name)
			continue
		}
		if op.Value != nil {
			if v = op.Value(&x.call, o); v == "" && !op.KeepEmpty {
				continue
			}
		}
		_, there := h.md[name]
		switch op.Action {
		case call.HeaderAppend:
			appends = append(appends, [2]string{name, v})
		case call.HeaderAddIfAbsent:
			if !there {
				appends = append(appends, [2]string{name, v})
			}
		case call.HeaderOverwrite:
			overwrites = append(overwrites, [2]string{name, v})
		case call.HeaderOverwriteIfExist:
			if there {
				overwrites = append(overwrites, [2]string{name, v})
			}
		}
	}
	for _, f := range overwrites {
		h.remove(f[0])
		h.append(f[0], f[1])
	}
	for _, f := range appends {
		h.append(f[0], f[1])
	}
}

// headers is metadata, and what values of headers are made of.
type headers struct {
	md    metadata.MD
	block *hpack.Block
}

func (h headers) remove(name string) {
	delete(h.md, name)
	h.block.Fields = slices.DeleteFunc(h.block.Fields, func(f hpack.Field) bool { return f.Name == name })
}

// append adds a value as it is on the wire.
func (h headers) append(name, v string) {
	h.md[name] = append(h.md[name], offWire(name, v))
	h.block.AppendCopy(name, v)
}

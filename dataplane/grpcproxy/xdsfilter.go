package grpcproxy

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// xdsFilters is the filters of one call. What they wait for holds up its own
// part of the call only: the goroutine that carries it.
//
// They see what grpc-go lets one see: messages decompressed, trailers of
// requests never, a response without messages as its headers.
type xdsFilters struct {
	all  []call.Filter // those that were asked, in order
	msgs []call.MessageFilter
	tail []call.TrailerFilter

	// rest is the filters, from the first, that have not seen the headers of a
	// response. Owned by the goroutine that receives.
	rest  int
	shown bool // they were shown the headers of a response

	passed atomic.Bool // headers have passed them: a local reply has none
	done   bool        // guarded by xdsCall.mu
}

const defaultMaxMessage = 4 << 20

var replyMessageTooLong = &call.Reply{HTTP: 413, GRPC: call.ResourceExhausted, Detail: "message_too_long", Message: "a message is longer than filters may see"}

// filterRequestHeaders asks the filters of the manager, one after the other.
func (x *xdsCall) filterRequestHeaders(ctx context.Context) error {
	f := &x.flt
	for _, factory := range x.manager.Filters {
		var flt call.Filter
		if err := x.once(func() error { flt = factory.NewFilter(&x.call); return nil }); err != nil {
			return err
		}
		if flt == nil {
			continue
		}
		f.all = append(f.all, flt)
		f.rest = len(f.all)
		if err := x.ask(ctx, func() error { return flt.RequestHeaders(&x.call, false) }); err != nil {
			return err
		}
	}
	for _, flt := range f.all {
		if m, ok := flt.(call.MessageFilter); ok {
			f.msgs = append(f.msgs, m)
		}
		if t, ok := flt.(call.TrailerFilter); ok {
			f.tail = append(f.tail, t)
		}
	}
	if len(f.all) > 0 {
		x.readHead()
	}
	return nil
}

// filterResponseHeaders shows the filters the headers of a response, from the
// last to the first, and returns what they leave of them.
func (x *xdsCall) filterResponseHeaders(ctx context.Context, md metadata.MD) (metadata.MD, error) {
	f := &x.flt
	f.shown = true
	if len(f.all) == 0 {
		f.passed.Store(true)
		return md, nil
	}
	var b hpack.Block
	appendHead(&b, nil)
	appendMD(&b, md)
	for f.rest > 0 {
		f.rest--
		if err := x.ask(ctx, func() error { return f.all[f.rest].ResponseHeaders(&x.call, &b, false) }); err != nil {
			return nil, err
		}
	}
	f.passed.Store(true)
	return mdOf(&b), nil
}

// filterEnd shows the filters the end of a response: as its headers to those
// that have seen none, else, unless it is a local reply, as trailers to those
// that see such.
func (x *xdsCall) filterEnd(err error, md metadata.MD, local bool) (metadata.MD, error) {
	f := &x.flt
	if f.rest == 0 && (local || len(f.tail) == 0) {
		return md, err
	}
	st := status.Convert(err)
	var b hpack.Block
	if f.shown {
		appendStatus(&b, st)
	} else {
		appendHead(&b, st)
	}
	appendMD(&b, md)
	if f.rest == 0 {
		for i := len(f.tail) - 1; i >= 0; i-- {
			_ = x.once(func() error { f.tail[i].ResponseTrailers(&x.call, &b); return nil })
		}
	}
	for f.rest > 0 {
		f.rest--
		// A reply is not replaced; nor is this, as nothing is left to wait for.
		_ = x.once(func() error { return f.all[f.rest].ResponseHeaders(&x.call, &b, true) })
	}
	err = withStatus(st, &b)
	md = mdOf(&b)
	for _, own := range []string{"content-type", "grpc-status", "grpc-message"} {
		delete(md, own)
	}
	if status.Code(err) != st.Code() {
		delete(md, statusDetails) // they would contradict it
	}
	return md, err
}

// appendHead adds what headers of a response have besides metadata: of one that
// ends with them, its status.
func appendHead(b *hpack.Block, st *status.Status) {
	b.AppendCopy(":status", "200")
	if st != nil { // else content-type is metadata
		b.AppendCopy("content-type", "application/grpc")
		appendStatus(b, st)
	}
}

func appendStatus(b *hpack.Block, st *status.Status) {
	b.AppendCopy("grpc-status", strconv.Itoa(int(st.Code())))
	if st.Message() != "" {
		b.AppendCopy("grpc-message", st.Message())
	}
}

// withStatus is the status that filters have left, with the details that it
// had.
func withStatus(st *status.Status, b *hpack.Block) error {
	p := &spb.Status{}
	proto.Merge(p, st.Proto())
	if v, ok := b.Get(hdr.GRPCStatus); ok {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			n = int64(codes.Unknown)
		}
		p.Code = int32(n)
	}
	p.Message, _ = b.GetName("grpc-message")
	return status.FromProto(p).Err()
}

// filterMessage shows the filters a message, and puts what they leave of it
// into m. drop: it goes no further.
func (x *xdsCall) filterMessage(ctx context.Context, m *Frame, request bool) (drop bool, err error) {
	msgs := x.flt.msgs
	if len(msgs) == 0 {
		return false, nil
	}
	limit := x.manager.MaxMessageBytes
	if limit <= 0 {
		limit = defaultMaxMessage
	}
	if m.Len() > limit {
		return false, replyMessageTooLong
	}
	msg := call.Message{Data: m.Data()}
	for i := range msgs {
		hook := msgs[i].RequestMessage
		if !request {
			hook = msgs[len(msgs)-1-i].ResponseMessage
		}
		if err := x.ask(ctx, func() error { return hook(&x.call, &msg) }); err != nil {
			return false, err
		}
	}
	// A filter may use its slice again for the next message, while the
	// transport still has this one.
	m.Set(append([]byte(nil), msg.Data...))
	return msg.Drop, nil
}

// refuse ends the call with a local reply, or because the client's end has come
// first, and returns its status, never nil.
// ctx is that of the incoming call, or derived from it.
func (x *xdsCall) refuse(ctx context.Context, err error) error {
	md := metadata.MD{}
	if r := (*call.Reply)(nil); errors.As(err, &r) && len(r.Headers) > 0 {
		md = mdOf(&hpack.Block{Fields: r.Headers})
	}
	err = statusOfCall(err)
	o := endOf(ctx, err)
	if o.HasCode { // nothing has ended the call
		o = weAnswered
		o.HTTP = 200
	}
	x.routeResponse(md, nil, status.Convert(err))
	md, err = x.filterEnd(err, md, true)
	if len(md) > 0 {
		_ = grpc.SetTrailer(ctx, md) // fails when the call has ended: nobody reads it
	}
	o.Code, o.HasCode, o.End = call.Code(status.Code(err)), true, x.director.now()
	x.end(&o)
	if err == nil {
		return errAnswered
	}
	return err
}

// end tells the filters, once, and makes the call's handle stale.
func (x *xdsCall) end(o *call.Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.flt.done {
		return
	}
	x.flt.done = true
	o.Start = x.call.Arrived
	for _, flt := range x.flt.all {
		_ = x.guardedLocked(func() error { flt.Done(&x.call, o); return nil })
	}
	x.director.slots.remove(x.call.Handle)
}

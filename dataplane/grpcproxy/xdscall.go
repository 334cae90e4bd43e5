package grpcproxy

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// xdsCall is an incoming call in the data plane's words.
type xdsCall struct {
	call    call.Call
	headers hpack.Block
	md      metadata.MD // what was received
	resume  chan error
}

func newXDSCall(ctx context.Context, method string, conn *call.Conn, now clock.Nanos) *xdsCall {
	x := &xdsCall{}
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
	for k, values := range x.md {
		if strings.HasPrefix(k, ":") {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(k, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v)) // as it was on the wire
			}
			x.headers.AppendCopy(k, v)
		}
	}
	x.call = call.Call{
		Conn: conn, Headers: &x.headers, Path: method, Host: authority, Method: "POST", GRPC: true,
		Arrived: now, Now: now, Rand: rand.Uint64(),
	}
	x.call.Handle = call.Handle{Owner: x}
	return x
}

// Resume implements call.Resumer.
func (x *xdsCall) Resume(_ call.Handle, err error) {
	select {
	case x.resume <- err:
	default: // not waiting, or resumed already
	}
}

// direct asks a Director until it has decided.
func (x *xdsCall) direct(ctx context.Context, d call.Director) (call.Decision, error) {
	x.resume = make(chan error, 1) // before Direct: it may be resumed at once
	for {
		decision, err := d.Direct(&x.call)
		if !errors.Is(err, call.ErrPending) {
			return decision, err
		}
		select {
		case err := <-x.resume:
			if err != nil {
				return call.Decision{}, err
			}
		case <-ctx.Done():
			return call.Decision{}, ctx.Err()
		}
	}
}

// apply changes md as header operations of a route say.
func (x *xdsCall) apply(md metadata.MD, ops []call.HeaderOp, o *call.Outcome) {
	for i := range ops {
		op := &ops[i]
		name := op.Field.Name
		if op.Action == call.HeaderRemove {
			delete(md, name)
			continue
		}
		v := op.Field.Value
		if op.Value != nil {
			v = op.Value(&x.call, o)
		}
		if v == "" && !op.KeepEmpty {
			continue
		}
		_, there := md[name]
		switch op.Action {
		case call.HeaderAppend:
			md.Append(name, v)
		case call.HeaderAddIfAbsent:
			if !there {
				md.Set(name, v)
			}
		case call.HeaderOverwrite:
			md.Set(name, v)
		case call.HeaderOverwriteIfExist:
			if there {
				md.Set(name, v)
			}
		}
	}
}

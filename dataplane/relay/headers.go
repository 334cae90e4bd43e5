package relay

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Header blocks are edited in place: the request's own block at most once per
// step (so that a Director, a retry and the access log see what Envoy's would),
// a response's block while it is still in its connection's hands. What nobody
// edits is never copied.

// cachedFields are fields of one name whose values are nearly always among the
// few used last: the timeouts of some routes, some milliseconds.
type cachedFields [67]struct {
	n int64
	f hpack.Field
}

// get returns the field for n. Each n has one place. Modulo 67 the round
// numbers from 100 ms to an hour that people write do not share any.
func (cf *cachedFields) get(name string, n int64) hpack.Field {
	c := &cf[uint64(n)%uint64(len(cf))]
	if c.f.Name == "" || c.n != n {
		c.n, c.f = n, hpack.NewField(name, strconv.FormatInt(n, 10))
	}
	return c.f
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// sameName reports whether a and b have the same name.
func sameName(a, b *hpack.Field) bool {
	return a.ID == b.ID && (a.ID != hdr.Unknown || a.Name == b.Name)
}

// indexOf returns the position of the first field with f's name, -1 if there
// is none.
func indexOf(b *hpack.Block, f *hpack.Field) int {
	for i := range b.Fields {
		if sameName(&b.Fields[i], f) {
			return i
		}
	}
	return -1
}

// removeFrom removes the fields with f's name from position i on.
func removeFrom(b *hpack.Block, i int, f *hpack.Field) {
	keep := b.Fields[:i]
	for ; i < len(b.Fields); i++ {
		if !sameName(&b.Fields[i], f) {
			keep = append(keep, b.Fields[i])
		}
	}
	b.Fields = keep
}

// set makes f the only field with its name. A pseudo-header that is not there
// is not added: its place is gone.
func set(b *hpack.Block, f hpack.Field) {
	i := indexOf(b, &f)
	if i < 0 {
		if f.Name[0] != ':' {
			b.Append(f)
		}
		return
	}
	b.Fields[i] = f
	removeFrom(b, i+1, &f)
}

// setCopy is set for a value that lives nowhere else: it is copied into b.
func setCopy(b *hpack.Block, name string, value []byte) {
	b.AppendCopy(name, unsafe.String(unsafe.SliceData(value), len(value)))
	n := len(b.Fields) - 1
	f := b.Fields[n]
	b.Fields = b.Fields[:n]
	set(b, f)
}

// newRequestID writes a random UUID (version 4) to core.text.
func (x *Exchange) newRequestID() {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], x.core.Rand.Uint64())
	binary.BigEndian.PutUint64(raw[8:], x.core.Rand.Uint64())
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	text := append(x.core.text[:0], "........-....-....-....-............"...)
	hex.Encode(text, raw[:4])
	hex.Encode(text[9:], raw[4:6])
	hex.Encode(text[14:], raw[6:8])
	hex.Encode(text[19:], raw[8:10])
	hex.Encode(text[24:], raw[10:])
	x.core.text = text
}

// routePolicy is what the route does to the request, once, when it is known.
func (x *Exchange) routePolicy() {
	b, rt := &x.head, x.dec.Route
	if x.m.EnvoyHeaders {
		if ms := x.expectedTimeout(); ms > 0 {
			set(b, x.core.rqTimeout.get("x-envoy-expected-rq-timeout-ms", ms))
		}
	}
	if rt == nil {
		return
	}
	if (rt.TellDuration || rt.OldGRPCTimeout) && x.call.GRPC && !x.usesGRPCTimeout() {
		x.tellDuration(rt)
	}
	x.applyOps(b, rt.RequestOps)
	if rt.Rewrite != nil && rt.Rewrite.Path != nil {
		if p := rt.Rewrite.Path(&x.call); p != "" {
			if x.m.EnvoyHeaders {
				set(b, hpack.NewUniqueField("x-envoy-original-path", x.call.Path))
			}
			set(b, hpack.NewUniqueField(":path", p))
		}
	}
}

// tellDuration tells the upstream what time the route leaves a gRPC call, if
// the client's own deadline is not earlier.
func (x *Exchange) tellDuration(rt *call.Route) {
	d := x.routeTimeout(rt)
	if rt.TellDuration {
		d = x.streamDuration()
	}
	if d > 0 && (x.grpcClient < 0 || int64(d) < x.grpcClient) {
		x.grpcClient = int64(d)
		x.core.text = append(appendInt(x.core.text[:0], d.Milliseconds()), 'm')
		setCopy(&x.head, "grpc-timeout", x.core.text)
	}
}

// expectedTimeout is how long the upstream has, in milliseconds; 0: for ever.
func (x *Exchange) expectedTimeout() int64 {
	d := time.Duration(0)
	if rt := x.dec.Route; x.usesGRPCTimeout() {
		if !rt.OldGRPCTimeout {
			return 0
		}
		d = x.deadline.Sub(x.call.Arrived)
	} else if rt != nil {
		d = x.routeTimeout(rt)
	}
	if rt := x.dec.Route; rt != nil && rt.Retry != nil && rt.Retry.PerTry > 0 && (d == 0 || rt.Retry.PerTry < d) {
		d = rt.Retry.PerTry
	}
	return int64(d / time.Millisecond)
}

// spentHere is how long a request may wait before its grpc-timeout is
// rewritten to what is left.
const spentHere = time.Millisecond

// attemptFields are the request's fields for one attempt.
func (x *Exchange) attemptFields(a *Attempt) []hpack.Field {
	b := &x.head
	if rt := x.dec.Route; rt != nil && rt.Rewrite != nil && rt.Rewrite.Host != nil {
		if h := rt.Rewrite.Host(&x.call, a.host); h != "" {
			x.rewriteHost(b, h, rt.Rewrite)
		} else if rt.Rewrite.Base != "" {
			set(b, hpack.NewField(":authority", rt.Rewrite.Base))
		}
	}
	if a.number > 0 && x.m.EnvoyHeaders {
		if ms := x.expectedTimeout(); ms > 0 {
			if x.deadline != 0 && !x.durationDL {
				ms = max(min(ms, x.deadline.Sub(x.core.Now).Milliseconds()), 1)
			}
			x.core.text = appendInt(x.core.text[:0], ms)
			setCopy(b, "x-envoy-expected-rq-timeout-ms", x.core.text)
		}
	}
	if x.grpcClient >= 0 && (x.grpcLeft || x.core.Now.Sub(x.call.Arrived) > spentHere) {
		left := x.grpcClient - int64(x.core.Now-x.call.Arrived)
		if x.usesGRPCTimeout() && x.deadline != 0 {
			left = min(left, int64(x.deadline-x.core.Now))
		}
		x.core.text = appendTimeout(x.core.text[:0], time.Duration(left))
		setCopy(b, "grpc-timeout", x.core.text)
	}
	return b.Fields
}

// rewriteHost names another host to the upstream, and in other headers the one
// whose place it takes.
func (x *Exchange) rewriteHost(b *hpack.Block, host string, rw *call.Rewrite) {
	set(b, hpack.NewField(":authority", host))
	old := cmp.Or(rw.Base, x.call.Host)
	if x.hostKept || old == "" {
		return
	}
	x.hostKept = true // by an earlier attempt
	if rw.AppendHost {
		last, present := b.Get(hdr.XForwardedHost)
		if last = last[strings.LastIndexByte(last, ',')+1:]; strings.TrimSpace(last) != old {
			x.joinField(b, "x-forwarded-host", ",", old, present)
		}
	}
	if x.m.EnvoyHeaders && !rw.Silent {
		set(b, hpack.NewUniqueField("x-envoy-original-host", old))
	}
}

// responsePolicy edits the headers of an upstream's response.
func (x *Exchange) responsePolicy(a *Attempt, b *hpack.Block) {
	if x.m.EnvoyHeaders {
		ms := a.rec.Headers.Sub(a.rec.Start).Milliseconds()
		set(b, x.core.serviceTime.get("x-envoy-upstream-service-time", ms))
	}
	x.routeResponse(b)
}

// connectionPolicy is what the connection manager does to every response.
func (x *Exchange) connectionPolicy(b *hpack.Block) {
	m := x.m
	switch m.ServerHeader {
	case call.ServerOverwrite:
		set(b, x.core.server(m.ServerName))
	case call.ServerAppendIfAbsent:
		if b.Index(hdr.Server) < 0 {
			b.Append(x.core.server(m.ServerName))
		}
	}
	if m.RequestIDInReply || x.traced {
		if i := x.head.Index(hdr.XRequestID); i >= 0 {
			set(b, x.head.Fields[i])
		}
	}
	if m.Via != "" {
		x.joinField(b, "via", ", ", m.Via, b.Index(hdr.Via) >= 0)
	}
}

// server returns the server field.
func (c *Core) server(name string) hpack.Field {
	if name == "" {
		name = "envoy"
	}
	if c.serverField.Name == "" || c.serverField.Value != name {
		c.serverField = hpack.NewField("server", name)
	}
	return c.serverField
}

// applyOps applies configured header mutations, level by level. As in Envoy's
// HeaderParser a level removes first; then all its values are made, of the
// headers as they are; then it overwrites, and appends last.
func (x *Exchange) applyOps(b *hpack.Block, ops []call.HeaderOp) {
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && !ops[n].Next {
			n++
		}
		x.applyLevel(b, ops[:n])
		ops = ops[n:]
	}
}

func (x *Exchange) applyLevel(b *hpack.Block, ops []call.HeaderOp) {
	appends := x.core.appends[:0]
	overwrites := x.core.overwrites[:0]
	for i := range ops {
		op := &ops[i]
		f := op.Field
		if op.Action == call.HeaderRemove {
			if at := indexOf(b, &f); at >= 0 {
				removeFrom(b, at, &f)
			}
			continue
		}
		if op.Value != nil {
			v := op.Value(&x.call, &x.rec)
			if v == "" && !op.KeepEmpty {
				continue
			}
			f = hpack.NewUniqueField(f.Name, v)
		}
		switch op.Action {
		case call.HeaderAppend:
			appends = append(appends, f)
		case call.HeaderAddIfAbsent:
			if indexOf(b, &f) < 0 {
				appends = append(appends, f)
			}
		case call.HeaderOverwrite:
			overwrites = append(overwrites, f)
		case call.HeaderOverwriteIfExist:
			if indexOf(b, &f) >= 0 {
				overwrites = append(overwrites, f)
			}
		}
	}
	for i := range overwrites {
		set(b, overwrites[i])
	}
	for i := range appends {
		b.Append(appends[i])
	}
	clear(appends)
	clear(overwrites)
	x.core.appends, x.core.overwrites = appends[:0], overwrites[:0]
}

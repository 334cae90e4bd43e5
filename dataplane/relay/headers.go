package relay

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
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

// Fields that do not change.
var (
	fieldProtoHTTP  = hpack.NewField("x-forwarded-proto", "http")
	fieldProtoHTTPS = hpack.NewField("x-forwarded-proto", "https")
	fieldInternal   = hpack.NewField("x-envoy-internal", "true")
)

// cachedField is a field whose value is nearly always the last one used.
type cachedField struct {
	n int64
	f hpack.Field
}

// get returns the field for n.
func (cf *cachedField) get(name string, n int64) hpack.Field {
	if cf.f.Name == "" || cf.n != n {
		cf.n, cf.f = n, hpack.NewField(name, strconv.FormatInt(n, 10))
	}
	return cf.f
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

// receivedPolicy is what the connection manager does to every request before
// it is routed (Envoy's ConnectionManagerUtility::mutateRequestHeaders).
func (x *Exchange) receivedPolicy(b *hpack.Block) {
	m := x.m
	external := false
	if m.UseRemoteAddress && !m.SkipXFFAppend {
		external = x.forwardedFor(b)
	}
	if m.ForwardedProto {
		f := fieldProtoHTTP
		if x.call.Conn != nil && x.call.Conn.TLS != nil {
			f = fieldProtoHTTPS
		}
		if i := b.Index(hdr.XForwardedProto); i < 0 {
			b.Append(f)
		} else if v := b.Fields[i].Value; m.UseRemoteAddress && m.XFFTrustedHops == 0 || v != "http" && v != "https" {
			set(b, f)
		}
	}
	if m.GenerateRequestID {
		i := b.Index(hdr.XRequestID)
		if i < 0 || external && !m.KeepRequestID {
			x.newRequestID()
			setCopy(b, "x-request-id", x.core.text)
		}
	}
	if m.Via != "" {
		b.Append(hpack.NewField("via", m.Via))
	}
}

// forwardedFor appends the peer's address to x-forwarded-for and marks where
// the request comes from. It reports whether that is outside (Envoy's
// definition: not a private address, or behind another proxy).
func (x *Exchange) forwardedFor(b *hpack.Block) (external bool) {
	if x.call.Conn == nil || !x.call.Conn.Remote.IsValid() {
		return false
	}
	addr := x.call.Conn.Remote.Addr().Unmap()
	text := x.core.text[:0]
	old, behind := b.Get(hdr.XForwardedFor)
	if behind && old != "" {
		text = append(append(text, old...), ',')
	}
	at := len(text)
	text = addr.AppendTo(text)
	x.core.text = text
	setCopy(b, "x-forwarded-for", text)
	if !behind && isInternal(addr) {
		set(b, fieldInternal)
		return false
	}
	removeID(b, hdr.XEnvoyInternal)
	setCopy(b, "x-envoy-external-address", text[at:])
	return true
}

func removeID(b *hpack.Block, id hdr.ID) {
	if i := b.Index(id); i >= 0 {
		f := b.Fields[i]
		removeFrom(b, i, &f)
	}
}

func isInternal(a netip.Addr) bool { return a.IsPrivate() || a.IsLoopback() }

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
	x.applyOps(b, rt.RequestOps)
	if rt.Rewrite != nil && rt.Rewrite.Path != nil {
		if p := rt.Rewrite.Path(&x.call); p != x.call.Path {
			if x.m.EnvoyHeaders {
				set(b, hpack.NewUniqueField("x-envoy-original-path", x.call.Path))
			}
			set(b, hpack.NewUniqueField(":path", p))
		}
	}
}

// expectedTimeout is how long the upstream has, in milliseconds; 0: for ever.
func (x *Exchange) expectedTimeout() int64 {
	d := time.Duration(0)
	if rt := x.dec.Route; x.usesGRPCTimeout() {
		d = x.deadline.Sub(x.call.Arrived)
	} else if rt != nil {
		d = rt.Timeout
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
			set(b, hpack.NewField(":authority", h))
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

// responsePolicy edits the headers of an upstream's response.
func (x *Exchange) responsePolicy(a *Attempt, b *hpack.Block) {
	if x.m.EnvoyHeaders {
		ms := a.rec.Headers.Sub(a.rec.Start).Milliseconds()
		set(b, x.core.serviceTime.get("x-envoy-upstream-service-time", ms))
	}
	x.connectionPolicy(b)
	if rt := x.dec.Route; rt != nil {
		x.applyOps(b, rt.ResponseOps)
	}
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
	if m.RequestIDInReply {
		if i := x.head.Index(hdr.XRequestID); i >= 0 {
			set(b, x.head.Fields[i])
		}
	}
	if m.Via != "" {
		b.Append(hpack.NewField("via", m.Via))
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

// applyOps applies configured header mutations in order.
func (x *Exchange) applyOps(b *hpack.Block, ops []call.HeaderOp) {
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
			b.Append(f)
		case call.HeaderAddIfAbsent:
			if indexOf(b, &f) < 0 {
				b.Append(f)
			}
		case call.HeaderOverwrite:
			set(b, f)
		case call.HeaderOverwriteIfExist:
			if indexOf(b, &f) >= 0 {
				set(b, f)
			}
		}
	}
}

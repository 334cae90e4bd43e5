package relay

import (
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// What is done to a request before it is routed, in Envoy's order:
// ConnectionManagerImpl's decodeHeaders (host, path), then
// ConnectionManagerUtility::mutateRequestHeaders.

// notes say which headers of interest a request has, so that a request with
// none of them is not searched for each.
type notes uint16

const (
	noteHost     notes = 1 << iota
	noteInternal       // x-envoy-internal
	noteOutside        // what only clients of our own may say
	noteEdge           // what not even a proxy before us may say
	noteRouter         // of noteOutside, what the router heeds, or takes away
	noteCert
	noteExpect
	noteForwarded // x-forwarded-for
	noteProto     // x-forwarded-proto
	notePort      // x-forwarded-port
	noteID        // x-request-id
	noteVia
	noteTrace // x-envoy-force-trace
)

// notesOf are the notes of a header by its ID.
var notesOf = [256]notes{
	hdr.Host:                 noteHost,
	hdr.XForwardedClientCert: noteCert,
	hdr.Expect:               noteExpect,
	hdr.XForwardedFor:        noteForwarded,
	hdr.XForwardedProto:      noteProto,
	hdr.XForwardedPort:       notePort,
	hdr.XRequestID:           noteID,
	hdr.Via:                  noteVia,

	hdr.XEnvoyInternal: noteInternal,

	hdr.XEnvoyDecoratorOperation:       noteEdge,
	hdr.XEnvoyDownstreamServiceCluster: noteEdge,
	hdr.XEnvoyDownstreamServiceNode:    noteEdge,
	hdr.XEnvoyOriginalPath:             noteEdge,
	hdr.XEnvoyOriginalHost:             noteEdge,

	hdr.XEnvoyExpectedRqTimeout:            noteOutside,
	hdr.XEnvoyForceTrace:                   noteOutside | noteTrace,
	hdr.XEnvoyHedgeOnPerTryTimeout:         noteOutside | noteRouter,
	hdr.XEnvoyIPTags:                       noteOutside,
	hdr.XEnvoyMaxRetries:                   noteOutside | noteRouter,
	hdr.XEnvoyOriginalURL:                  noteOutside,
	hdr.XEnvoyRetriableHeaderNames:         noteOutside | noteRouter,
	hdr.XEnvoyRetriableStatusCodes:         noteOutside | noteRouter,
	hdr.XEnvoyRetryGRPCOn:                  noteOutside | noteRouter,
	hdr.XEnvoyRetryOn:                      noteOutside | noteRouter,
	hdr.XEnvoyUpstreamAltStatName:          noteOutside | noteRouter,
	hdr.XEnvoyUpstreamRqPerTryTimeout:      noteOutside | noteRouter,
	hdr.XEnvoyUpstreamRqTimeout:            noteOutside | noteRouter,
	hdr.XEnvoyUpstreamRqTimeoutAltResponse: noteOutside | noteRouter,
	hdr.XEnvoyUpstreamStreamDuration:       noteOutside | noteRouter,
}

// drop removes the headers with any of the notes.
func drop(b *hpack.Block, ns notes) {
	b.Fields = slices.DeleteFunc(b.Fields, func(f hpack.Field) bool { return notesOf[f.ID]&ns != 0 })
}

// Answers to requests that are not routed. Envoy gives no message.
var (
	replyNoHost      = &call.Reply{HTTP: 400, GRPC: call.Internal, Detail: "missing_host_header", Message: "no :authority"}
	replyFragment    = &call.Reply{HTTP: 400, GRPC: call.Internal, Detail: "path_with_fragment", Message: ":path has a fragment"}
	replyBadPath     = &call.Reply{HTTP: 400, GRPC: call.Internal, Detail: "path_normalization_failed", Message: ":path cannot be normalized"}
	fieldsContinue   = []hpack.Field{hpack.NewField(":status", "100")}
	fieldProtoHTTP   = hpack.NewField("x-forwarded-proto", "http")
	fieldProtoHTTPS  = hpack.NewField("x-forwarded-proto", "https")
	fieldSchemeHTTP  = hpack.NewField(":scheme", "http")
	fieldSchemeHTTPS = hpack.NewField(":scheme", "https")
	fieldInternal    = hpack.NewField("x-envoy-internal", "true")
)

// receivedPolicy is what the connection manager does to every request before
// it is routed. A reply says that it is not.
func (x *Exchange) receivedPolicy(b *hpack.Block, has notes) *call.Reply {
	m := x.m
	if m.Sanitize {
		if rp := x.target(b, has); rp != nil {
			return rp
		}
		if has&noteExpect != 0 && m.AnswerContinue {
			x.answerContinue(b)
		}
	}
	x.origin(b, has)
	if m.Via != "" {
		x.joinField(b, "via", ", ", m.Via, has&noteVia != 0)
	}
	if m.Sanitize {
		x.clientCert(b, has)
	}
	return nil
}

// target settles what the request is for: its authority and its path.
func (x *Exchange) target(b *hpack.Block, has notes) *call.Reply {
	m, c := x.m, &x.call
	if has&noteHost != 0 {
		x.oneHost(b)
	}
	if c.Host == "" {
		return replyNoHost
	}
	if strings.IndexByte(c.Path, '#') >= 0 {
		return replyFragment
	}
	if m.Paths != (call.PathPolicy{}) {
		if rp := x.normalPath(b); rp != nil {
			return rp
		}
	}
	if m.StripDot || m.StripPort != call.StripNone {
		host := c.Host
		if m.StripDot {
			host = stripDot(host)
		}
		host = stripPort(host, m.StripPort, c.Conn)
		if host != c.Host {
			x.setHost(b, host)
		}
	}
	return nil
}

// oneHost leaves :authority as the only name of the host (RFC 9113 §8.3.1).
func (x *Exchange) oneHost(b *hpack.Block) {
	drop(b, noteHost)
	if b.Index(hdr.Authority) < 0 && x.call.Host != "" {
		b.Fields = slices.Insert(b.Fields, 0, hpack.NewField(":authority", x.call.Host))
	}
}

func (x *Exchange) setHost(b *hpack.Block, host string) {
	set(b, hpack.NewField(":authority", host))
	x.call.Host = host
}

// stripDot removes the dot at a name's end.
func stripDot(host string) string {
	i := strings.LastIndexByte(host, '.')
	switch {
	case i < 0:
	case i == len(host)-1:
		return host[:i]
	case host[i+1] == ':':
		return host[:i] + host[i+1:]
	}
	return host
}

// stripPort removes the port, or that of the listener.
func stripPort(host string, which call.StripPort, conn *call.Conn) string {
	i := strings.LastIndexByte(host, ':')
	if which == call.StripNone || i < 0 || strings.LastIndexByte(host, ']') > i || len(host)-i > len(":65535") {
		return host
	}
	port := uint32(0)
	for _, d := range []byte(host[i+1:]) {
		if d -= '0'; d > 9 {
			return host
		}
		port = port*10 + uint32(d)
	}
	if i == len(host)-1 || which == call.StripMatching && (conn == nil || uint32(conn.Local.Port()) != port) {
		return host
	}
	return host[:i]
}

// answerContinue gives a client that waits for 100 (Continue) what it waits
// for; the upstream is not asked.
func (x *Exchange) answerContinue(b *hpack.Block) {
	if v, _ := b.Get(hdr.Expect); strings.EqualFold(v, "100-continue") {
		x.d.H.WriteHeaders(&x.down, fieldsContinue, false)
		drop(b, noteExpect)
	}
}

// origin finds out whom the request comes from, says so to the upstream, and
// believes what it says of itself only as far as that goes.
func (x *Exchange) origin(b *hpack.Block, has notes) {
	m := x.m
	var peer netip.Addr
	secure := false
	if c := x.call.Conn; c != nil {
		peer, secure = c.Remote.Addr().Unmap(), c.TLS != nil
	}
	internal, edge := false, false
	if m.Sanitize || m.UseRemoteAddress {
		internal = x.client(b, has, peer)
		edge = !internal && m.UseRemoteAddress
		bad := noteInternal
		if m.Sanitize && !internal {
			bad |= noteOutside
		}
		if m.Sanitize && edge {
			bad |= noteEdge
		}
		if has&bad != 0 {
			drop(b, bad)
		}
	}
	if m.Sanitize {
		x.heeds = internal && has&noteRouter != 0
		x.traced = internal && has&noteTrace != 0
		x.scheme(b, secure)
	}
	if m.UseRemoteAddress && !m.SkipXFFAppend && peer.IsValid() {
		var buf [64]byte
		text := peer.AppendTo(buf[:0])
		x.joinField(b, "x-forwarded-for", ",", unsafe.String(&text[0], len(text)), has&noteForwarded != 0)
	}
	if m.ForwardedProto {
		f := fieldProtoHTTP
		if secure {
			f = fieldProtoHTTPS
		}
		if has&noteProto == 0 {
			b.Append(f)
		} else if m.UseRemoteAddress && m.XFFTrustedHops == 0 {
			set(b, f)
		}
	}
	if m.ForwardedPort && (has&notePort == 0 || m.UseRemoteAddress && m.XFFTrustedHops == 0) {
		x.core.text = appendInt(x.core.text[:0], int64(x.call.Conn.Local.Port()))
		setCopy(b, "x-forwarded-port", x.core.text)
	}
	if internal {
		b.Append(fieldInternal)
	}
	if m.UserAgent != "" {
		x.userAgent(b)
	}
	if client := x.call.Client; edge && (client.IsValid() || peer.IsValid()) {
		if !client.IsValid() {
			client = peer
		}
		x.core.text = client.AppendTo(x.core.text[:0])
		setCopy(b, "x-envoy-external-address", x.core.text)
	}
	if m.GenerateRequestID && (has&noteID == 0 || edge && !m.KeepRequestID) {
		x.newRequestID()
		setCopy(b, "x-request-id", x.core.text)
	}
}

// client finds the trusted client address, and whether it is one of our own.
// x-forwarded-for decides, by as many hops as are trusted, or the peer.
func (x *Exchange) client(b *hpack.Block, has notes, peer netip.Addr) (internal bool) {
	m := x.m
	hops, single := int(m.XFFTrustedHops), false
	var addr netip.Addr
	if m.UseRemoteAddress {
		if single = has&noteForwarded == 0; hops > 0 && !single {
			addr, _ = lastForwarded(b, hops-1)
		}
		if !addr.IsValid() {
			addr = peer
		}
	} else if has&noteForwarded != 0 {
		addr, single = lastForwarded(b, hops)
	}
	if addr != peer {
		x.call.Client = addr
	}
	switch {
	case !single:
		return false
	case !addr.IsValid():
		return m.InternalUnix && m.UseRemoteAddress
	}
	for _, p := range m.Internal {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// lastForwarded returns the last address of x-forwarded-for, skip more to the
// left; the zero Addr if there is none. single: it is the only one.
func lastForwarded(b *hpack.Block, skip int) (addr netip.Addr, single bool) {
	n := 0
	for i := len(b.Fields) - 1; i >= 0; i-- {
		if b.Fields[i].ID != hdr.XForwardedFor {
			continue
		}
		for v, more := b.Fields[i].Value, true; more; n++ {
			last := v
			comma := strings.LastIndexByte(v, ',')
			if more = comma >= 0; more {
				v, last = v[:comma], v[comma+1:]
			}
			if n < skip {
				continue
			}
			if n > skip {
				return addr, false
			}
			a, err := netip.ParseAddr(strings.TrimSpace(last))
			if err != nil {
				return netip.Addr{}, false
			}
			addr = a.Unmap()
		}
	}
	return addr, addr.IsValid() && skip == 0
}

// scheme repairs a :scheme that is neither http nor https, as Envoy does.
func (x *Exchange) scheme(b *hpack.Block, secure bool) {
	i := b.Index(hdr.Scheme)
	if i < 0 || b.Fields[i].Value == "http" || b.Fields[i].Value == "https" {
		return
	}
	b.Fields[i] = fieldSchemeHTTP
	if v, _ := b.Get(hdr.XForwardedProto); v == "https" || v != "http" && secure {
		b.Fields[i] = fieldSchemeHTTPS
	}
}

// userAgent names our node (add_user_agent).
func (x *Exchange) userAgent(b *hpack.Block) {
	m := x.m
	set(b, hpack.NewField("x-envoy-downstream-service-cluster", m.UserAgent))
	if v, _ := b.Get(hdr.UserAgent); v == "" {
		set(b, hpack.NewField("user-agent", m.UserAgent))
	}
	if m.ServiceNode != "" {
		set(b, hpack.NewField("x-envoy-downstream-service-node", m.ServiceNode))
	}
}

// joinField appends value to the list that the header name is, in one field.
func (x *Exchange) joinField(b *hpack.Block, name, sep, value string, present bool) {
	if !present {
		b.AppendCopy(name, value)
		return
	}
	id := hdr.Lookup(name)
	text := x.core.text[:0]
	for i := range b.Fields {
		if f := &b.Fields[i]; f.ID == id && f.Value != "" {
			text = append(append(text, f.Value...), sep...)
		}
	}
	x.core.text = append(text, value...)
	setCopy(b, name, x.core.text)
}

// underscores heeds headers_with_underscores_action. False: the stream was
// reset.
func (x *Exchange) underscores(b *hpack.Block) bool {
	has := func(f hpack.Field) bool { return f.ID == hdr.Unknown && strings.IndexByte(f.Name, '_') >= 0 }
	if !slices.ContainsFunc(b.Fields, has) {
		return true
	}
	if x.m.Underscores == call.UnderscoresDrop {
		b.Fields = slices.DeleteFunc(b.Fields, has)
		return true
	}
	x.rec.Side, x.rec.Detail = call.SideLocal, "unexpected_underscore"
	x.core.Counters.Inc(x.m.Scope, call.DownstreamRqTxReset)
	x.dropAttempt(call.LocalReset)
	x.d.H.Reset(&x.down, h2.ErrCodeInternal)
	x.finish()
	return false
}

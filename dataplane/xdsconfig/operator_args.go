package xdsconfig

import (
	"crypto/x509"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/route"
)

// argOperator compiles the commands that may have parameters; ok is false for
// the others.
func (a *at) argOperator(cmd command) (op operator, ok bool) {
	switch cmd.name {
	case "REQ", "REQUEST_HEADER":
		return a.header(cmd, func(c *call.Call, _ *call.Outcome) *hpack.Block { return c.Headers }), true
	case "RESP", "RESPONSE_HEADER":
		return a.header(cmd, func(_ *call.Call, o *call.Outcome) *hpack.Block {
			if o == nil {
				return nil
			}
			return o.Response
		}), true
	case "TRAILER", "RESPONSE_TRAILER": // come after all headers
		return a.header(cmd, func(*call.Call, *call.Outcome) *hpack.Block { return nil }), true
	case "PATH":
		return a.path(cmd), true
	case "QUERY_PARAM":
		return a.queryParam(cmd), true
	case "QUERY_PARAMS":
		return a.queryParams(cmd), true
	case "REQUESTED_SERVER_NAME":
		return a.serverName(cmd), true
	case "GRPC_STATUS":
		return a.statusName(cmd), true
	case "RESPONSE_CODE_DETAILS":
		return a.codeDetails(cmd), true
	case "START_TIME", "START_TIME_LOCAL":
		// Arrived and Now are readings of one monotonic clock.
		return a.timestamp(cmd, func(c *call.Call) time.Time { return time.Now().Add(-c.Now.Sub(c.Arrived)) }), true
	case "EMIT_TIME", "EMIT_TIME_LOCAL":
		return a.timestamp(cmd, func(*call.Call) time.Time { return time.Now() }), true
	case "DOWNSTREAM_PEER_CERT_V_START":
		return a.timestamp(cmd, peerTime(func(c *x509.Certificate) time.Time { return c.NotBefore })), true
	case "DOWNSTREAM_PEER_CERT_V_END":
		return a.timestamp(cmd, peerTime(func(c *x509.Certificate) time.Time { return c.NotAfter })), true
	}
	return nil, false
}

// operatorf says what is wrong with the parameters of a command.
func (a *at) operatorf(cmd command, reason string) {
	a.errorf("command operator %%%s(%s)%%: %s", cmd.name, cmd.arg, reason)
}

// unansweredWithArg are Envoy's other commands with parameters.
var unansweredWithArg = words(`
	CEL CLUSTER_METADATA COALESCE COMMON_DURATION DYNAMIC_METADATA FILTER_STATE METADATA STREAM_INFO_REQ
	UPSTREAM_FILTER_STATE UPSTREAM_METADATA UPSTREAM_PEER_CERT_V_END UPSTREAM_PEER_CERT_V_START`)

// headerName is a header looked up per call.
type headerName struct {
	id   hdr.ID
	name string
	sep  string // of its values, if they are one in a request
}

func newHeaderName(name string) headerName {
	name = strings.ToLower(name)
	if name == "host" { // Envoy knows only :authority and maps host to it
		name = ":authority"
	}
	return headerName{hdr.Lookup(name), name, route.Separator(name)}
}

// of returns a request's header.
func (h headerName) of(c *call.Call) (string, bool) {
	v, ok := h.in(c.Headers)
	if ok && h.sep != "" {
		v = h.joined(c.Headers, v)
	}
	return v, ok
}

// joined returns all values, of which first is the first.
func (h headerName) joined(b *hpack.Block, first string) string {
	var all []byte
	n := 0
	for i := range b.Fields {
		if b.Fields[i].Name != h.name {
			continue
		}
		switch n++; n {
		case 1:
			continue
		case 2:
			all = append(all, first...)
		}
		all = append(append(all, h.sep...), b.Fields[i].Value...)
	}
	if n < 2 {
		return first
	}
	return string(all)
}

func (h headerName) in(b *hpack.Block) (string, bool) {
	if h.id != 0 {
		return b.Get(h.id)
	}
	return b.GetName(h.name)
}

// header compiles %REQ(name?alternative):length% and its kind.
func (a *at) header(cmd command, of func(*call.Call, *call.Outcome) *hpack.Block) operator {
	name, alt, _ := strings.Cut(cmd.arg, "?")
	switch {
	case cmd.arg == "":
		a.operatorf(cmd, "parameters are required")
	case strings.Contains(alt, "?"):
		a.operatorf(cmd, "more than one alternative header")
	}
	h, h2 := newHeaderName(name), newHeaderName(alt)
	return func(dst []byte, c *call.Call, o *call.Outcome) []byte {
		b := of(c, o)
		if b == nil {
			return dst
		}
		get := headerName.in
		if b == c.Headers {
			get = func(h headerName, _ *hpack.Block) (string, bool) { return h.of(c) }
		}
		v, ok := get(h, b)
		if !ok && h2.name != "" {
			v, _ = get(h2, b)
		}
		return append(dst, clip(v, cmd.max)...)
	}
}

// path compiles %PATH(query:which)%.
func (a *at) path(cmd command) operator {
	query, which, _ := strings.Cut(cmd.arg, ":")
	if query != "" && query != "WQ" && query != "NQ" {
		a.operatorf(cmd, "want WQ or NQ")
	}
	if which != "" && which != "ORIG" && which != "PATH" && which != "ORIG_OR_PATH" {
		a.operatorf(cmd, "want ORIG, PATH or ORIG_OR_PATH")
	}
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		v, ok := "", false
		if which != "PATH" {
			v, ok = c.Headers.Get(hdr.XEnvoyOriginalPath)
		}
		if !ok && which != "ORIG" {
			v, _ = c.Headers.Get(hdr.Path)
		}
		if query == "NQ" {
			v, _ = cutQuery(v)
		}
		return append(dst, clip(v, cmd.max)...)
	}
}

// queryParam compiles %QUERY_PARAM(name):length%: the first of that name.
func (a *at) queryParam(cmd command) operator {
	if cmd.arg == "" {
		a.operatorf(cmd, "parameters are required")
	}
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		for pair := range strings.SplitSeq(rawQuery(c), "&") {
			if name, v, _ := strings.Cut(pair, "="); unescape(name) == cmd.arg {
				return append(dst, clip(unescape(v), cmd.max)...)
			}
		}
		return dst
	}
}

// queryParams compiles %QUERY_PARAMS(form):length%.
func (a *at) queryParams(cmd command) operator {
	if cmd.arg != "" && cmd.arg != "ORIG" && cmd.arg != "DECODED" {
		a.operatorf(cmd, "want ORIG or DECODED")
	}
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		v := rawQuery(c)
		if cmd.arg == "DECODED" {
			v = unescapeVisible(v)
		}
		return append(dst, clip(v, cmd.max)...)
	}
}

func rawQuery(c *call.Call) string {
	path, _ := c.Headers.Get(hdr.Path)
	_, query := cutQuery(path)
	return strings.TrimPrefix(query, "?")
}

// unescape decodes percent signs; a plus sign stays one, as in Envoy.
func unescape(s string) string {
	if v, err := url.PathUnescape(s); err == nil {
		return v
	}
	return s
}

// unescapeVisible decodes what stands for a visible character, as Envoy's
// urlDecodeQueryParameter does.
func unescapeVisible(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && n > ' ' && n < 0x7f {
				out.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// serverName compiles %REQUESTED_SERVER_NAME(which:host)%.
func (a *at) serverName(cmd command) operator {
	which, from, _ := strings.Cut(cmd.arg, ":")
	if which != "" && which != "SNI_ONLY" && which != "SNI_FIRST" && which != "HOST_FIRST" {
		a.operatorf(cmd, "want SNI_ONLY, SNI_FIRST or HOST_FIRST")
	}
	if from != "" && from != "ORIG" && from != "HOST" && from != "ORIG_OR_HOST" {
		a.operatorf(cmd, "want ORIG, HOST or ORIG_OR_HOST")
	}
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		sni := ""
		if c.Conn.TLS != nil {
			sni = c.Conn.TLS.ServerName
		}
		host, ok := "", false
		if which == "SNI_FIRST" || which == "HOST_FIRST" {
			if from != "HOST" {
				host, ok = c.Headers.Get(hdr.XEnvoyOriginalHost)
			}
			if !ok && from != "ORIG" {
				host, _ = c.Headers.Get(hdr.Authority)
			}
		}
		if which == "HOST_FIRST" && host != "" || sni == "" {
			sni = host
		}
		return append(dst, clip(sni, cmd.max)...)
	}
}

// statusName compiles %GRPC_STATUS(form)%.
func (a *at) statusName(cmd command) operator {
	names := camelCodes
	switch cmd.arg {
	case "", "CAMEL_STRING":
	case "SNAKE_STRING":
		names = snakeCodes
	case "NUMBER":
		return operators["GRPC_STATUS_NUMBER"]
	default:
		a.operatorf(cmd, "want CAMEL_STRING, SNAKE_STRING or NUMBER")
	}
	return grpcStatus(func(n uint64) string {
		if n < uint64(len(names)) {
			return names[n]
		}
		return strconv.FormatUint(n, 10)
	})
}

// The names of gRPC status codes, as Envoy writes them.
var (
	camelCodes = strings.Fields("OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted " +
		"FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated")
	snakeCodes = strings.Fields("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED " +
		"FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED")
)

// codeDetails compiles %RESPONSE_CODE_DETAILS%: one word, or with its spaces.
func (a *at) codeDetails(cmd command) operator {
	if cmd.arg != "" && cmd.arg != "ALLOW_WHITESPACES" {
		a.operatorf(cmd, "want ALLOW_WHITESPACES")
	}
	return func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		if o == nil {
			return dst
		}
		v := o.Detail
		if cmd.arg == "" {
			v = strings.ReplaceAll(v, " ", "_")
		}
		return append(dst, clip(v, cmd.max)...)
	}
}

// timestamp compiles commands whose parameter is a strftime format. Those that
// end in _LOCAL are in this machine's time zone.
func (a *at) timestamp(cmd command, of func(*call.Call) time.Time) operator {
	if cmd.max >= 0 {
		a.operatorf(cmd, "takes no length")
	}
	layout := cmd.arg
	if layout == "" {
		layout = "%Y-%m-%dT%H:%M:%E3SZ"
	}
	if bad := checkTimeFormat(layout); bad != "" {
		a.warnf("command operator %%%s(%s)%%: %s: not known to this version: left as it is", cmd.name, cmd.arg, bad)
	}
	local := strings.HasSuffix(cmd.name, "_LOCAL")
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		t := of(c)
		switch {
		case t.IsZero():
			return dst
		case local:
			t = t.Local()
		default:
			t = t.UTC()
		}
		return appendTime(dst, layout, t)
	}
}

// peerTime is a time of the client's certificate; zero if there is none.
func peerTime(f func(*x509.Certificate) time.Time) func(*call.Call) time.Time {
	return func(c *call.Call) time.Time {
		if c.Conn.TLS == nil || len(c.Conn.TLS.PeerDER) == 0 {
			return time.Time{}
		}
		cert, err := x509.ParseCertificate(c.Conn.TLS.PeerDER[0])
		if err != nil {
			return time.Time{}
		}
		return f(cert)
	}
}

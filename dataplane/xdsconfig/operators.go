package xdsconfig

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/transport"
)

// operator compiles one command, or returns its text if it is the same for all
// calls. It reports commands that Envoy refuses; of those that Envoy answers
// and we cannot it warns, and they say nothing, as Envoy's do where it has no
// value.
func (a *at) operator(cmd command, fs *formatScope) (op operator, static string) {
	if op, ok := a.argOperator(cmd); ok {
		return op, ""
	}
	unanswered := "%" + cmd.name + "%: not known to this version: left empty"
	if unansweredWithArg[cmd.name] {
		if cmd.arg == "" && !strings.HasPrefix(cmd.name, "UPSTREAM_PEER") {
			a.errorf("command operator %%%s%%: parameters are required", cmd.name)
		}
		a.warnf("%s", unanswered)
		return nil, ""
	}
	if cmd.name == "ENVIRONMENT" {
		if cmd.arg == "" {
			a.errorf("command operator %%ENVIRONMENT%%: parameters are required")
		}
		v, ok := a.r.env.lookupEnv(cmd.arg)
		if !ok {
			v = "-"
		}
		return nil, clip(v, cmd.max)
	}
	static, isStatic := a.staticOperator(cmd.name, fs)
	switch op = operators[cmd.name]; {
	case op == nil && !isStatic && !unansweredOperators[cmd.name]:
		a.errorf("command operator %%%s%%: there is none of that name", cmd.name)
		return nil, ""
	case cmd.arg != "" || cmd.max >= 0:
		a.errorf("command operator %%%s%%: takes no parameters and no length", cmd.name)
		return nil, ""
	case op == nil && !isStatic:
		a.warnf("%s", unanswered)
	}
	return op, static
}

// staticOperator answers commands that say the same for all calls.
func (a *at) staticOperator(name string, fs *formatScope) (text string, ok bool) {
	switch name {
	case "PROTOCOL":
		return "HTTP/2", true
	case "ROUTE_NAME":
		fs.used = true
		return fs.route, true
	case "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW":
		fs.used = true
		return fs.cluster, true
	case "HOSTNAME":
		text, _ = os.Hostname()
		return text, true
	}
	return "", false
}

// unansweredOperators are Envoy's other commands without parameters.
var unansweredOperators = words(`
	ACCESS_LOG_TYPE BYTES_RETRANSMITTED CONNECTION_TERMINATION_DETAILS CUSTOM_FLAGS DOWNSTREAM_CX_RTT
	DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT DOWNSTREAM_DETECTED_CLOSE_TYPE
	DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED
	DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_LOCAL_DNS_SAN
	DOWNSTREAM_LOCAL_EMAIL_SAN DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_LOCAL_SUBJECT
	DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256 DOWNSTREAM_PEER_CHAIN_SERIALS
	DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256 DOWNSTREAM_PEER_ISSUER_SERIAL
	DOWNSTREAM_PEER_OTHERNAME_SAN DOWNSTREAM_TLS_GROUP DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TRANSPORT_FAILURE_REASON
	DOWNSTREAM_WIRE_BYTES_RECEIVED DOWNSTREAM_WIRE_BYTES_SENT FILTER_CHAIN_NAME LOCAL_REPLY_BODY PACKETS_RETRANSMITTED
	REQUEST_DURATION REQUEST_HEADERS_BYTES REQUEST_TX_DURATION RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES
	RESPONSE_TRAILERS_BYTES ROUNDTRIP_DURATION ROUTE_RESOLUTION_COUNT ROUTE_RESOLUTION_TIME_US SPAN_ID TLS_JA3_FINGERPRINT
	TLS_JA4_FINGERPRINT TRACE_ID UPSTREAM_CONNECTION_ID UPSTREAM_CONNECTION_IDS_ATTEMPTED
	UPSTREAM_CONNECTION_POOL_READY_DURATION UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED
	UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT UPSTREAM_DETECTED_CLOSE_TYPE UPSTREAM_HEADER_BYTES_RECEIVED
	UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOSTS_ATTEMPTED UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT
	UPSTREAM_HOST_NAMES_ATTEMPTED UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT UPSTREAM_LOCAL_ADDRESS
	UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_LOCAL_CLOSE_REASON UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN
	UPSTREAM_LOCAL_PORT UPSTREAM_LOCAL_URI_SAN UPSTREAM_PEER_CERT UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN
	UPSTREAM_PEER_ISSUER UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID
	UPSTREAM_SERVER_NAME UPSTREAM_TLS_CIPHER UPSTREAM_TLS_GROUP UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION
	UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_WIRE_BYTES_SENT VIRTUAL_CLUSTER_NAME`)

func words(list string) map[string]bool {
	out := make(map[string]bool)
	for w := range strings.FieldsSeq(list) {
		out[w] = true
	}
	return out
}

// operators are the commands without arguments that differ from call to call.
var operators = map[string]operator{
	"DOWNSTREAM_REMOTE_ADDRESS":                     remote,
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":        remoteIP,
	"DOWNSTREAM_REMOTE_PORT":                        remotePort,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":              peerAddr,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": peerIP,
	"DOWNSTREAM_DIRECT_REMOTE_PORT":                 peerPort,
	"DOWNSTREAM_LOCAL_ADDRESS":                      localAddr,
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":         localIP,
	"DOWNSTREAM_LOCAL_PORT":                         localPort,
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS":               localAddr,
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT":  localIP,
	"DOWNSTREAM_DIRECT_LOCAL_PORT":                  localPort,
	"CONNECTION_ID": func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		return strconv.AppendUint(dst, c.Conn.ID, 10)
	},
	"STREAM_ID": func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		v, _ := c.Headers.Get(hdr.XRequestID)
		return append(dst, v...)
	},
	"UNIQUE_ID": func(dst []byte, _ *call.Call, _ *call.Outcome) []byte {
		var raw [16]byte
		_, _ = rand.Read(raw[:]) // never fails
		raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
		text := hex.EncodeToString(raw[:])
		return append(dst, text[:8]+"-"+text[8:12]+"-"+text[12:16]+"-"+text[16:20]+"-"+text[20:]...)
	},
	"BYTES_RECEIVED": func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		if o == nil {
			return append(dst, '0')
		}
		return strconv.AppendUint(dst, o.BytesIn, 10)
	},
	"BYTES_SENT": func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		if o == nil {
			return append(dst, '0')
		}
		return strconv.AppendUint(dst, o.BytesOut, 10)
	},
	"DURATION": func(dst []byte, c *call.Call, _ *call.Outcome) []byte { // until now
		return strconv.AppendInt(dst, c.Now.Sub(c.Arrived).Milliseconds(), 10)
	},
	"RESPONSE_TX_DURATION": nothing, // a call whose headers are being made is not over
	"RESPONSE_DURATION": func(dst []byte, c *call.Call, o *call.Outcome) []byte {
		if o != nil && o.Headers != 0 {
			dst = strconv.AppendInt(dst, o.Headers.Sub(c.Arrived).Milliseconds(), 10)
		}
		return dst
	},
	"UPSTREAM_REQUEST_ATTEMPT_COUNT": func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		switch {
		case o == nil:
			return append(dst, '1')
		case o.Host == nil && o.Response != nil: // answered by the proxy itself
			return append(dst, '0')
		}
		return strconv.AppendInt(dst, int64(o.Attempt)+1, 10)
	},
	"UPSTREAM_PROTOCOL": func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		if o != nil && o.Host != nil {
			dst = append(dst, "HTTP/2"...)
		}
		return dst
	},
	"DOWNSTREAM_TLS_VERSION":   peer(func(t *call.TLSInfo) string { return tlsVersionNames[t.Version] }),
	"DOWNSTREAM_TLS_CIPHER":    peer(func(t *call.TLSInfo) string { return transport.CipherName(t.Cipher) }),
	"DOWNSTREAM_LOCAL_URI_SAN": peer(func(t *call.TLSInfo) string { return strings.Join(t.LocalURIs, ",") }),
	"DOWNSTREAM_PEER_CERT": peer(func(t *call.TLSInfo) string {
		if len(t.PeerDER) == 0 {
			return ""
		}
		return call.URLPEM(t.PeerDER[:1])
	}),
	"DOWNSTREAM_PEER_ISSUER":    leaf(func(c *x509.Certificate) string { return c.Issuer.String() }),
	"DOWNSTREAM_PEER_SERIAL":    leaf(func(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }),
	"DOWNSTREAM_PEER_EMAIL_SAN": leaf(func(c *x509.Certificate) string { return strings.Join(c.EmailAddresses, ",") }),
	"DOWNSTREAM_PEER_IP_SAN": leaf(func(c *x509.Certificate) string {
		var out []string
		for _, ip := range c.IPAddresses {
			out = append(out, ip.String())
		}
		return strings.Join(out, ",")
	}),
	"DOWNSTREAM_PEER_SUBJECT":              peer(func(t *call.TLSInfo) string { return t.Subject }),
	"DOWNSTREAM_PEER_URI_SAN":              peer(func(t *call.TLSInfo) string { return strings.Join(t.PeerURIs, ",") }),
	"DOWNSTREAM_PEER_DNS_SAN":              peer(func(t *call.TLSInfo) string { return strings.Join(t.PeerDNS, ",") }),
	"DOWNSTREAM_PEER_FINGERPRINT_256":      peer(func(t *call.TLSInfo) string { return t.PeerSHA256 }),
	"UPSTREAM_HOST":                        upstream,
	"UPSTREAM_REMOTE_ADDRESS":              upstream,
	"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": part(upstream, beforePort),
	"UPSTREAM_REMOTE_PORT":                 part(upstream, port),
	"UPSTREAM_HOST_NAME":                   upstreamName,
	"UPSTREAM_HOST_NAME_WITHOUT_PORT":      part(upstreamName, beforePort),
	"GRPC_STATUS_NUMBER":                   grpcStatus(func(n uint64) string { return strconv.FormatUint(n, 10) }),
	"RESPONSE_CODE": func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		if o != nil {
			dst = strconv.AppendInt(dst, int64(o.HTTP), 10)
		}
		return dst
	},
	"RESPONSE_FLAGS": func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		if o != nil {
			dst = append(dst, o.Flags.String()...)
		}
		return dst
	},
}

// remote is the trusted client's address, which has no port if
// x-forwarded-for told it.
func remote(dst []byte, c *call.Call, o *call.Outcome) []byte {
	if c.Client.IsValid() {
		return netip.AddrPortFrom(c.Client, 0).AppendTo(dst)
	}
	return peerAddr(dst, c, o)
}

func remoteIP(dst []byte, c *call.Call, o *call.Outcome) []byte {
	if c.Client.IsValid() {
		return c.Client.AppendTo(dst)
	}
	return peerIP(dst, c, o)
}

func remotePort(dst []byte, c *call.Call, o *call.Outcome) []byte {
	if c.Client.IsValid() {
		return append(dst, '0')
	}
	return peerPort(dst, c, o)
}

func peerAddr(dst []byte, c *call.Call, _ *call.Outcome) []byte {
	if c.Conn.Remote.IsValid() {
		dst = c.Conn.Remote.AppendTo(dst)
	}
	return dst
}

func peerIP(dst []byte, c *call.Call, _ *call.Outcome) []byte {
	if c.Conn.Remote.IsValid() {
		dst = c.Conn.Remote.Addr().AppendTo(dst)
	}
	return dst
}

func peerPort(dst []byte, c *call.Call, _ *call.Outcome) []byte {
	if c.Conn.Remote.IsValid() {
		dst = strconv.AppendUint(dst, uint64(c.Conn.Remote.Port()), 10)
	}
	return dst
}

func localAddr(dst []byte, c *call.Call, _ *call.Outcome) []byte {
	if c.Conn.Local.IsValid() {
		dst = c.Conn.Local.AppendTo(dst)
	}
	return dst
}

func localIP(dst []byte, c *call.Call, _ *call.Outcome) []byte {
	if c.Conn.Local.IsValid() {
		dst = c.Conn.Local.Addr().AppendTo(dst)
	}
	return dst
}

func localPort(dst []byte, c *call.Call, _ *call.Outcome) []byte {
	if c.Conn.Local.IsValid() {
		dst = strconv.AppendUint(dst, uint64(c.Conn.Local.Port()), 10)
	}
	return dst
}

func nothing(dst []byte, _ *call.Call, _ *call.Outcome) []byte { return dst }

// upstreamName is the endpoint's hostname, or its address.
func upstreamName(dst []byte, c *call.Call, o *call.Outcome) []byte {
	if o != nil && o.Host != nil {
		if name := autoHost(nil, o.Host); name != "" {
			return append(dst, name...)
		}
	}
	return upstream(dst, c, o)
}

// part is a part of what op says.
func part(op operator, of func(string) string) operator {
	return func(dst []byte, c *call.Call, o *call.Outcome) []byte {
		n := len(dst)
		dst = op(dst, c, o)
		return append(dst[:n], of(string(dst[n:]))...)
	}
}

func beforePort(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

var tlsVersionNames = map[uint16]string{
	tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3",
}

// leaf says something of the client's certificate, which is parsed each time:
// few configurations ask.
func leaf(f func(*x509.Certificate) string) operator {
	return peer(func(t *call.TLSInfo) string {
		if len(t.PeerDER) == 0 {
			return ""
		}
		c, err := x509.ParseCertificate(t.PeerDER[0])
		if err != nil {
			return ""
		}
		return f(c)
	})
}

// grpcStatus is what the response's headers say; of a response without a status
// in them, what its HTTP status means.
func grpcStatus(text func(uint64) string) operator {
	return func(dst []byte, c *call.Call, o *call.Outcome) []byte {
		if !c.GRPC || o == nil || o.Response == nil {
			return dst
		}
		if v, ok := o.Response.Get(hdr.GRPCStatus); ok {
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				return dst
			}
			return append(dst, text(n)...)
		}
		if o.Host == nil {
			return dst // answered by the proxy itself
		}
		return append(dst, text(uint64(call.CodeFromHTTP(o.HTTP)))...)
	}
}

func upstream(dst []byte, _ *call.Call, o *call.Outcome) []byte {
	if o != nil && o.Host != nil {
		dst = append(dst, o.Host.Target().Address...)
	}
	return dst
}

func peer(f func(*call.TLSInfo) string) operator {
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		if c.Conn.TLS != nil {
			dst = append(dst, f(c.Conn.TLS)...)
		}
		return dst
	}
}

func clip(s string, max int) string {
	if max >= 0 && len(s) > max {
		s = s[:max]
	}
	return s
}

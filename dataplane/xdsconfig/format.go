package xdsconfig

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// operator appends what one command operator of a header value says about a
// call; nothing if it has nothing to say. o may be nil.
type operator func(dst []byte, c *call.Call, o *call.Outcome) []byte

// formatScope is what is known of a header's place at compile time.
type formatScope struct {
	route, cluster string
	used           bool // a value depends on them
}

// format compiles a header value with Envoy's command operators ("%REQ(x)%",
// "%%"). A value without operators is returned as text, with a nil function.
func (a *at) format(s string, fs *formatScope) (text string, value func(*call.Call, *call.Outcome) string) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var ops []operator
	var lit []byte
	flush := func() {
		if len(lit) > 0 {
			t := string(lit)
			ops = append(ops, func(dst []byte, _ *call.Call, _ *call.Outcome) []byte { return append(dst, t...) })
			lit = nil
		}
	}
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			lit = append(lit, s...)
			break
		}
		lit, s = append(lit, s[:i]...), s[i+1:]
		if strings.HasPrefix(s, "%") {
			lit, s = append(lit, '%'), s[1:]
			continue
		}
		cmd, rest, ok := cutCommand(s)
		if !ok {
			a.errorf("%q: a command operator is %%NAME%%, %%NAME(arguments)%% or %%NAME(arguments):length%%; a percent sign is %%%%", "%"+s)
			return "", nil
		}
		s = rest
		op, static := a.operator(cmd, fs)
		if op == nil {
			lit = append(lit, static...)
			continue
		}
		flush()
		ops = append(ops, op)
	}
	if len(ops) == 0 {
		return string(lit), nil
	}
	flush()
	return "", func(c *call.Call, o *call.Outcome) string {
		var buf [128]byte
		b := buf[:0]
		for _, op := range ops {
			b = op(b, c, o)
		}
		return string(b)
	}
}

// command is a parsed "NAME(arg):max".
type command struct {
	name, arg string
	hasArg    bool
	max       int // bytes; -1: no limit
}

// cutCommand parses a command operator at the start of s, behind its first
// percent sign. Arguments may contain percent signs: "START_TIME(%s)%".
func cutCommand(s string) (cmd command, rest string, ok bool) {
	i := 0
	for i < len(s) && (s[i] == '_' || s[i] >= '0' && s[i] <= '9' || s[i] >= 'A' && s[i] <= 'Z') {
		i++
	}
	cmd = command{name: s[:i], max: -1}
	if s = s[i:]; strings.HasPrefix(s, "(") {
		j := strings.Index(s, ")")
		// ")" ends the arguments only before "%" or ":".
		for j >= 0 && j+1 < len(s) && s[j+1] != '%' && s[j+1] != ':' {
			k := strings.Index(s[j+1:], ")")
			if k < 0 {
				return cmd, "", false
			}
			j += 1 + k
		}
		if j < 0 {
			return cmd, "", false
		}
		cmd.arg, cmd.hasArg, s = s[1:j], true, s[j+1:]
	}
	if strings.HasPrefix(s, ":") {
		j := strings.IndexByte(s, '%')
		if j < 0 {
			return cmd, "", false
		}
		n, err := strconv.Atoi(s[1:j])
		if err != nil || n < 0 {
			return cmd, "", false
		}
		cmd.max, s = n, s[j:]
	}
	if cmd.name == "" || !strings.HasPrefix(s, "%") {
		return cmd, "", false
	}
	return cmd, s[1:], true
}

// operator compiles one command, or returns its text if it is the same for all
// calls. It reports commands that cannot be answered.
func (a *at) operator(cmd command, fs *formatScope) (op operator, static string) {
	switch cmd.name {
	case "REQ":
		return a.requestHeader(cmd), ""
	case "START_TIME":
		return a.startTime(cmd), ""
	case "ENVIRONMENT":
		v, ok := a.r.env.lookupEnv(cmd.arg)
		if !ok {
			v = "-"
		}
		return nil, clip(v, cmd.max)
	}
	if cmd.hasArg {
		a.errorf("command operator %%%s(%s)%%: not supported by this version", cmd.name, cmd.arg)
		return nil, ""
	}
	switch cmd.name {
	case "PROTOCOL":
		return nil, "HTTP/2"
	case "ROUTE_NAME":
		fs.used = true
		return nil, fs.route
	case "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW":
		fs.used = true
		return nil, fs.cluster
	case "HOSTNAME":
		name, _ := os.Hostname()
		return nil, name
	}
	if op = operators[cmd.name]; op == nil {
		a.errorf("command operator %%%s%%: not supported by this version", cmd.name)
	}
	return op, ""
}

// operators are the commands without arguments that differ from call to call.
var operators = map[string]operator{
	"DOWNSTREAM_REMOTE_ADDRESS":                     remote,
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":        remoteIP,
	"DOWNSTREAM_REMOTE_PORT":                        remotePort,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":              peerAddr,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": peerIP,
	"DOWNSTREAM_DIRECT_REMOTE_PORT":                 peerPort,
	"DOWNSTREAM_LOCAL_ADDRESS": func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		if c.Conn.Local.IsValid() {
			dst = c.Conn.Local.AppendTo(dst)
		}
		return dst
	},
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		if c.Conn.Local.IsValid() {
			dst = c.Conn.Local.Addr().AppendTo(dst)
		}
		return dst
	},
	"DOWNSTREAM_LOCAL_PORT": func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		if c.Conn.Local.IsValid() {
			dst = strconv.AppendUint(dst, uint64(c.Conn.Local.Port()), 10)
		}
		return dst
	},
	"CONNECTION_ID": func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		return strconv.AppendUint(dst, c.Conn.ID, 10)
	},
	"REQUESTED_SERVER_NAME":           peer(func(t *call.TLSInfo) string { return t.ServerName }),
	"DOWNSTREAM_PEER_SUBJECT":         peer(func(t *call.TLSInfo) string { return t.Subject }),
	"DOWNSTREAM_PEER_URI_SAN":         peer(func(t *call.TLSInfo) string { return strings.Join(t.PeerURIs, ",") }),
	"DOWNSTREAM_PEER_DNS_SAN":         peer(func(t *call.TLSInfo) string { return strings.Join(t.PeerDNS, ",") }),
	"DOWNSTREAM_PEER_FINGERPRINT_256": peer(func(t *call.TLSInfo) string { return t.PeerSHA256 }),
	"UPSTREAM_HOST":                   upstream,
	"UPSTREAM_REMOTE_ADDRESS":         upstream,
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
	"RESPONSE_CODE_DETAILS": func(dst []byte, _ *call.Call, o *call.Outcome) []byte {
		if o != nil {
			dst = append(dst, o.Detail...)
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

// headerName is a header looked up per call.
type headerName struct {
	id   hdr.ID
	name string
}

func newHeaderName(name string) headerName {
	name = strings.ToLower(name)
	return headerName{hdr.Lookup(name), name}
}

func (h headerName) of(c *call.Call) (string, bool) {
	if h.id != 0 {
		return c.Headers.Get(h.id)
	}
	return c.Headers.GetName(h.name)
}

// requestHeader compiles %REQ(name?alternative):length%.
func (a *at) requestHeader(cmd command) operator {
	name, alt, hasAlt := strings.Cut(cmd.arg, "?")
	if name == "" || hasAlt && alt == "" {
		a.errorf("command operator %%REQ(%s)%%: want REQ(header) or REQ(header?alternative)", cmd.arg)
		return func(dst []byte, _ *call.Call, _ *call.Outcome) []byte { return dst }
	}
	h, h2 := newHeaderName(name), newHeaderName(alt)
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		v, ok := h.of(c)
		if !ok && hasAlt {
			v, _ = h2.of(c)
		}
		return append(dst, clip(v, cmd.max)...)
	}
}

// startTime compiles %START_TIME% and %START_TIME(strftime format)%.
func (a *at) startTime(cmd command) operator {
	layout := cmd.arg
	if layout == "" {
		layout = "%Y-%m-%dT%H:%M:%E3SZ"
	}
	if bad := checkTimeFormat(layout); bad != "" {
		a.errorf("command operator %%START_TIME(%s)%%: %s: not supported by this version", cmd.arg, bad)
	}
	return func(dst []byte, c *call.Call, _ *call.Outcome) []byte {
		// Arrived and Now are readings of one monotonic clock.
		return appendTime(dst, layout, time.Now().Add(-c.Now.Sub(c.Arrived)).UTC())
	}
}

package h2

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// message collects what the validation of a head (RFC 9113 §8) learns.
type message struct {
	method, path, authority, host string
	seen                          pseudo
	hosted                        bool
	status                        int
	length                        int64 // content-length; -1: none
}

// pseudo is a set of pseudo-header fields.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoPath
	pseudoAuthority
	pseudoStatus
	pseudoProtocol
)

// request validates a request's head: RFC 9113 §8.2 and §8.3.1, RFC 8441 §4.
func (m *message) request(cfg *Config, f []hpack.Field) bool {
	if !m.fields(f) || m.seen&pseudoStatus != 0 || m.seen&pseudoMethod == 0 {
		return false
	}
	if m.seen&pseudoProtocol != 0 && !(cfg.ExtendedConnect && m.method == "CONNECT") {
		return false
	}
	if m.method == "CONNECT" && m.seen&pseudoProtocol == 0 {
		// RFC 9113 §8.5.
		if m.seen != pseudoMethod|pseudoAuthority || !cfg.AllowConnect || m.authority == "" {
			return false
		}
	} else if m.seen&(pseudoScheme|pseudoPath) != pseudoScheme|pseudoPath || m.path == "*" && m.method != "OPTIONS" {
		return false
	}
	if !m.hosted || m.host == m.authority {
		return true
	}
	if m.seen&pseudoAuthority != 0 {
		return strings.EqualFold(m.host, m.authority)
	}
	return validAuthority(m.host)
}

// response validates a response's head: RFC 9113 §8.3.2.
func (m *message) response(f []hpack.Field) bool {
	return m.fields(f) && m.seen == pseudoStatus
}

// validTrailers: RFC 9113 §8.1: no pseudo-header fields.
func validTrailers(f []hpack.Field) bool {
	var m message
	return m.fields(f) && m.seen == 0
}

// validField is what can be said of a field alone. The decoder asks once for
// each literal and table entry.
func validField(f *hpack.Field) bool {
	v := f.Value
	if !validValue(v) {
		return false
	}
	switch f.ID {
	case hdr.Unknown:
		return validName(f.Name)
	case hdr.Method:
		return validMethod(v)
	case hdr.Scheme:
		return validScheme(v)
	case hdr.Path:
		return validPath(v)
	case hdr.Authority:
		return validAuthority(v)
	case hdr.Status:
		return parseStatus(v) != 0
	}
	return true
}

// fields validates the list, whose fields are valid by themselves or become so
// by trim, and collects the message's own.
func (m *message) fields(list []hpack.Field) bool {
	m.length = -1
	regular := false
	for i := range list {
		f := &list[i]
		if !f.Checked() && !trim(f) {
			return false
		}
		if fieldClass[f.ID] == classPlain {
			regular = true
			continue
		}
		v := f.Value
		var bit pseudo
		switch f.ID {
		case hdr.Method:
			m.method, bit = v, pseudoMethod
		case hdr.Scheme:
			bit = pseudoScheme
		case hdr.Path:
			m.path, bit = v, pseudoPath
		case hdr.Authority:
			m.authority, bit = v, pseudoAuthority
		case hdr.Protocol:
			bit = pseudoProtocol
		case hdr.Status:
			m.status, bit = parseStatus(v), pseudoStatus
		case hdr.Host:
			if regular = true; m.hosted && m.host != v {
				return false
			}
			m.host, m.hosted = v, true
			continue
		case hdr.ContentLength:
			n := parseLength(v)
			if regular = true; n < 0 || m.length >= 0 && m.length != n {
				return false
			}
			m.length = n
			continue
		case hdr.TE: // RFC 9113 §8.2.2
			if regular = true; v != "trailers" && !strings.EqualFold(v, "trailers") {
				return false
			}
			continue
		case hdr.Connection, hdr.KeepAlive, hdr.ProxyConnection, hdr.TransferEncoding, hdr.Upgrade:
			return false
		default:
			regular = true
			continue
		}
		if regular || m.seen&bit != 0 {
			return false // after a regular field, or twice
		}
		m.seen |= bit
	}
	return true
}

// trim cuts off the blanks around a value: they are not part of it (RFC 9110
// §5.5), and must not be sent (RFC 9113 §8.2.1). But gRPC's libraries do send
// them: metadata may end in one, and "failed: " is a message of a status like
// any other. That is escaped, which means the same. Fields that say where a
// message goes or ends must be right as they are. It reports whether the field
// is valid now.
func trim(f *hpack.Field) bool {
	if fieldClass[f.ID] != classPlain {
		return false
	}
	if f.ID == hdr.GRPCMessage && f.Value != "" {
		f.Replace(escapeEnds(f.Value))
	} else {
		f.Trim()
	}
	return validField(f)
}

// escapeEnds escapes a blank at either end as gRPC's status messages may be;
// those between are no ends any more.
func escapeEnds(v string) string {
	if n := len(v) - 1; isBlank(v[n]) {
		v = v[:n] + escaped(v[n])
	}
	if isBlank(v[0]) {
		v = escaped(v[0]) + v[1:]
	}
	return v
}

func escaped(blank byte) string {
	if blank == '\t' {
		return "%09"
	}
	return "%20"
}

// The classes of names.
const (
	classPlain = iota // nothing to know beyond validField
	classOurs         // message.fields looks at it
)

var fieldClass = fillFieldClass()

func fillFieldClass() (t [256]uint8) {
	for _, id := range []hdr.ID{
		hdr.Method, hdr.Scheme, hdr.Path, hdr.Authority, hdr.Protocol, hdr.Status, hdr.Host, hdr.ContentLength, hdr.TE,
		hdr.Connection, hdr.KeepAlive, hdr.ProxyConnection, hdr.TransferEncoding, hdr.Upgrade,
	} {
		t[id] = classOurs
	}
	return t
}

func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// validValue: no NUL, CR, LF; no blank at either end (RFC 9113 §8.2.1). Eight
// bytes at a time: a byte below 0x20 sends the value to the slow look.
func validValue(s string) bool {
	if len(s) == 0 {
		return true
	}
	if isBlank(s[0]) || isBlank(s[len(s)-1]) {
		return false
	}
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	b := bytesOf(s)
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		if (x-0x20*ones)&^x&highs != 0 {
			return validValueSlow(s)
		}
	}
	for _, x := range b {
		if x < 0x20 {
			return validValueSlow(s)
		}
	}
	return true
}

func isBlank(x byte) bool { return x == ' ' || x == '\t' }

func validValueSlow(s string) bool {
	for i := range len(s) {
		if x := s[i]; x == 0 || x == '\r' || x == '\n' {
			return false
		}
	}
	return true
}

// Classes of bytes.
const (
	charName   = 1 << iota // lower-case token (RFC 9110 §5.6.2, RFC 9113 §8.2.1)
	charUpper              // the capitals a method may also have
	charTarget             // printable, no blank: what a path or authority may have
	charScheme             // RFC 3986 §3.1, lower case
)

var charClass = fillCharClass()

func fillCharClass() (t [256]uint8) {
	for x := '!'; x <= '~'; x++ {
		t[x] |= charTarget
	}
	for x := 0x80; x <= 0xff; x++ {
		t[x] |= charTarget // servers decide; Envoy passes them too
	}
	for x := 'a'; x <= 'z'; x++ {
		t[x] |= charName | charScheme
		t[x-'a'+'A'] |= charUpper
	}
	for x := '0'; x <= '9'; x++ {
		t[x] |= charName | charScheme
	}
	for _, x := range "!#$%&'*+-.^_`|~" {
		t[x] |= charName
	}
	for _, x := range "+-." {
		t[x] |= charScheme
	}
	return t
}

func allOf(s string, class uint8) bool {
	for i := range len(s) {
		if charClass[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

func validName(s string) bool { return s != "" && allOf(s, charName) }

func validMethod(s string) bool {
	return s == "POST" || s == "GET" || s != "" && allOf(s, charName|charUpper)
}

func validScheme(s string) bool {
	return s == "http" || s == "https" || s != "" && allOf(s, charScheme)
}

// validPath takes "*" too, which only OPTIONS may have.
func validPath(s string) bool {
	return s == "*" || s != "" && s[0] == '/' && allOf(s, charTarget)
}

// validAuthority: RFC 9113 §8.3.1 forbids userinfo.
func validAuthority(s string) bool {
	for i := range len(s) {
		if x := s[i]; charClass[x]&charTarget == 0 || x == '@' || x == '/' {
			return false
		}
	}
	return true
}

// parseStatus returns 0 for what is not three digits from 100 on.
func parseStatus(s string) int {
	if len(s) != 3 {
		return 0
	}
	a, b, c := s[0]-'0', s[1]-'0', s[2]-'0'
	if a == 0 || a > 9 || b > 9 || c > 9 {
		return 0
	}
	return int(a)*100 + int(b)*10 + int(c)
}

// parseLength returns -1 for what is not digits only or over 2^62.
func parseLength(s string) int64 {
	if s == "" || len(s) > 18 {
		return -1
	}
	var n int64
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return -1
		}
		n = n*10 + int64(d)
	}
	return n
}

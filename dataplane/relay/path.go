package relay

import (
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// normalPath changes :path as the manager's path policy says. A reply says
// that the request goes no further.
func (x *Exchange) normalPath(b *hpack.Block) *call.Reply {
	p := x.m.Paths
	path, query := x.call.Path, ""
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i:]
	}
	old, redirect := path, false
	if p.Escaped != call.EscapedKeep && strings.IndexByte(path, '%') >= 0 {
		if path = unescapeSlashes.Replace(path); path != old {
			if p.Escaped == call.EscapedReject || p.Escaped == call.EscapedRedirect && x.call.GRPC {
				return replyBadPath
			}
			redirect = p.Escaped == call.EscapedRedirect
		}
	}
	if p.Normalize {
		var ok bool
		if path, ok = normalizePath(path); !ok {
			return replyBadPath
		}
	}
	if p.MergeSlashes && strings.Contains(path, "//") {
		path = mergeSlashes(path)
	}
	if path == old {
		return nil
	}
	f := hpack.NewUniqueField(":path", path+query)
	if redirect {
		return &call.Reply{HTTP: 307, GRPC: call.Internal, Detail: "path_normalization_failed",
			Headers: []hpack.Field{hpack.NewUniqueField("location", f.Value)}}
	}
	set(b, f)
	x.call.Path = f.Value
	return nil
}

var unescapeSlashes = strings.NewReplacer("%2F", "/", "%2f", "/", "%5C", `\`, "%5c", `\`)

// mergeSlashes makes each run of slashes one.
func mergeSlashes(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			out = append(out, path[i])
		}
	}
	return string(out)
}

// normalizePath resolves dot segments, takes backslashes for slashes, decodes
// escapes of unreserved characters and escapes what a path may not have (RFC
// 3986 §6.2.2, with what browsers do). False: the path has an escaped NUL.
func normalizePath(path string) (string, bool) {
	if isNormal(path) {
		return path, true
	}
	out := make([]byte, 0, len(path)+8)
	for i := 0; i < len(path); {
		if n := dot(path[i:]); n > 0 && len(out) > 0 && out[len(out)-1] == '/' {
			second := dot(path[i+n:])
			switch {
			case endOfSegment(path[i+n:]):
				i = skipSlash(path, i+n)
				continue
			case second > 0 && endOfSegment(path[i+n+second:]):
				i = skipSlash(path, i+n+second)
				out = out[:len(out)-1]
				for len(out) > 0 && out[len(out)-1] != '/' {
					out = out[:len(out)-1]
				}
				if len(out) == 0 {
					out = append(out, '/')
				}
				continue
			}
			out = append(out, '.')
			i += n
			continue
		}
		c := path[i]
		switch {
		case c == '\\':
			out = append(out, '/')
		case c == '%' && i+2 < len(path) && unhex(path[i+1]) < 16 && unhex(path[i+2]) < 16:
			v := unhex(path[i+1])<<4 | unhex(path[i+2])
			if v == 0 {
				return "", false
			}
			if unreserved(v) {
				out = append(out, v)
			} else {
				out = append(out, path[i:i+3]...)
			}
			i += 3
			continue
		case mustEscape(c):
			const hex = "0123456789ABCDEF"
			out = append(out, '%', hex[c>>4], hex[c&15])
		default:
			out = append(out, c)
		}
		i++
	}
	return string(out), true
}

// isNormal reports that normalizePath would not change the path.
func isNormal(path string) bool {
	for i := range len(path) {
		if c := path[i]; c == '%' || c == '\\' || mustEscape(c) || c == '.' && i > 0 && path[i-1] == '/' {
			return false
		}
	}
	return true
}

// dot returns the length of a dot at the start of s, escaped or not.
func dot(s string) int {
	switch {
	case strings.HasPrefix(s, "."):
		return 1
	case len(s) >= 3 && s[:2] == "%2" && s[2]|0x20 == 'e':
		return 3
	}
	return 0
}

func endOfSegment(s string) bool { return s == "" || s[0] == '/' || s[0] == '\\' }

func skipSlash(path string, i int) int {
	if i < len(path) {
		i++
	}
	return i
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func mustEscape(c byte) bool { return c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>`{|}^", c) >= 0 }

// unhex returns 255 for what is no hexadecimal digit.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

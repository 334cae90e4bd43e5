package xdsconfig

import (
	"strconv"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
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

// command is a parsed "NAME(arg):max"; "()" is the same as no argument.
type command struct {
	name, arg string
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
		cmd.arg, s = s[1:j], s[j+1:]
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

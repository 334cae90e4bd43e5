package h2

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"
)

// peer makes and reads frames with the code of golang.org/x/net.
type peer struct {
	in     []byte // not consumed yet
	got    bytes.Buffer
	enc    *xhpack.Encoder
	encBuf bytes.Buffer
	fr     *http2.Framer
}

func newPeer() *peer {
	p := &peer{}
	p.enc = xhpack.NewEncoder(&p.encBuf)
	p.fr = http2.NewFramer(nil, &p.got)
	p.fr.ReadMetaHeaders = xhpack.NewDecoder(4096, nil)
	p.fr.MaxHeaderListSize = 1 << 20
	return p
}

// standard is what "std" stands for in HEADERS; expected lines leave it out.
var standard = []string{":method=POST", ":scheme=http", ":path=/p", ":authority=a"}

func isStandard(name, value string) bool {
	for _, s := range standard {
		if s == name+"="+value {
			return true
		}
	}
	return false
}

func (p *peer) block(args []string) []byte {
	p.encBuf.Reset()
	for _, a := range args {
		if a == "std" {
			for _, f := range standard {
				i := strings.LastIndexByte(f, '=')
				p.enc.WriteField(xhpack.HeaderField{Name: f[:i], Value: f[i+1:]})
			}
			continue
		}
		if hexed, ok := strings.CutPrefix(a, "hex:"); ok {
			b, _ := hex.DecodeString(hexed)
			p.encBuf.Write(b)
			continue
		}
		if n, ok := strings.CutPrefix(a, "many:"); ok {
			k, _ := strconv.Atoi(n)
			for i := range k {
				p.enc.WriteField(xhpack.HeaderField{Name: fmt.Sprintf("n%d", i), Value: "v", Sensitive: true})
			}
			continue
		}
		if n, ok := strings.CutPrefix(a, "big:"); ok {
			k, _ := strconv.Atoi(n)
			p.enc.WriteField(xhpack.HeaderField{Name: "big", Value: strings.Repeat("\x7f", k), Sensitive: true})
			continue
		}
		i := strings.Index(a[1:], "=") + 1
		v, err := strconv.Unquote(`"` + a[i+1:] + `"`)
		if err != nil {
			v = a[i+1:]
		}
		p.enc.WriteField(xhpack.HeaderField{Name: a[:i], Value: v})
	}
	return bytes.Clone(p.encBuf.Bytes())
}

// frame encodes one frame given as text.
func (p *peer) frame(t testing.TB, text string) []byte {
	t.Helper()
	args := strings.Fields(text)
	has := func(flag string) bool {
		for i, a := range args {
			if a == flag {
				args = append(args[:i:i], args[i+1:]...)
				return true
			}
		}
		return false
	}
	num := func(i int) uint32 {
		if i >= len(args) {
			t.Fatalf("%q: argument missing", text)
		}
		n, err := strconv.ParseUint(args[i], 10, 32)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return uint32(n)
	}
	var buf bytes.Buffer
	fr := http2.NewFramer(&buf, nil)
	fr.AllowIllegalWrites = true
	switch args[0] {
	case "PREFACE":
		return []byte(Preface)
	case "TEXT":
		s, err := strconv.Unquote(strings.TrimSpace(strings.TrimPrefix(text, "TEXT")))
		if err != nil {
			t.Fatal(text, err)
		}
		return []byte(s)
	case "CYCLE": // open and reset
		return append(p.frame(t, "HEADERS "+args[1]+" std"), p.frame(t, "RST_STREAM "+args[1]+" CANCEL")...)
	case "OVERFLOW": // open and make us reset
		return append(p.frame(t, "HEADERS "+args[1]+" std"), p.frame(t, "WINDOW_UPDATE "+args[1]+" 2147483647")...)
	case "FRAME": // type flags id payload
		b, err := hex.DecodeString(strings.Join(args[4:], ""))
		if err != nil {
			t.Fatal(text, err)
		}
		fr.WriteRawFrame(http2.FrameType(num(1)), http2.Flags(num(2)), num(3), b)
	case "ZEROS": // type flags id length
		fr.WriteRawFrame(http2.FrameType(num(1)), http2.Flags(num(2)), num(3), make([]byte, num(4)))
	case "DATA":
		end := has("end")
		var pad []byte
		if len(args) > 3 {
			pad = make([]byte, num(3))
		}
		if pad != nil {
			fr.WriteDataPadded(num(1), end, make([]byte, num(2)), pad)
		} else {
			fr.WriteData(num(1), end, make([]byte, num(2)))
		}
	case "HEADERS":
		hp := http2.HeadersFrameParam{StreamID: num(1), EndStream: has("end"), EndHeaders: !has("part")}
		rest := args[2:]
		for len(rest) > 0 {
			if v, ok := strings.CutPrefix(rest[0], "pad="); ok {
				n, _ := strconv.Atoi(v)
				hp.PadLength = uint8(n)
			} else if v, ok := strings.CutPrefix(rest[0], "dep="); ok {
				n, _ := strconv.Atoi(v)
				hp.Priority = http2.PriorityParam{StreamDep: uint32(n), Weight: 1}
			} else {
				break
			}
			rest = rest[1:]
		}
		hp.BlockFragment = p.block(rest)
		fr.WriteHeaders(hp)
	case "CONTINUATION":
		end := !has("part")
		fr.WriteContinuation(num(1), end, p.block(args[2:]))
	case "PRIORITY":
		fr.WritePriority(num(1), http2.PriorityParam{StreamDep: num(2)})
	case "RST_STREAM":
		fr.WriteRSTStream(num(1), http2.ErrCode(parseCode(t, args[2])))
	case "SETTINGS":
		if has("ack") {
			fr.WriteSettingsAck()
			break
		}
		var set []http2.Setting
		for _, a := range args[1:] {
			k, v, _ := strings.Cut(a, "=")
			n, _ := strconv.ParseUint(v, 10, 32)
			set = append(set, http2.Setting{ID: settingByName(t, k), Val: uint32(n)})
		}
		fr.WriteSettings(set...)
	case "PUSH_PROMISE":
		fr.WritePushPromise(http2.PushPromiseParam{StreamID: num(1), PromiseID: num(2), BlockFragment: p.block(standard), EndHeaders: true})
	case "PING":
		ack := has("ack")
		var data [8]byte
		if len(args) > 1 {
			copy(data[:], args[1])
		}
		fr.WritePing(ack, data)
	case "GOAWAY":
		fr.WriteGoAway(num(1), http2.ErrCode(parseCode(t, args[2])), nil)
	case "WINDOW_UPDATE":
		fr.WriteWindowUpdate(num(1), num(2))
	default:
		t.Fatalf("unknown frame %q", text)
	}
	return buf.Bytes()
}

var settingNames = map[string]http2.SettingID{
	"HEADER_TABLE_SIZE": 1, "ENABLE_PUSH": 2, "MAX_CONCURRENT_STREAMS": 3, "INITIAL_WINDOW_SIZE": 4,
	"MAX_FRAME_SIZE": 5, "MAX_HEADER_LIST_SIZE": 6, "ENABLE_CONNECT_PROTOCOL": 8, "NO_RFC7540_PRIORITIES": 9,
}

func settingByName(t testing.TB, name string) http2.SettingID {
	t.Helper()
	if id, ok := settingNames[name]; ok {
		return id
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		t.Fatalf("unknown setting %q", name)
	}
	return http2.SettingID(n)
}

// received reads what we sent.
func (p *peer) received(t testing.TB) (out []string) {
	t.Helper()
	for p.got.Len() > 0 {
		b := p.got.Bytes()
		switch {
		case bytes.HasPrefix(b, []byte(Preface)):
			p.got.Next(len(Preface))
			out = append(out, "< PREFACE")
			continue
		case bytes.HasPrefix(b, []byte("HTTP/1.1")):
			line, _, _ := strings.Cut(string(b), "\r\n")
			out = append(out, "< TEXT "+line)
			p.got.Reset()
			return out
		}
		if len(b) < frameHeaderLen || len(b) < frameHeaderLen+int(be32(b)>>8) {
			return out // the rest of a frame comes later
		}
		f, err := p.fr.ReadFrame()
		if err != nil {
			t.Errorf("we sent a frame that x/net refuses: %v", err)
			return out
		}
		out = append(out, "< "+describe(f))
	}
	return out
}

func describe(f http2.Frame) string {
	id := f.Header().StreamID
	end := ""
	if f.Header().Flags.Has(http2.FlagDataEndStream) {
		end = " end"
	}
	switch f := f.(type) {
	case *http2.DataFrame:
		return fmt.Sprintf("DATA %d %d%s", id, len(f.Data()), end)
	case *http2.MetaHeadersFrame:
		s := fmt.Sprintf("HEADERS %d%s", id, end)
		for _, x := range f.Fields {
			if !isStandard(x.Name, x.Value) {
				v := x.Value
				if len(v) > 100 {
					v = fmt.Sprintf("(%d bytes)", len(v))
				}
				s += " " + x.Name + "=" + v
			}
		}
		return s
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %v", id, ErrCode(f.ErrCode))
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "SETTINGS ack"
		}
		s := "SETTINGS"
		f.ForeachSetting(func(x http2.Setting) error {
			name := x.ID.String()
			s += fmt.Sprintf(" %s=%d", name, x.Val)
			return nil
		})
		return s
	case *http2.PingFrame:
		data := strings.TrimRight(string(f.Data[:]), "\x00")
		if q := strconv.Quote(data); q != `"`+data+`"` {
			data = q
		}
		if f.IsAck() {
			return "PING ack " + data
		}
		return "PING " + data
	case *http2.GoAwayFrame:
		return strings.TrimRight(fmt.Sprintf("GOAWAY %d %v %s", f.LastStreamID, ErrCode(f.ErrCode), f.DebugData()), " ")
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW_UPDATE %d %d", id, f.Increment)
	}
	return fmt.Sprint(f)
}

package attack

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/test/echo"
)

// A peer is the hostile end of a connection: it sends bytes as they are and
// notes what comes back. test/rawh2 is for conversations; this is for floods.
type peer struct {
	nc   net.Conn
	s    *siege
	over chan struct{} // closed when reading has ended
	gone atomic.Bool   // GOAWAY came

	// Used by the attack's goroutine only.
	next uint32 // id of the next stream
	step int    // free for the attack
}

// peerOptions say how a client begins.
type peerOptions struct {
	settings []http2.Setting
	bare     bool // send nothing at first, not even the preface
	noRead   bool // never read
	noAck    bool // never acknowledge SETTINGS
}

// connect opens a hostile connection; nil: the siege is over.
func (s *siege) connect(o peerOptions) *peer {
	nc, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		s.note("connect: " + err.Error())
		return nil
	}
	s.add(nc)
	p := &peer{nc: nc, s: s, over: make(chan struct{}), next: 1}
	if !o.bare {
		b := append([]byte(http2.ClientPreface), settingsFrame(o.settings...)...)
		p.write(b)
	}
	if o.noRead {
		if tc, ok := nc.(*net.TCPConn); ok {
			_ = tc.SetReadBuffer(4 << 10)
		}
		return p
	}
	s.wg.Add(1)
	go p.read(!o.noAck)
	return p
}

// write sends b; false: the connection or the siege is over.
func (p *peer) write(b []byte) bool {
	if p.gone.Load() {
		return false
	}
	select {
	case <-p.s.done:
		return false
	case <-p.over:
		return false
	default:
	}
	_, err := p.nc.Write(b)
	return err == nil
}

// close waits a moment for the last words of the other end.
func (p *peer) close(patience time.Duration) {
	_ = p.nc.SetReadDeadline(time.Now().Add(patience))
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		select {
		case <-p.over:
		case <-t.C:
		}
	}
	_ = p.nc.Close()
}

// read notes what comes until the connection ends.
func (p *peer) read(ack bool) {
	defer p.s.wg.Done()
	defer close(p.over)
	br := bufio.NewReaderSize(p.nc, 32<<10)
	if b, err := br.Peek(12); err == nil && string(b[:5]) == "HTTP/" {
		p.s.note("HTTP " + string(b[9:12]))
		_, _ = io.Copy(io.Discard, br)
		p.s.note("close")
		return
	}
	fr := http2.NewFramer(p.nc, br)
	fr.AllowIllegalReads = true
	fr.SetReuseFrames()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) {
				p.s.note("close")
			}
			return
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			p.s.note("GOAWAY " + f.ErrCode.String())
			p.gone.Store(true)
		case *http2.RSTStreamFrame:
			p.s.note("RST_STREAM " + f.ErrCode.String())
		case *http2.HeadersFrame:
			p.s.note("HEADERS")
		case *http2.SettingsFrame:
			if ack && !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		}
	}
}

// id returns the id of a new stream.
func (p *peer) id() uint32 {
	id := p.next
	p.next += 2
	return id
}

// Frames, as bytes.

func frame(b []byte, t http2.FrameType, flags http2.Flags, id uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	b = binary.BigEndian.AppendUint32(b, id)
	return append(b, payload...)
}

func number(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func settingsFrame(s ...http2.Setting) []byte {
	var p []byte
	for _, s := range s {
		p = binary.BigEndian.AppendUint16(p, uint16(s.ID))
		p = binary.BigEndian.AppendUint32(p, s.Val)
	}
	return frame(nil, http2.FrameSettings, 0, 0, p)
}

const (
	endStream  = http2.FlagHeadersEndStream
	endHeaders = http2.FlagHeadersEndHeaders
)

// fields encodes a header block that leaves the table alone: never-indexed
// literals. The same bytes are right on every connection at any time.
func fields(nv ...string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(nv); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: nv[i], Value: nv[i+1], Sensitive: true}) // a Buffer takes everything
	}
	return b.Bytes()
}

// Header blocks of requests.
var (
	chatRequest = request(echo.Echo_Chat_FullMethodName) // stays open
	bigRequest  = request("/attack.Big/Get")
	badRequest  = request("/bad/Call")
	response    = fields(":status", "200", "content-type", "application/grpc")
	trailers    = fields("grpc-status", "0")
)

func request(path string, more ...string) []byte {
	return fields(append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "victim",
		"content-type", "application/grpc", "te", "trailers"}, more...)...)
}

// message is a gRPC message for Echo.
func message(r *echo.SayRequest) []byte {
	b, err := proto.Marshal(r)
	if err != nil {
		panic(err) // a constant of the test
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

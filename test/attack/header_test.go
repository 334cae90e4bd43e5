package attack

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxFrame is the longest frame that the proxy takes.
const maxFrame = 16 << 10

// headerAttacks are clients whose header blocks never end, or are much more
// than they seem.
func headerAttacks() []*attack {
	return []*attack{
		{name: "CONTINUATION flood", limits: []string{"Continuations"}, stat: "http2.continuation_flood", reaction: calm,
			run: flood(peerOptions{noAck: true}, endless(20, fields("a", "b")))},
		{name: "empty CONTINUATION flood", limits: []string{"EmptyContinuations"}, stat: "http2.continuation_flood", reaction: calm,
			run: flood(peerOptions{noAck: true}, endless(100, nil))},
		{name: "CONTINUATION flood of long frames", limits: []string{"EncodedFactor"}, stat: "http2.header_overflow", reaction: calm,
			run: flood(peerOptions{noAck: true}, endless(4, longFields(maxFrame)))},
		{name: "HPACK bomb", limits: []string{"MaxHeaderBytes", "HeaderTable"}, stat: "http2.header_overflow", reaction: "HEADERS",
			run: flood(peerOptions{}, bomb)},
		{name: "HPACK bomb, reset budget used up", limits: []string{"MaxHeaderBytes", "ResetBurst"}, stat: "http2.rapid_reset", reaction: calm,
			run: flood(peerOptions{}, repeat(20, bomb))},
		{name: "empty names", limits: []string{"MaxHeaderFields"}, stat: "http2.header_overflow", reaction: "HEADERS",
			run: flood(peerOptions{}, withBlock(bytes.Repeat([]byte{0, 0, 0}, 5000)))},
		{name: "table size updates", stat: "http2.protocol_error", reaction: "GOAWAY COMPRESSION_ERROR",
			run: flood(peerOptions{}, func(p *peer, b []byte) []byte {
				return frame(b, http2.FrameHeaders, endHeaders|endStream, p.id(), append(bytes.Repeat([]byte{0x20}, 10000), chatRequest...))
			})},
		{name: "table churn", limits: []string{"HeaderTable"},
			run: flood(peerOptions{}, repeat(20, churn))},
		{name: "long header list", limits: []string{"MaxHeaderBytes", "EncodedFactor"}, stat: "http2.header_overflow", reaction: "HEADERS",
			run: flood(peerOptions{}, func(p *peer, b []byte) []byte {
				return block(b, p.id(), append(bytes.Clone(chatRequest), longFields(80<<10)...))
			})},
	}
}

// endless begins a block on the first call, and then sends n CONTINUATION
// frames of part each time, none of them the last. Without an ACK of SETTINGS:
// that would be a frame inside the block.
func endless(n int, part []byte) func(p *peer, b []byte) []byte {
	return func(p *peer, b []byte) []byte {
		if p.next == 1 {
			b = frame(b, http2.FrameHeaders, 0, p.id(), chatRequest)
		}
		return same(n, http2.FrameContinuation, 0, 1, part)(p, b)
	}
}

// block sends a header block in as many frames as it needs.
func block(b []byte, id uint32, p []byte) []byte {
	t, flags := http2.FrameHeaders, endStream
	for len(p) > maxFrame {
		b = frame(b, t, flags, id, p[:maxFrame])
		p = p[maxFrame:]
		t, flags = http2.FrameContinuation, 0
	}
	return frame(b, t, flags|endHeaders, id, p)
}

// withBlock sends a request with more in its block.
func withBlock(more []byte) func(p *peer, b []byte) []byte {
	all := append(bytes.Clone(chatRequest), more...)
	return func(p *peer, b []byte) []byte { return block(b, p.id(), all) }
}

// longFields are literals of about n bytes.
func longFields(n int) []byte {
	v := strings.Repeat("x", 4000)
	var b []byte
	for len(b)+4100 < n {
		b = append(b, fields("x-long", v)...)
	}
	return b
}

// bombEntry puts one entry of nearly the whole table into it.
var bombEntry = func() []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	_ = enc.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("a", 4000)}) // a Buffer takes everything
	return b.Bytes()
}()

// bomb is a block of 16 KiB that means 64 MiB: the entry again and again.
func bomb(p *peer, b []byte) []byte {
	h := bytes.Clone(chatRequest)
	if p.next == 1 {
		h = append(h, bombEntry...)
	}
	return block(b, p.id(), append(h, bytes.Repeat([]byte{0x80 | 62}, maxFrame-len(h))...))
}

// churn fills the table with entries that nobody uses, and is otherwise a
// good request that is over at once.
func churn(p *peer, b []byte) []byte {
	h := bytes.Clone(request("/bad/Call"))
	for range 80 {
		p.step++
		h = append(h, 0x40, 3, 'x', byte('a'+p.step%26), byte('a'+p.step/26%26), 2, byte('0'+p.step/676%10), 'v')
	}
	return block(b, p.id(), h)
}

package attack

import (
	"bufio"
	"bytes"
	"io"
	"time"

	"golang.org/x/net/http2"
)

// calls is the run of attacks from upstream: clients that call the bad backend
// at a fixed rate, each with body, and give up after a while.
func calls(body []byte) func(s *siege) {
	return flood(peerOptions{}, func(p *peer, b []byte) []byte {
		if p.step++; p.step%200 == 0 { // a PING on a stream ends this connection, and what hangs on it
			return frame(b, http2.FramePing, 0, 1, nil)
		}
		id := p.id()
		if len(body) == 0 {
			return frame(b, http2.FrameHeaders, endHeaders|endStream, id, badRequest)
		}
		b = frame(b, http2.FrameHeaders, endHeaders, id, badRequest)
		return frame(b, http2.FrameData, 0, id, body)
	})
}

// serve is one connection of a bad backend: the handshake, then on each
// request answer, and every batchEvery what tick appends. Both may be nil.
func serve(answer func(p *peer, id uint32, b []byte) []byte, tick func(p *peer, b []byte) []byte) func(p *peer) {
	return func(p *peer) {
		br := bufio.NewReader(p.nc)
		if _, err := io.ReadFull(br, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		if _, err := p.nc.Write(settingsFrame(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})); err != nil {
			return
		}
		if tick != nil {
			dripped := make(chan struct{})
			defer func() { <-dripped }()
			go func() {
				defer close(dripped)
				p.drip(tick)
			}()
		}
		defer close(p.over)
		fr := http2.NewFramer(p.nc, br)
		fr.SetReuseFrames()
		fr.AllowIllegalReads = true
		var b []byte
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			case *http2.GoAwayFrame:
				p.s.note("GOAWAY " + f.ErrCode.String())
			case *http2.RSTStreamFrame:
				p.s.note("RST_STREAM " + f.ErrCode.String())
			case *http2.HeadersFrame:
				if answer != nil {
					b = answer(p, f.StreamID, b[:0])
					if b == nil {
						return
					}
					if _, err := p.nc.Write(b); err != nil {
						return
					}
				}
			}
		}
	}
}

// drip sends what tick makes until the connection ends.
func (p *peer) drip(tick func(p *peer, b []byte) []byte) {
	var b []byte
	t := time.NewTicker(batchEvery)
	defer t.Stop()
	for {
		select {
		case <-p.over:
			return
		case <-t.C:
			if b = tick(p, b[:0]); !p.write(b) {
				return
			}
		}
	}
}

// never takes connections and requests, and reads nothing.
func never(p *peer) {
	if _, err := p.nc.Write(settingsFrame()); err != nil {
		return
	}
	<-p.s.done
}

// upstreamAttacks are backends that harm. Their limits are ten times those of
// clients, so their floods are as much larger.
func upstreamAttacks() []*attack {
	up := func(name string) string { return "cluster.bad.http2." + name }
	ok := func(_ *peer, id uint32, b []byte) []byte {
		b = frame(b, http2.FrameHeaders, endHeaders, id, response)
		return frame(b, http2.FrameHeaders, endHeaders|endStream, id, trailers)
	}
	hugeHeaders := append(bytes.Clone(response), longFields(100<<10)...)
	return []*attack{
		{name: "upstream PING flood", limits: []string{"PingBurst", "PingRate"}, stat: up("outbound_control_flood"), toBackend: calm, reaction: "HEADERS",
			run: calls(nil), backend: serve(ok, same(500, http2.FramePing, 0, 0, make([]byte, 8)))},
		{name: "upstream SETTINGS flood", limits: []string{"SettingsBurst", "SettingsRate"}, stat: up("outbound_control_flood"), toBackend: calm, reaction: "HEADERS",
			run: calls(nil), backend: serve(ok, same(200, http2.FrameSettings, 0, 0, nil))},
		{name: "upstream useless frames", limits: []string{"UselessBurst", "UselessRate"}, stat: up("useless_frames"), toBackend: calm, reaction: "HEADERS",
			run: calls(nil), backend: serve(ok, same(1000, 0xee, 0, 0, nil))},
		{name: "upstream informational flood", limits: []string{"UselessBurst", "UselessRate"}, stat: up("useless_frames"), toBackend: calm, reaction: "HEADERS",
			run: calls(nil), backend: serve(func(_ *peer, id uint32, b []byte) []byte {
				return repeat(1000, func(_ *peer, b []byte) []byte {
					return frame(b, http2.FrameHeaders, endHeaders, id, fields(":status", "103"))
				})(nil, b)
			}, nil)},
		{name: "upstream empty DATA flood", limits: []string{"EmptyInRow"}, stat: up("inbound_empty_frames_flood"), toBackend: calm, reaction: "HEADERS",
			run: calls(nil), backend: serve(func(_ *peer, id uint32, b []byte) []byte {
				b = frame(b, http2.FrameHeaders, endHeaders, id, response)
				return same(1500, http2.FrameData, 0, id, nil)(nil, b)
			}, nil)},
		{name: "upstream CONTINUATION flood", limits: []string{"Continuations"}, stat: up("continuation_flood"), toBackend: calm, reaction: "HEADERS",
			run: calls(nil), backend: serve(func(_ *peer, id uint32, b []byte) []byte {
				b = frame(b, http2.FrameHeaders, 0, id, response)
				return same(100, http2.FrameContinuation, 0, id, []byte{0x88})(nil, b)
			}, nil)},
		{name: "upstream resets everything", limits: []string{"ResetBurst", "ResetRate"}, reaction: "HEADERS",
			run: calls(nil), backend: serve(func(_ *peer, id uint32, b []byte) []byte {
				return frame(b, http2.FrameRSTStream, 0, id, number(uint32(http2.ErrCodeInternal)))
			}, nil)},
		{name: "upstream long header list", limits: []string{"MaxHeaderBytes"}, stat: up("header_overflow"), toBackend: "RST_STREAM ENHANCE_YOUR_CALM", reaction: "HEADERS",
			run: calls(nil), backend: serve(func(_ *peer, id uint32, b []byte) []byte { return block(b, id, hugeHeaders) }, nil)},
		{name: "upstream HPACK bomb", limits: []string{"MaxHeaderBytes", "HeaderTable"}, stat: up("header_overflow"), toBackend: "RST_STREAM ENHANCE_YOUR_CALM", reaction: "HEADERS",
			run: calls(nil), backend: serve(func(p *peer, id uint32, b []byte) []byte {
				h := bytes.Clone(response)
				if p.step++; p.step == 1 {
					h = append(h, bombEntry...)
				}
				return block(b, id, append(h, bytes.Repeat([]byte{0x80 | 62}, maxFrame-len(h))...))
			}, nil)},
		{name: "upstream never reads", run: calls(upload), backend: never},
		{name: "upstream closes in a frame", reaction: "HEADERS",
			run: calls(nil), backend: serve(func(p *peer, id uint32, b []byte) []byte {
				b = frame(b, http2.FrameHeaders, endHeaders, id, response)
				_, _ = p.nc.Write(b[:len(b)-5]) // it closes next
				return nil
			}, nil)},
		{name: "upstream says nothing", limits: []string{"PrefaceTimeout"}, run: calls(nil), backend: func(p *peer) { <-p.s.done }},
		{name: "upstream is no HTTP/2 server", stat: up("protocol_error"), reaction: "HEADERS",
			run: calls(nil), backend: func(p *peer) {
				_, _ = p.nc.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) // it closes next
				_, _ = io.Copy(io.Discard, p.nc)
			}},
	}
}

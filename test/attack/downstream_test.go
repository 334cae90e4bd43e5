package attack

import (
	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/echo"
)

const (
	calm       = "GOAWAY ENHANCE_YOUR_CALM"
	maxWindow  = 1<<31 - 1
	uploadSize = 16 << 10
)

// repeat appends what f makes n times.
func repeat(n int, f func(p *peer, b []byte) []byte) func(p *peer, b []byte) []byte {
	return func(p *peer, b []byte) []byte {
		for range n {
			b = f(p, b)
		}
		return b
	}
}

// same sends n times the same frame.
func same(n int, t http2.FrameType, flags http2.Flags, id uint32, payload []byte) func(p *peer, b []byte) []byte {
	return repeat(n, func(_ *peer, b []byte) []byte { return frame(b, t, flags, id, payload) })
}

// onStream opens one stream first and then sends batches on it.
func onStream(batch func(p *peer, b []byte) []byte) func(p *peer, b []byte) []byte {
	return func(p *peer, b []byte) []byte {
		if p.next == 1 {
			b = frame(b, http2.FrameHeaders, endHeaders, p.id(), chatRequest)
		}
		return batch(p, b)
	}
}

// downstreamAttacks are clients that send too many frames, or the wrong ones.
func downstreamAttacks() []*attack {
	priority := append(number(0), 0)
	return []*attack{
		{name: "rapid reset", limits: []string{"ResetBurst", "ResetRate"}, stat: "http2.rapid_reset", reaction: calm,
			run: flood(peerOptions{}, repeat(50, func(p *peer, b []byte) []byte {
				id := p.id()
				b = frame(b, http2.FrameHeaders, endHeaders, id, chatRequest)
				return frame(b, http2.FrameRSTStream, 0, id, number(uint32(http2.ErrCodeCancel)))
			}))},
		{name: "made you reset", limits: []string{"ResetBurst", "ResetRate"}, stat: "http2.rapid_reset", reaction: calm,
			run: flood(peerOptions{}, repeat(50, madeYouReset))},
		{name: "rapid reset below the limit", limits: []string{"ResetBurst", "ResetRate"},
			run: flood(peerOptions{}, func(p *peer, b []byte) []byte {
				id := p.id()
				b = frame(b, http2.FrameHeaders, endHeaders, id, chatRequest)
				return frame(b, http2.FrameRSTStream, 0, id, number(uint32(http2.ErrCodeCancel)))
			})},
		{name: "PING flood", limits: []string{"PingBurst", "PingRate"}, stat: "http2.outbound_control_flood", reaction: calm,
			run: flood(peerOptions{}, same(200, http2.FramePing, 0, 0, make([]byte, 8)))},
		{name: "SETTINGS flood", limits: []string{"SettingsBurst", "SettingsRate"}, stat: "http2.outbound_control_flood", reaction: calm,
			run: flood(peerOptions{}, same(200, http2.FrameSettings, 0, 0, nil))},
		{name: "SETTINGS flood moving windows", limits: []string{"SettingsBurst", "SettingsRate"}, stat: "http2.outbound_control_flood", reaction: calm,
			run: flood(peerOptions{}, movingWindows)},
		{name: "empty DATA flood", limits: []string{"EmptyInRow"}, stat: "http2.inbound_empty_frames_flood", reaction: calm,
			run: flood(peerOptions{}, onStream(same(200, http2.FrameData, 0, 1, nil)))},
		{name: "padded DATA flood", limits: []string{"EmptyInRow"}, stat: "http2.inbound_empty_frames_flood", reaction: calm,
			run: flood(peerOptions{}, onStream(same(100, http2.FrameData, http2.FlagDataPadded, 1, append([]byte{255}, make([]byte, 255)...))))},
		{name: "tiny WINDOW_UPDATE flood", limits: []string{"UselessBurst", "UselessRate"}, stat: "http2.useless_frames", reaction: calm,
			run: flood(peerOptions{}, onStream(same(200, http2.FrameWindowUpdate, 0, 1, number(1))))},
		{name: "zero WINDOW_UPDATE flood", limits: []string{"ResetBurst", "ResetRate"}, stat: "http2.rapid_reset", reaction: calm,
			run: flood(peerOptions{}, repeat(50, func(p *peer, b []byte) []byte {
				id := p.id()
				b = frame(b, http2.FrameHeaders, endHeaders, id, chatRequest)
				return frame(b, http2.FrameWindowUpdate, 0, id, number(0))
			}))},
		{name: "PRIORITY flood", limits: []string{"UselessBurst", "UselessRate"}, stat: "http2.useless_frames", reaction: calm,
			run: flood(peerOptions{}, same(200, http2.FramePriority, 0, 7, priority))},
		{name: "unknown frames", limits: []string{"UselessBurst", "UselessRate"}, stat: "http2.useless_frames", reaction: calm,
			run: flood(peerOptions{}, same(200, 0xee, 0, 0, make([]byte, 64)))},
		{name: "frames on closed streams", limits: []string{"UselessBurst", "UselessRate"}, stat: "http2.useless_frames", reaction: calm,
			run: flood(peerOptions{}, func(p *peer, b []byte) []byte {
				if p.next == 1 {
					b = frame(b, http2.FrameHeaders, endHeaders, p.id(), chatRequest)
				}
				return same(200, http2.FrameRSTStream, 0, 1, number(8))(p, b)
			})},
		{name: "stream flood", limits: []string{"RefusedBurst", "RefusedRate", "StreamGrace", "MaxConcurrentStreams"}, stat: "http2.streams_refused", reaction: calm,
			run: flood(peerOptions{}, repeat(50, func(p *peer, b []byte) []byte {
				return frame(b, http2.FrameHeaders, endHeaders, p.id(), chatRequest)
			}))},
		{name: "DATA beyond the stream's window", limits: []string{"StreamWindow"}, stat: "http2.flow_violation", reaction: "RST_STREAM FLOW_CONTROL_ERROR",
			run: flood(peerOptions{}, beyondWindow(12))},
		{name: "DATA on a stream we reset", limits: []string{"ClosedData"}, stat: "http2.closed_data", reaction: calm,
			run: flood(peerOptions{}, func(p *peer, b []byte) []byte {
				if p.next == 1 { // a window that overflows makes us reset
					b = frame(b, http2.FrameHeaders, endHeaders, p.id(), chatRequest)
					b = frame(b, http2.FrameWindowUpdate, 0, 1, number(maxWindow))
				}
				return frame(b, http2.FrameData, 0, 1, make([]byte, uploadSize))
			})},
		{name: "DATA on an ended stream", stat: "http2.rapid_reset", limits: []string{"ResetBurst", "ResetRate"}, reaction: calm,
			run: flood(peerOptions{}, repeat(50, func(p *peer, b []byte) []byte {
				id := p.id()
				b = frame(b, http2.FrameHeaders, endHeaders|endStream, id, chatRequest)
				return frame(b, http2.FrameData, 0, id, []byte("late"))
			}))},
		{name: "preface garbage", stat: "http2.bad_preface", reaction: "GOAWAY PROTOCOL_ERROR",
			run: flood(peerOptions{bare: true}, func(_ *peer, b []byte) []byte {
				for i := range 1000 {
					b = append(b, byte(i*31+7))
				}
				return b
			})},
		{name: "HTTP/1 garbage", stat: "http2.bad_preface", reaction: "HTTP 400",
			run: flood(peerOptions{bare: true}, func(_ *peer, b []byte) []byte {
				return append(b, "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"...)
			})},
		{name: "frames too long", limits: []string{}, stat: "http2.protocol_error", reaction: "GOAWAY FRAME_SIZE_ERROR",
			run: flood(peerOptions{}, same(1, http2.FrameData, 0, 1, make([]byte, 20<<10)))},
	}
}

// madeYouReset opens a stream and breaks a rule on it, another one each time
// (CVE-2025-8671).
func madeYouReset(p *peer, b []byte) []byte {
	id := p.id()
	p.step++
	switch p.step % 4 {
	case 0:
		b = frame(b, http2.FrameHeaders, endHeaders, id, chatRequest)
		return frame(b, http2.FrameWindowUpdate, 0, id, number(maxWindow))
	case 1:
		b = frame(b, http2.FrameHeaders, endHeaders, id, chatRequest)
		return frame(b, http2.FramePriority, 0, id, append(number(id), 1))
	case 2:
		b = frame(b, http2.FrameHeaders, endHeaders, id, shortRequest)
		return frame(b, http2.FrameData, 0, id, []byte("more than announced"))
	default:
		b = frame(b, http2.FrameHeaders, endHeaders|endStream, id, chatRequest)
		return frame(b, http2.FrameHeaders, endHeaders|endStream, id, trailers)
	}
}

var shortRequest = request(echo.Echo_Chat_FullMethodName, "content-length", "3")

// movingWindows opens as many streams as it may and moves all their windows
// with every SETTINGS.
func movingWindows(p *peer, b []byte) []byte {
	if p.next == 1 {
		b = repeat(100, func(p *peer, b []byte) []byte {
			return frame(b, http2.FrameHeaders, endHeaders, p.id(), chatRequest)
		})(p, b)
	}
	for i := range 50 {
		b = append(b, settingsFrame(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i%2) << 20})...)
	}
	return b
}

// beyondWindow sends n frames of 16 KiB on each new stream, whatever its window
// says.
func beyondWindow(n int) func(p *peer, b []byte) []byte {
	return func(p *peer, b []byte) []byte {
		id := p.id()
		b = frame(b, http2.FrameHeaders, endHeaders, id, hangRequest)
		for range n {
			b = frame(b, http2.FrameData, 0, id, upload)
		}
		return b
	}
}

var (
	collectRequest = request(echo.Echo_Collect_FullMethodName)
	hangRequest    = request(hang)
	// upload is the beginning of a long message, so that a backend waits for more.
	upload = append([]byte{0, 0, 64, 0, 0}, make([]byte, uploadSize-5)...)
)

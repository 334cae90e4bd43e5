package attack

import (
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/echo"
)

// stallTime is how long thousands of streams take to open: stallingConns times
// streamsEach, 1,700 a second.
const (
	stallingConns = 30
	stallEvery    = 60 * time.Millisecond
	stallTime     = 2500 * time.Millisecond
)

// heldAttacks are clients whose calls stay, thousands of them. All use the
// cluster that the well-behaved clients use.
func heldAttacks() []*attack {
	get := message(&echo.SayRequest{})
	bigCall := func(p *peer, b []byte) []byte {
		id := p.id()
		b = frame(b, http2.FrameHeaders, endHeaders, id, bigRequest)
		return frame(b, http2.FrameData, http2.FlagDataEndStream, id, get)
	}
	wide := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: maxWindow}}
	shut := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	return []*attack{
		{name: "slow readers", atLeast: stallTime, limits: []string{"HiWater", "HoldLimit"}, stat: "http2.held_overflow",
			run: hold(stallingConns, stallEvery, peerOptions{settings: wide, noRead: true}, func(p *peer, b []byte) []byte {
				b = frame(b, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
				b = frame(b, http2.FrameWindowUpdate, 0, 0, number(maxWindow-65535))
				return repeat(streamsEach, bigCall)(p, b)
			}, nil)},
		{name: "zero windows", atLeast: stallTime, limits: []string{"HoldLimit", "StreamWindow"}, stat: "http2.held_overflow",
			run: hold(stallingConns, stallEvery, peerOptions{settings: shut}, repeat(streamsEach, bigCall), nil)},
		{name: "messages byte by byte", atLeast: stallTime,
			run: hold(stallingConns, stallEvery, peerOptions{}, repeat(streamsEach, func(p *peer, b []byte) []byte {
				return frame(b, http2.FrameHeaders, endHeaders, p.id(), collectRequest)
			}), func(p *peer, b []byte) []byte {
				p.step++
				return frame(b, http2.FrameData, 0, uint32(p.step%streamsEach)*2+1, []byte{0})
			})},
	}
}

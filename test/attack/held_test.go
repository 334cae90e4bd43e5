package attack

import (
	"time"

	"golang.org/x/net/http2"
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
	return []*attack{
		{name: "messages byte by byte", atLeast: stallTime,
			run: hold(stallingConns, stallEvery, peerOptions{}, repeat(streamsEach, func(p *peer, b []byte) []byte {
				return frame(b, http2.FrameHeaders, endHeaders, p.id(), collectRequest)
			}), func(p *peer, b []byte) []byte {
				p.step++
				return frame(b, http2.FrameData, 0, uint32(p.step%streamsEach)*2+1, []byte{0})
			})},
	}
}

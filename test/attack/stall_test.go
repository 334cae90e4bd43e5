package attack

import (
	"time"

	"golang.org/x/net/http2"
)

// How many connections wait.
const (
	silentConns = 1000
	slowConns   = 100
	streamsEach = 100 // as many as a connection may have
)

// hold returns a run that opens conns connections, one every so often, sends each begin once, and
// then every batchEvery one batch of its drip, until the end.
func hold(conns int, every time.Duration, o peerOptions, begin, drip func(p *peer, b []byte) []byte) func(s *siege) {
	return func(s *siege) {
		start := time.Now()
		for i := range conns {
			s.wg.Add(1)
			go s.hold(o, begin, drip)
			// By the clock: a pause is longer than it should be.
			if d := time.Until(start.Add(time.Duration(i+1) * every)); d > 0 && !s.pause(d) {
				return
			}
			select {
			case <-s.done:
				return
			default:
			}
		}
	}
}

func (s *siege) hold(o peerOptions, begin, drip func(p *peer, b []byte) []byte) {
	defer s.wg.Done()
	p := s.connect(o)
	if p == nil {
		return
	}
	var b []byte
	if begin != nil {
		b = begin(p, nil)
	}
	for p.write(b) {
		if drip == nil {
			<-s.done
			break
		}
		if !s.pause(batchEvery) {
			break
		}
		b = drip(p, b[:0])
	}
	p.close(0)
}

// stallAttacks are clients that make the proxy wait for them.
func stallAttacks() []*attack {
	return []*attack{
		{name: "half-open connections", limits: []string{"PrefaceTimeout"},
			run: hold(silentConns, time.Second/2000, peerOptions{bare: true}, nil, nil)},
		{name: "half a preface", limits: []string{"PrefaceTimeout"},
			run: hold(silentConns, time.Second/2000, peerOptions{bare: true}, func(_ *peer, b []byte) []byte { return append(b, "PRI * HTTP/2"...) }, nil)},
		{name: "headers byte by byte", limits: []string{"HeaderTimeout"}, stat: "http2.header_timeout", reaction: calm,
			run: hold(slowConns, time.Second/2000, peerOptions{}, func(p *peer, b []byte) []byte { return append(b, 0, 1, 0, 1, 5, 0, 0, 0, 1) },
				func(_ *peer, b []byte) []byte { return append(b, 0x82) })},
		{name: "control frames not read", limits: []string{"UnsentControl", "PingBurst"}, stat: "http2.outbound_control_flood",
			run: flood(peerOptions{noRead: true}, same(100, http2.FramePing, 0, 0, make([]byte, 8)))},
	}
}

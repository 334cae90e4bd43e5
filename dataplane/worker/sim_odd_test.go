package worker

import (
	"cmp"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Odd but legal: what peers may do and hardly any does.

// goawaySoon is the last id of a GOAWAY before the one that counts.
const goawaySoon = 1<<31 - 1

// oddOptions are drawn from the seed.
type oddOptions struct {
	noise    bool          // frames that say nothing, settings of all kinds
	goaways  bool          // of clients, and of servers in several steps
	peeks    bool          // directors look at the first message
	denies   bool          // what was paused may end with an error
	leaves   bool          // servers reset a request that they have answered
	lengths  bool          // content-length
	shorts   bool          // clients end requests short of it once they are answered
	budget   int64         // of memory; 0: the default
	silence  time.Duration // StreamIdleTimeout; 0: long
	duration time.Duration // MaxStreamDuration; 0: none
	pending  uint32        // the cluster's limit of waiting attempts; 0: none
	conns    uint32        // and of connections
}

func (w *world) drawOdd() {
	yes := func(n int) bool { return w.rnd.IntN(n) == 0 }
	o := &w.opt.odd
	o.noise, o.goaways, o.peeks, o.denies, o.leaves, o.lengths = yes(3), yes(3), yes(3), yes(4), yes(3), yes(3)
	o.shorts = o.lengths && yes(2)
	if yes(5) {
		o.budget = 64<<10 + int64(w.rnd.IntN(400_000))
	}
	if yes(6) {
		o.silence = time.Duration(20+w.rnd.IntN(500)) * time.Millisecond
	}
	if yes(6) {
		o.duration = time.Duration(20+w.rnd.IntN(500)) * time.Millisecond
	}
	if yes(4) {
		o.pending = 1 + uint32(w.rnd.IntN(20))
	}
	if yes(4) {
		o.conns = uint32(w.rnd.IntN(4))
	}
}

// cuts reports that calls end for what their peers do not do.
func (o *oddOptions) cuts() bool { return o.budget > 0 || o.silence > 0 || o.duration > 0 }

// limits are those of the world's cluster; nil: none.
func (o *oddOptions) limits() *call.Limits {
	if o.pending == 0 && o.conns == 0 {
		return nil
	}
	l := &call.Limits{}
	l.Pending.Set(cmp.Or(o.pending, 1000))
	l.Connections.Set(cmp.Or(o.conns, 1000))
	return l
}

// noise sends something that changes nothing for any call.
func (p *peer) noise() {
	rnd := p.w.rnd
	if len(p.order) == 0 || p.w.calm || rnd.IntN(10) != 0 {
		return
	}
	s := p.streams[p.order[rnd.IntN(len(p.order))]]
	sends := !s.sendEnd && !s.reset && (p.client || s.headSent)
	switch rnd.IntN(10) {
	case 0:
		p.fr.WritePriority(uint32(1+rnd.IntN(100)), http2.PriorityParam{StreamDep: 1000, Exclusive: true})
	case 1:
		p.fr.WriteRawFrame(http2.FrameType(0xb+rnd.IntN(200)), http2.Flags(rnd.IntN(256)), uint32(rnd.IntN(100)), make([]byte, rnd.IntN(50)))
	case 2:
		if p.sentPings < 15 {
			p.sentPings++
			p.fr.WritePing(false, [8]byte{byte(p.sentPings)})
		}
	case 3:
		p.fr.WritePing(true, [8]byte{1, 2, 3})
	case 4:
		if sends {
			p.fr.WriteData(s.id, false, nil)
		}
	case 5:
		if !s.reset {
			p.fr.WriteWindowUpdate(s.id, 1)
			s.recvWin++
		}
	case 6:
		p.fr.WriteWindowUpdate(0, 1)
		p.recvWin++
	case 7:
		if n := 1 + rnd.Int64N(200); sends && n <= min(s.sendWin, p.sendWin) {
			p.fr.WriteDataPadded(s.id, false, nil, make([]byte, n-1))
			s.sendWin -= n
			p.sendWin -= n
		}
	default:
		p.oddSettings()
	}
}

// oddSettings sends SETTINGS with up to four of those that any peer may change
// at any time, one of them more than once perhaps.
func (p *peer) oddSettings() {
	if p.sentSettings >= 5 || len(p.initNext) > 2 {
		return
	}
	p.sentSettings++
	rnd := p.w.rnd
	var settings []http2.Setting
	add := func(id http2.SettingID, v uint32) { settings = append(settings, http2.Setting{ID: id, Val: v}) }
	table := int64(-1)
	for range 1 + rnd.IntN(4) {
		switch rnd.IntN(5) {
		case 0:
			add(http2.SettingMaxFrameSize, uint32(16384+rnd.IntN(1<<20)))
		case 1:
			add(http2.SettingID(0x100+rnd.IntN(1000)), rnd.Uint32())
		case 2:
			// x/net's decoder takes two size updates in a row only if the first
			// one has emptied the table.
			table = []int64{0, 4096, 65536}[rnd.IntN(3)]
			add(http2.SettingHeaderTableSize, uint32(table))
		case 3:
			add(http2.SettingMaxHeaderListSize, 100_000)
		case 4:
			settings = append(settings, p.windowSetting(int64(rnd.IntN(70_000))))
		}
	}
	p.fr.WriteSettings(settings...)
	p.initNext = append(p.initNext, p.lastInit())
	for len(p.tableNext) < len(p.initNext)-1 {
		p.tableNext = append(p.tableNext, -1)
	}
	p.tableNext = append(p.tableNext, table)
}

// tableAcked makes the decoder's limit what the SETTINGS that were just
// acknowledged said.
func (p *peer) tableAcked() {
	if len(p.tableNext) == 0 {
		return
	}
	v := p.tableNext[0]
	p.tableNext = p.tableNext[1:]
	if v < 0 {
		return
	}
	p.hdec.SetAllowedMaxDynamicTableSize(uint32(v))
	if v < 4096 {
		p.hdec.SetMaxDynamicTableSize(uint32(v))
	}
}

// goodbye is a client's GOAWAY, or a server's that names no stream, its first
// or another one.
func (w *world) goodbye() {
	l := w.pick(func(l *link) bool {
		return l.peer != nil && !l.peer.gone && !l.peer.finSent && !l.peer.sawEnd && l.peer.highest > 0
	})
	if w.rnd.IntN(2) == 0 {
		l = w.pick(func(l *link) bool {
			return l.peer != nil && !l.peer.gone && !l.peer.finSent && !l.peer.sawEnd && l.peer.client
		})
	}
	if l == nil {
		return
	}
	p := l.peer
	if p.client {
		p.fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye"))
		return
	}
	if !p.goawaySent {
		w.fault("goaway")
		p.goawaySent, p.goawayLast = true, goawaySoon
	}
	code := http2.ErrCodeNo
	if w.rnd.IntN(2) == 0 {
		code = http2.ErrCodeEnhanceYourCalm
	}
	p.fr.WriteGoAway(p.goawayLast, code, nil)
}

// peek reports that the Director wants to see the first message, and looks at
// it when it is there.
func (s *simSet) peek(c *call.Call, r *rpc) bool {
	if !s.w.opt.odd.peeks || r.id%2 == 0 {
		return false
	}
	if !c.Peek.Done {
		return true
	}
	if !r.grpc {
		return false
	}
	m := c.Peek.Message.Data
	want := max(0, min(simBlock, r.reqLen)-5)
	if c.Peek.Whole && len(m) != want || len(m) > want {
		s.w.fatalf("%v: peeked %d bytes of a message of %d, whole %v", r, len(m), want, c.Peek.Whole)
	}
	for i, b := range m {
		if x := s.w.byteOf(r, 'q', 5+i); b != x {
			s.w.fatalf("%v: byte %d of the peeked message", r, i)
		}
	}
	return false
}

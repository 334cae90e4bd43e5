package worker

import (
	"bytes"
	"sort"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer is an HTTP/2 endpoint of the simulation, client or server, on x/net's
// frame reader and HPACK. It has nothing of ours, and checks what it gets:
// windows, stream states, order, the pattern of the bytes.
type peer struct {
	w      *world
	l      *link
	client bool

	rd     bytes.Reader
	wr     bytes.Buffer // frames on their way into the socket
	fr     *http2.Framer
	acc    []byte // bytes of unfinished frames
	hdec   *hpack.Decoder
	henc   *hpack.Encoder
	hbuf   bytes.Buffer
	fields []hpack.HeaderField // of the block being read
	block  []byte
	blkID  uint32
	blkEnd bool

	streams map[uint32]*pstream
	order   []uint32 // of streams, ascending

	sendWin  int64 // connection; what the worker allows us
	peerInit int64 // its SETTINGS_INITIAL_WINDOW_SIZE
	recvWin  int64 // connection; what we allow it
	owed     int64 // received, not yet given back
	initNow  int64 // our SETTINGS_INITIAL_WINDOW_SIZE, acknowledged
	initNext []int64
	maxPeer  int // streams we may open
	nextID   uint32
	highest  uint32 // of the worker's ids (server)

	pings      int // received
	drained    bool
	goawaySent bool
	goawayLast uint32
	goawaySeen bool
	gone       bool // we closed or reset the connection
	sawEnd     bool // the worker closed it
	finSent    bool
	prefaced   bool   // server: the client's preface came
	maxActive  uint32 // server: what we advertise

	deaf        bool   // gives no windows back
	stingy      bool   // sends at most 1,000 bytes of each request
	pendingInit *int64 // in the SETTINGS being written

	sentPings    int
	sentSettings int     // after the first
	tableNext    []int64 // SETTINGS_HEADER_TABLE_SIZE on their way; -1: none
}

// pstream is a stream of a peer.
type pstream struct {
	id       uint32
	r        *rpc
	sendWin  int64
	recvWin  int64
	owed     int64
	recvEnd  bool
	sendEnd  bool
	reset    bool
	attempt  *served // server
	headSent bool
	sent     int                 // payload bytes sent
	got      int                 // payload bytes received
	trailers []hpack.HeaderField // of the request, at a server
}

func newPeer(w *world, l *link, client bool) *peer {
	p := &peer{w: w, l: l, client: client, streams: map[uint32]*pstream{}, nextID: 1, maxPeer: 100,
		sendWin: 65535, peerInit: 65535, recvWin: 65535, initNow: 65535}
	l.peer = p
	p.fr = http2.NewFramer(&p.wr, &p.rd)
	p.fr.SetMaxReadFrameSize(16384)
	p.hdec = hpack.NewDecoder(4096, func(f hpack.HeaderField) { p.fields = append(p.fields, f) })
	p.henc = hpack.NewEncoder(&p.hbuf)
	var settings []http2.Setting
	if client {
		p.wr.WriteString(http2.ClientPreface)
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else if w.opt.maxStreams > 0 {
		p.maxActive = w.opt.maxStreams
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: p.maxActive})
	}
	if w.opt.smallWindows {
		settings = append(settings, p.windowSetting(int64(w.rnd.IntN(3000))))
	}
	if w.rnd.IntN(3) == 0 {
		v := int64(w.rnd.IntN(5000))
		settings = append(settings, http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(v)})
		p.tableNext = append(p.tableNext, v)
	}
	if err := p.fr.WriteSettings(settings...); err != nil {
		w.fatalf("WriteSettings: %v", err)
	}
	p.initNext = append(p.initNext, p.lastInit())
	if !w.opt.smallWindows && w.rnd.IntN(2) == 0 {
		p.fr.WriteWindowUpdate(0, 1<<20)
		p.recvWin += 1 << 20
	}
	p.push()
	return p
}

// lastInit is the initial window that the settings on their way end with.
func (p *peer) lastInit() int64 {
	if p.pendingInit != nil {
		v := *p.pendingInit
		p.pendingInit = nil
		return v
	}
	if n := len(p.initNext); n > 0 {
		return p.initNext[n-1]
	}
	return p.initNow
}

func (p *peer) windowSetting(v int64) http2.Setting {
	p.pendingInit = &v
	return http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(v)}
}

// push moves frames into the socket as far as it has room.
func (p *peer) push() bool {
	if p.gone || p.finSent {
		p.wr.Reset()
		return false
	}
	n := min(p.l.in.room(), p.wr.Len())
	if n <= 0 {
		return false
	}
	b := p.wr.Next(n)
	if p.l.shut || p.l.reset {
		return true // into the void
	}
	p.l.in.buf = append(p.l.in.buf, b...)
	return true
}

// feed takes bytes from the socket.
func (p *peer) feed(b []byte) {
	p.w.hash.Write(b)
	p.acc = append(p.acc, b...)
	if !p.client && !p.prefaced {
		if len(p.acc) < len(http2.ClientPreface) {
			return
		}
		if string(p.acc[:len(http2.ClientPreface)]) != http2.ClientPreface {
			p.w.fatalf("%v: preface %q", p, p.acc)
		}
		p.prefaced = true
		p.acc = p.acc[len(http2.ClientPreface):]
	}
	for len(p.acc) >= 9 {
		n := 9 + (int(p.acc[0])<<16 | int(p.acc[1])<<8 | int(p.acc[2]))
		if len(p.acc) < n {
			return
		}
		p.rd.Reset(p.acc[:n])
		f, err := p.fr.ReadFrame()
		if err != nil {
			p.w.fatalf("%v: bad frame %x: %v", p, p.acc[:min(n, 64)], err)
		}
		p.frame(f)
		p.acc = p.acc[n:]
		if p.gone {
			return
		}
	}
}

func (p *peer) frame(f http2.Frame) {
	w := p.w
	h := f.Header()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		p.settings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			p.pings++
			p.fr.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			p.sendWin += int64(f.Increment)
		} else if s := p.streams[f.StreamID]; s != nil {
			s.sendWin += int64(f.Increment)
		}
	case *http2.HeadersFrame:
		p.block = append([]byte(nil), f.HeaderBlockFragment()...)
		p.blkID, p.blkEnd = f.StreamID, f.StreamEnded()
		if f.HeadersEnded() {
			p.headers()
		}
	case *http2.ContinuationFrame:
		p.block = append(p.block, f.HeaderBlockFragment()...)
		if f.HeadersEnded() {
			p.headers()
		}
	case *http2.DataFrame:
		n := int64(h.Length)
		p.recvWin -= n
		p.owed += n
		if p.recvWin < 0 {
			w.fatalf("%v: connection window exceeded by %d", p, -p.recvWin)
		}
		s := p.streams[f.StreamID]
		if s == nil || s.reset {
			return // reset by us; already credited to the connection
		}
		s.recvWin -= n
		s.owed += n
		if s.recvWin < 0 && n > 0 {
			w.fatalf("%v: window of stream %d exceeded by %d", p, s.id, -s.recvWin)
		}
		if s.recvEnd {
			w.fatalf("%v: DATA after END_STREAM on %d", p, s.id)
		}
		p.data(s, f.Data(), f.StreamEnded())
	case *http2.RSTStreamFrame:
		s := p.streams[f.StreamID]
		if s == nil {
			if p.client || f.StreamID > p.highest {
				w.fatalf("%v: RST_STREAM on idle stream %d", p, f.StreamID)
			}
			return
		}
		p.resetBy(s, f.ErrCode)
	case *http2.GoAwayFrame:
		p.goaway(f)
	case *http2.PushPromiseFrame, *http2.PriorityFrame:
		w.fatalf("%v: unexpected %v", p, h)
	}
}

func (p *peer) settings(f *http2.SettingsFrame) {
	if f.IsAck() {
		if len(p.initNext) == 0 {
			p.w.fatalf("%v: SETTINGS ACK without SETTINGS", p)
		}
		v := p.initNext[0]
		p.initNext = p.initNext[1:]
		for _, id := range p.order {
			p.streams[id].recvWin += v - p.initNow
		}
		p.initNow = v
		p.tableAcked()
		return
	}
	f.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, id := range p.order {
				p.streams[id].sendWin += int64(s.Val) - p.peerInit
			}
			p.peerInit = int64(s.Val)
		case http2.SettingMaxConcurrentStreams:
			p.maxPeer = int(s.Val)
		case http2.SettingHeaderTableSize:
			p.henc.SetMaxDynamicTableSizeLimit(s.Val)
		}
		return nil
	})
	p.fr.WriteSettingsAck()
}

func (p *peer) headers() {
	p.fields = p.fields[:0]
	if _, err := p.hdec.Write(p.block); err != nil {
		p.w.fatalf("%v: HPACK: %v", p, err)
	}
	if err := p.hdec.Close(); err != nil {
		p.w.fatalf("%v: HPACK: %v", p, err)
	}
	s := p.streams[p.blkID]
	if p.client {
		if s == nil {
			p.w.fatalf("%v: HEADERS on unknown stream %d", p, p.blkID)
		}
		if s.reset {
			return
		}
		if s.recvEnd {
			p.w.fatalf("%v: HEADERS after END_STREAM on %d", p, s.id)
		}
		p.clientHeaders(s, p.fields, p.blkEnd)
		return
	}
	if s == nil {
		if p.blkID <= p.highest {
			p.w.fatalf("%v: stream id %d is not new", p, p.blkID)
		}
		p.highest = p.blkID
		s = p.open(p.blkID)
		p.serverRequest(s, p.fields, p.blkEnd)
		return
	}
	if s.reset {
		return
	}
	p.serverTrailers(s, p.fields, p.blkEnd)
}

// open makes a stream.
func (p *peer) open(id uint32) *pstream {
	s := &pstream{id: id, sendWin: p.peerInit, recvWin: p.initNow}
	p.streams[id] = s
	at := sort.Search(len(p.order), func(i int) bool { return p.order[i] >= id })
	p.order = append(p.order, 0)
	copy(p.order[at+1:], p.order[at:])
	p.order[at] = id
	return s
}

// active counts the streams that are not closed.
func (p *peer) active() (n int) {
	for _, id := range p.order {
		if s := p.streams[id]; !s.reset && !(s.recvEnd && s.sendEnd) {
			n++
		}
	}
	return n
}

// simPattern is byte i of the payload of call id in a direction.
func simPattern(id uint64, dir byte, i int) byte {
	x := id*0x9E3779B97F4A7C15 + uint64(i)*0xBF58476D1CE4E5B9 + uint64(dir)
	x ^= x >> 29
	return byte(x * 0x94D049BB133111EB >> 56)
}

// data checks a piece of payload.
func (p *peer) data(s *pstream, b []byte, end bool) {
	dir := byte('q')
	if p.client {
		dir = 'r'
		if s.r.check == checkReply {
			s.got += len(b)
			b = nil
		}
	}
	for i, x := range b {
		if want := p.w.byteOf(s.r, dir, s.got+i); x != want {
			p.w.fatalf("%v: %v: byte %d of direction %c is %#x, want %#x", p, s.r, s.got+i, dir, x, want)
		}
	}
	s.got += len(b)
	if end {
		s.recvEnd = true
		if p.client {
			p.clientEnd(s, nil)
		}
	}
}

// sendData writes up to n more payload bytes, limited by the windows; end with
// the last of total. It reports whether a frame was written.
func (p *peer) sendData(s *pstream, n, total int, end bool) bool {
	dir := byte('r')
	if p.client {
		dir = 'q'
	}
	pad := 0
	if p.w.rnd.IntN(10) == 0 {
		pad = p.w.rnd.IntN(50)
	}
	n = min(n, total-s.sent, 16384-pad-1)
	win := int(min(s.sendWin, p.sendWin))
	cost := n
	if pad > 0 {
		cost += pad + 1
	}
	if cost > win {
		pad = 0
		n = min(n, max(win, 0))
	}
	last := end && s.sent+n == total
	if n == 0 && !last {
		return false
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = p.w.byteOf(s.r, dir, s.sent+i)
	}
	var err error
	if pad > 0 {
		err = p.fr.WriteDataPadded(s.id, last, b, make([]byte, pad))
		n += pad + 1
	} else {
		err = p.fr.WriteData(s.id, last, b)
	}
	if err != nil {
		p.w.fatalf("WriteData: %v", err)
	}
	s.sent += len(b)
	s.sendWin -= int64(n)
	p.sendWin -= int64(n)
	if last {
		s.sendEnd = true
	}
	return true
}

// writeHeaders sends a block, sometimes in pieces.
func (p *peer) writeHeaders(s *pstream, end bool, kv ...string) {
	p.hbuf.Reset()
	for i := 0; i < len(kv); i += 2 {
		p.henc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	b := p.hbuf.Bytes()
	cut := len(b)
	if p.w.rnd.IntN(10) == 0 {
		cut = p.w.rnd.IntN(len(b) + 1)
	}
	err := p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: b[:cut], EndStream: end, EndHeaders: cut == len(b)})
	if err == nil && cut < len(b) {
		err = p.fr.WriteContinuation(s.id, true, b[cut:])
	}
	if err != nil {
		p.w.fatalf("WriteHeaders: %v", err)
	}
	if end {
		s.sendEnd = true
	}
}

// credit gives windows back: all of them, or some.
func (p *peer) credit(all bool) bool {
	if p.deaf {
		return false
	}
	moved := false
	if p.owed > 0 && (all || p.w.rnd.IntN(2) == 0) {
		n := p.owed
		if !all {
			n = 1 + p.w.rnd.Int64N(n)
		}
		p.fr.WriteWindowUpdate(0, uint32(n))
		p.owed -= n
		p.recvWin += n
		moved = true
	}
	for _, id := range p.order {
		s := p.streams[id]
		if s.reset || s.recvEnd {
			continue
		}
		if all && s.recvWin+s.owed < 8192 { // a small initial window would take for ever
			p.fr.WriteWindowUpdate(s.id, 16384)
			s.recvWin += 16384
			moved = true
		}
		if s.owed > 0 && (all || p.w.rnd.IntN(4) == 0) {
			n := s.owed
			if !all {
				n = 1 + p.w.rnd.Int64N(n)
			}
			p.fr.WriteWindowUpdate(s.id, uint32(n))
			s.owed -= n
			s.recvWin += n
			moved = true
		}
	}
	return moved
}

// rst resets a stream.
func (p *peer) rst(s *pstream, code http2.ErrCode) {
	p.fr.WriteRSTStream(s.id, code)
	s.reset = true
}

// act does one thing (all in a calm world) and reports whether it did.
func (p *peer) act(all bool) bool {
	if p.gone || p.finSent {
		return false
	}
	if p.sawEnd {
		p.fin()
		return true
	}
	moved := false
	if all || p.w.rnd.IntN(2) == 0 {
		moved = p.credit(all)
	}
	if p.w.opt.odd.noise {
		p.noise()
	}
	for i := 0; i < len(p.order); i++ {
		if !all && p.w.rnd.IntN(3) != 0 {
			continue
		}
		s := p.streams[p.order[i]]
		if s.reset {
			continue
		}
		if p.client {
			moved = p.clientAct(s, all) || moved
		} else {
			moved = p.serverAct(s, all) || moved
		}
	}
	return p.push() || moved
}

func (p *peer) fin() {
	for p.push() {
	}
	p.finSent = true
	p.l.in.fin = true
}

// ended is the worker's FIN, or a reset.
func (p *peer) ended() {
	p.sawEnd = true
	// A connection that is over has a second for what it had to say.
	if len(p.acc) > 0 && !p.l.reset && len(p.w.faults) == 0 && p.w.opt.age == 0 && p.w.opt.maxRequests == 0 && !p.w.calm {
		p.w.fatalf("%v: FIN inside a frame", p)
	}
	for _, id := range p.order {
		if s := p.streams[id]; p.client {
			p.clientLost(s)
		}
	}
	if p.l.reset {
		p.gone = true
	}
}

// cut ends the connection from outside, with a FIN or an RST.
func (p *peer) cut(reset bool) {
	if p.l.host != nil {
		p.l.host.lost++
	}
	p.gone = true
	p.sawEnd = true
	if reset {
		p.l.reset = true
		p.l.in.buf, p.l.out.buf = nil, nil
	} else {
		n := p.w.rnd.IntN(p.wr.Len() + 1) // at any byte
		p.l.in.buf = append(p.l.in.buf, p.wr.Next(n)...)
		p.l.in.fin = true
	}
	for _, id := range p.order {
		if s := p.streams[id]; p.client {
			p.clientLost(s)
		} else if s.attempt != nil {
			s.r.hurt = true // if the end was on its way it may be lost
		}
	}
}

func (p *peer) goaway(f *http2.GoAwayFrame) {
	if f.ErrCode != http2.ErrCodeNo {
		p.w.fatalf("%v: GOAWAY %v %q", p, f.ErrCode, f.DebugData())
	}
	p.goawaySeen = true
	if p.client {
		for _, id := range p.order {
			if s := p.streams[id]; id > f.LastStreamID && !s.reset && !s.recvEnd {
				s.reset = true
				p.w.rpcRefused(s.r)
			}
		}
	}
}

func (p *peer) String() string {
	if p.client {
		return "client " + itoa(p.l.id)
	}
	return "server " + itoa(p.l.id)
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

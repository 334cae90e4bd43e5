package h2

import (
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Stream is the state of one stream of a Conn. It is embedded in its owner's
// object; the zero value with Owner (and Head) set is ready for OpenStream or
// to be returned by NewStream. Between that and OnEnd it must not move.
//
// A stream that ended cleanly may still hold bytes that its owner has not
// credited: Conn.Credit stays valid for them until the Stream is used again,
// and that use credits what is left. The owner must not zero the Stream while
// Held is not 0.
type Stream struct {
	ID    uint32 // set by the Conn
	Owner any    // the embedding object, for the Handler
	// Head, if not nil, receives the first header block (the request; the
	// final response) and stays valid until its owner resets it.
	Head *hpack.Block
	// GivesUp is when the peer may reset the stream as the end of its own
	// patience, which is no abuse; 0: never. Its owner sets it with the head.
	GivesUp clock.Nanos

	conn  *Conn
	state streamState
	inQ   bool // in the connection's ring of blocked senders

	sendWin  int64 // what the peer's window for the stream allows; may be negative
	recvWin  int64 // what the peer may still send
	held     int64 // given to OnData, not credited
	unacked  int64 // credited, not yet announced by WINDOW_UPDATE
	window   int64 // W: recvWin + held + unacked
	born     clock.Nanos
	progress clock.Nanos
	// updatedAt is when the last WINDOW_UPDATE was sent with nothing held; 0: not.
	updatedAt clock.Nanos
	length    int64       // bytes of DATA due by content-length; -1: none announced
	shortAt   clock.Nanos // when the request ended short of it; 0: it did not
	sentAt    int64       // output position of the first HEADERS; -1: not sent

	next, prev   *Stream // open streams by id; next also links the end queue
	qnext, qprev *Stream // ring of blocked senders
	end          StreamError
}

// streamState is a set of facts. The RFC's states (§5.1) are: open = stOpen,
// half-closed (remote) = stOpen|stRecvEnd, half-closed (local) =
// stOpen|stSendEnd, closed = 0.
type streamState uint16

const (
	stOpen     streamState = 1 << iota // in the table
	stRecvEnd                          // the peer's END_STREAM came
	stSendEnd                          // our END_STREAM is in the output
	stHead                             // client role: the final response's head came
	stBlocked                          // a short WriteData waits for the stream's own window
	stHEAD                             // client role: the request was HEAD, the response has no DATA
	stOwes                             // ended cleanly, held bytes still count on the connection
	stGranted                          // a WINDOW_UPDATE for the stream came
	stAnswered                         // server role: the final response's head is in the output
)

// Conn returns the connection the stream was last open on.
func (s *Stream) Conn() *Conn { return s.conn }

// Open reports whether the stream lives: neither ended nor reset.
func (s *Stream) Open() bool { return s.state&stOpen != 0 }

// Granted reports that the peer has sent WINDOW_UPDATE for the stream: it has
// more of it than its first window.
func (s *Stream) Granted() bool { return s.state&stGranted != 0 }

// Held returns the bytes given to OnData and not yet credited.
func (s *Stream) Held() int { return int(s.held) }

// start makes s a new open stream of c.
func (s *Stream) start(c *Conn, id uint32) {
	if s.state&stOwes != 0 {
		s.conn.Credit(s, int(s.held))
	}
	s.ID = id
	s.conn = c
	s.state = stOpen
	s.inQ = false
	s.sendWin = c.peerWindow
	s.recvWin = c.recvInit
	s.window = c.recvInit
	s.updatedAt = 0
	s.held, s.unacked = 0, 0
	s.born, s.progress = c.now, c.now
	s.length = -1
	s.shortAt = 0
	s.sentAt = -1
	s.GivesUp = 0
}

// table finds open streams by id: direct-mapped, with a map for those whose
// place was taken, and a list of all in the order of their ids, which is the
// order of opening. Peers choose ids, and may choose such that all share one
// place: so it is a map, with the runtime's secret seed. It is never ranged
// over, which would make two runs differ.
type table struct {
	slots       []*Stream          // length is a power of two, or 0
	overflow    map[uint32]*Stream // nil until needed
	first, last *Stream
	n           int
}

func (t *table) get(id uint32) *Stream {
	if len(t.slots) == 0 {
		return nil
	}
	if s := t.slots[int(id>>1)&(len(t.slots)-1)]; s != nil && s.ID == id {
		return s
	}
	if len(t.overflow) == 0 {
		return nil
	}
	return t.overflow[id]
}

const firstSlots = 8

// put adds s, whose id is higher than all others.
func (t *table) put(s *Stream) {
	s.prev, s.next = t.last, nil
	if t.last != nil {
		t.last.next = s
	} else {
		t.first = s
	}
	t.last = s
	t.n++
	if 2*t.n > len(t.slots) {
		t.grow()
		return
	}
	t.place(s)
}

func (t *table) place(s *Stream) {
	p := &t.slots[int(s.ID>>1)&(len(t.slots)-1)]
	if *p == nil {
		*p = s
		return
	}
	if t.overflow == nil {
		t.overflow = make(map[uint32]*Stream)
	}
	t.overflow[s.ID] = s
}

func (t *table) grow() {
	t.slots = make([]*Stream, max(firstSlots, 2*len(t.slots)))
	clear(t.overflow)
	for s := t.first; s != nil; s = s.next {
		t.place(s)
	}
}

func (t *table) remove(s *Stream) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		t.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		t.last = s.prev
	}
	s.prev, s.next = nil, nil
	t.n--
	if p := &t.slots[int(s.ID>>1)&(len(t.slots)-1)]; *p == s {
		*p = nil
		return
	}
	delete(t.overflow, s.ID)
}

// how a stream closed; late frames are judged by it.
type how uint8

const (
	closedUnknown how = iota // long ago, or never open
	closedEnded              // both sides ended it
	closedByPeer             // RST_STREAM came
	closedByUs               // RST_STREAM sent
)

const (
	maxClosed   = 256
	lateSeconds = 5 // how long frames may come late after our reset
)

// closedRing remembers how the last 256 streams closed.
type closedRing struct {
	ring []closedID
	pos  int // of the oldest once the ring is full
}

type closedID struct {
	id uint32
	at uint32 // seconds<<2 | how
}

func (r *closedRing) add(id uint32, h how, now clock.Nanos) {
	e := closedID{id, uint32(now/1e9)<<2 | uint32(h)}
	if len(r.ring) < maxClosed {
		r.ring = append(r.ring, e)
		return
	}
	r.ring[r.pos] = e
	r.pos = (r.pos + 1) % maxClosed
}

// find returns how id closed and whether that was at most lateSeconds ago.
func (r *closedRing) find(id uint32, now clock.Nanos) (h how, late bool) {
	for i := range r.ring {
		if e := r.ring[i]; e.id == id {
			return how(e.at & 3), int64(now/1e9)-int64(e.at>>2) <= lateSeconds
		}
	}
	return closedUnknown, false
}

// complete reports whether every closed id is in the ring.
func (r *closedRing) complete() bool { return len(r.ring) < maxClosed }

package relay

import (
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// body is one direction's payload on its way through: the bytes that the
// receiver has not taken, and, while keep is set, those it has taken too, so
// that another attempt can start from the first.
//
//	base ≤ pos ≤ end; stored bytes are [base, end)
//	!keep: base = pos, within the first chunk's consumed part
//	credited ≤ pos: what the sender may send again for
//
// Chunks belong to the body until free.
type body struct {
	first, last *h2.Chunk
	cur         *h2.Chunk // holds pos, nil if nothing is stored
	off         int       // of pos in cur

	base, pos, end int64
	memory         int64 // of its chunks and extra, and callMemory if it has any
	credited       int64

	keep     bool         // bytes before pos stay
	done     bool         // the sender ended: no more bytes
	trailers *hpack.Block // come after the last byte; owned; nil: none
	extra    int          // bytes of trailers, and of what a director has seen
}

// empty reports that the receiver has taken all that came.
func (q *body) empty() bool { return q.pos == q.end }

// take records n bytes of p, which came when the body was empty, as taken by
// the receiver without being stored, and stores what is to be kept.
func (q *body) take(c *Core, p []byte, n int) {
	if q.keep {
		q.add(c, p)
		q.advance(c, n)
		return
	}
	q.end += int64(n)
	q.pos += int64(n)
	q.base = q.pos
	if n < len(p) {
		q.add(c, p[n:])
	}
}

// add stores p.
func (q *body) add(c *Core, p []byte) {
	q.end += int64(len(p))
	c.queued += int64(len(p))
	more := q.first != nil
	for len(p) > 0 {
		if q.last == nil || q.last.Room() == 0 {
			ch := c.Pool.Get(chunkFor(len(p), more))
			q.own(c, ch.Cap())
			if q.last == nil {
				q.first, q.cur, q.off = ch, ch, 0
			} else {
				q.last.Next = ch
			}
			q.last = ch
		}
		n := q.last.Append(p)
		p = p[n:]
	}
}

// chunkFor returns how large a chunk for n bytes is to be: not much larger than
// they are, so that what small messages hold is what they are; but a body
// that goes on gets fewer and larger ones.
func chunkFor(n int, more bool) int {
	switch {
	case more && n < smallChunk:
		return smallChunk
	case n > h2.MaxFrame/2:
		return h2.MaxFrame
	case n > smallChunk:
		return smallChunk
	}
	return n
}

const smallChunk = 4 << 10

// callMemory is about what a call holds that has payload waiting: its exchange,
// its attempt, its header block.
const callMemory = 2 << 10

// own notes n bytes of chunks taken, or with a negative n given back.
func (q *body) own(c *Core, n int) {
	if q.memory == 0 {
		n += callMemory
	}
	q.memory += int64(n)
	if q.memory == callMemory {
		n -= callMemory
		q.memory = 0
	}
	c.memory += int64(n)
}

// follow keeps a copy of the trailers, which come after the last byte.
func (q *body) follow(c *Core, b *hpack.Block) {
	q.trailers = c.block()
	q.trailers.CopyFrom(b)
	q.keepExtra(c, q.trailers.Size())
}

// keepExtra notes n bytes that stay until the end and are not in chunks.
func (q *body) keepExtra(c *Core, n int) {
	if n > 0 {
		q.extra += n
		q.own(c, n)
	}
}

// next returns stored bytes from pos on, in one piece; nil if there are none.
func (q *body) next() []byte {
	for q.cur != nil {
		if b := q.cur.Bytes()[q.off:]; len(b) > 0 {
			return b
		}
		if q.cur.Next == nil {
			return nil
		}
		q.cur, q.off = q.cur.Next, 0
	}
	return nil
}

// peek copies stored bytes from pos+skip on into p and returns how many there
// were.
func (q *body) peek(skip int, p []byte) (n int) {
	for ch, off := q.cur, q.off; ch != nil && n < len(p); ch, off = ch.Next, 0 {
		b := ch.Bytes()[off:]
		k := min(skip, len(b))
		skip -= k
		n += copy(p[n:], b[k:])
	}
	return n
}

// advance moves pos over n stored bytes and frees what is not kept.
func (q *body) advance(c *Core, n int) {
	if Planted == PlantCut && n == q.cur.Len()-q.off && q.cur.Next != nil {
		n++
	}
	q.pos += int64(n)
	for n > 0 {
		k := min(n, q.cur.Len()-q.off)
		q.off += k
		n -= k
		if n > 0 {
			q.cur, q.off = q.cur.Next, 0
		}
	}
	if !q.keep {
		q.drop(c)
	}
}

// drop frees the chunks that lie before pos. A chunk that is empty but could
// take more is freed too: a body at rest holds nothing.
func (q *body) drop(c *Core) {
	c.queued -= q.pos - q.base
	q.base = q.pos
	for q.first != nil && (q.first != q.cur || q.off == q.first.Len()) {
		ch := q.first
		q.first = ch.Next
		if ch == q.cur {
			q.cur, q.off = q.first, 0
		}
		q.own(c, -ch.Cap())
		c.Pool.Put(ch)
	}
	if q.first == nil {
		q.last, q.cur, q.off = nil, nil, 0
	}
}

// release stops keeping what the receiver has taken.
func (q *body) release(c *Core) {
	if q.keep {
		q.keep = false
		q.drop(c)
	}
}

// rewind moves pos back to the first byte. It reports false if that is gone.
func (q *body) rewind() bool {
	if !q.whole() {
		return false
	}
	q.pos, q.cur, q.off = 0, q.first, 0
	return true
}

// whole reports that the first byte is still there, or has not come.
func (q *body) whole() bool { return q.base == 0 && (q.keep || q.pos == 0) }

// owed returns how many bytes the receiver has taken that were not yet
// credited to the sender, and notes them as credited.
func (q *body) owed() int {
	n := q.pos - q.credited
	if n <= 0 {
		return 0
	}
	q.credited = q.pos
	return int(n)
}

// free drops everything, trailers included, and leaves the zero value.
func (q *body) free(c *Core) {
	for ch := q.first; ch != nil; {
		next := ch.Next
		q.own(c, -ch.Cap())
		c.Pool.Put(ch)
		ch = next
	}
	c.queued -= q.end - q.base
	if q.extra > 0 {
		q.own(c, -q.extra)
	}
	c.putBlock(q.trailers)
	*q = body{}
}

package h2

import "encoding/binary"

// maxBuffers is how many pieces one write may have.
const maxBuffers = 64

// Out is the output of a Conn: chunks in the order of writing. The first one
// of a burst has 4 KiB, the rest 16 KiB (a TLS record); an empty Out has none.
type Out struct {
	pool       *Pool
	head, tail *Chunk
	off        int   // bytes of head that were written
	n          int   // unsent bytes
	total      int64 // bytes ever appended
	wrote      int64 // bytes ever written: total - n
}

// Len returns the number of unsent bytes.
func (o *Out) Len() int { return o.n }

// Buffers appends the unsent bytes to dst, at most 64 pieces; they are valid
// until the next call of any method of the Conn.
func (o *Out) Buffers(dst [][]byte) [][]byte {
	off := o.off
	for c, i := o.head, 0; c != nil && i < maxBuffers; c, i = c.Next, i+1 {
		if b := c.b[off:c.n]; len(b) > 0 {
			dst = append(dst, b)
		}
		off = 0
	}
	return dst
}

// grow appends a chunk with at least min bytes of room.
func (o *Out) grow(min int) {
	if o.head == nil {
		c := o.pool.Get(max(min, chunkSmall))
		o.head, o.tail = c, c
		return
	}
	c := o.pool.Get(max(min, chunkMid))
	o.tail.Next = c
	o.tail = c
}

// room returns the free end of the tail chunk, at least min bytes of it.
// commit says how much of it was filled.
func (o *Out) room(min int) []byte {
	if o.tail == nil || o.tail.Room() < min {
		o.grow(min)
	}
	return o.tail.b[o.tail.n:]
}

func (o *Out) commit(n int) {
	o.tail.n += int32(n)
	o.n += n
	o.total += int64(n)
}

// append copies p, over several chunks if need be.
func (o *Out) append(p []byte) {
	for len(p) > 0 {
		if o.tail == nil || o.tail.Room() == 0 {
			o.grow(min(len(p), chunkMid))
		}
		k := o.tail.Append(p)
		o.n += k
		o.total += int64(k)
		p = p[k:]
	}
}

// advance drops n written bytes and the chunks they empty.
func (o *Out) advance(n int) {
	o.n -= n
	o.wrote += int64(n)
	for n > 0 {
		c := o.head
		k := min(n, int(c.n)-o.off)
		n -= k
		o.off += k
		if o.off == int(c.n) && (c.Next != nil || o.n == 0) {
			o.drop()
		}
	}
}

func (o *Out) drop() {
	c := o.head
	o.head, o.off = c.Next, 0
	if o.head == nil {
		o.tail = nil
	}
	o.pool.Put(c)
}

// discard throws everything unsent away.
func (o *Out) discard() {
	for o.head != nil {
		o.drop()
	}
	o.wrote, o.n = o.total, 0
}

// putFrameHeader writes the nine octets of RFC 9113 §4.1 to b.
func putFrameHeader(b []byte, n int, t frameType, flags byte, id uint32) {
	_ = b[frameHeaderLen-1]
	binary.BigEndian.PutUint32(b, uint32(n)<<8|uint32(t))
	b[4] = flags
	binary.BigEndian.PutUint32(b[5:], id)
}

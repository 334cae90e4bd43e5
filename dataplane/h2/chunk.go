package h2

import "github.com/sluice-proxy/sluice/dataplane/h2/hpack"

// The chunk sizes of a Pool: two for small messages that wait, one for small
// output, one TLS record, one read.
const (
	chunkTiny  = 256
	chunkPage  = 1 << 10
	chunkSmall = 4 << 10
	chunkMid   = 16 << 10
	chunkLarge = 64 << 10
)

const poison = 0xDB

// Chunk is a piece of memory from a Pool. It has one owner at a time and belongs
// to one worker: nothing here is safe for concurrent use.
type Chunk struct {
	// Next links the chunk into its owner's list.
	Next *Chunk
	b    []byte
	n    int32
	free bool // given back
}

// Bytes returns the filled part.
func (c *Chunk) Bytes() []byte { return c.b[:c.n] }

// Len returns the length of the filled part.
func (c *Chunk) Len() int { return int(c.n) }

// Cap returns the chunk's size.
func (c *Chunk) Cap() int { return len(c.b) }

// Room returns how many bytes Append would still take.
func (c *Chunk) Room() int { return len(c.b) - int(c.n) }

// Append copies as much of p as fits and returns how much that was.
func (c *Chunk) Append(p []byte) int {
	k := copy(c.b[c.n:], p)
	c.n += int32(k)
	return k
}

// Pool is a worker's free list of chunks, bounded in bytes.
type Pool struct {
	// Grow, if not nil, is asked before a Conn lets its peer send n bytes more
	// than before without our reading them (see tuneTrips), and is told -n when
	// that Conn is dead. lent: streams may hold as much more; else it is the
	// window that they share. It belongs to whoever owns the memory budget.
	Grow func(n int64, lent bool) bool

	// Reuse, if not 0, keeps freed chunks as long as they and those in use are
	// at most so many bytes: under pressure what one call gave up is what the
	// next one gets, and not garbage. Trim ends that.
	Reuse int

	free    [5]*Chunk
	freeLen int // bytes in the free lists
	maxFree int
	debug   bool // poison what is freed, check who frees
	live    int  // chunks handed out and not yet back
	bytes   int  // their bytes
	block   hpack.Block
}

// NewPool returns a pool that keeps at most maxFree bytes for reuse. With debug
// on, freed chunks are filled with 0xDB and a double Put panics.
func NewPool(maxFree int, debug bool) *Pool { return &Pool{maxFree: maxFree, debug: debug} }

func chunkClass(min int) (class, size int) {
	switch {
	case min <= chunkTiny:
		return 0, chunkTiny
	case min <= chunkPage:
		return 1, chunkPage
	case min <= chunkSmall:
		return 2, chunkSmall
	case min <= chunkMid:
		return 3, chunkMid
	case min <= chunkLarge:
		return 4, chunkLarge
	}
	return -1, min
}

// Get returns an empty chunk of at least min bytes; the caller is its
// owner. Sizes over 64 KiB are allocated and not kept.
func (p *Pool) Get(min int) *Chunk {
	class, size := chunkClass(min)
	p.live++
	p.bytes += size
	if class >= 0 {
		if c := p.free[class]; c != nil {
			p.free[class] = c.Next
			p.freeLen -= size
			c.Next, c.n, c.free = nil, 0, false
			return c
		}
	}
	return &Chunk{b: make([]byte, size)}
}

// Put frees a chunk; its owner must not touch it any more.
func (p *Pool) Put(c *Chunk) {
	if p.debug {
		if c.free {
			panic("h2: chunk freed twice") //nolint:forbidigo // a mistake of the core; going on would mix calls
		}
		for i := range c.b {
			c.b[i] = poison
		}
	}
	c.free = true
	p.live--
	p.bytes -= len(c.b)
	class, size := chunkClass(len(c.b))
	if class < 0 || p.freeLen+size > max(p.maxFree, p.Reuse-p.bytes) {
		c.Next = nil
		return
	}
	p.freeLen += size
	c.Next = p.free[class]
	p.free[class] = c
}

// Trim drops free chunks beyond the bound of NewPool.
func (p *Pool) Trim() { p.Shrink(p.maxFree) }

// Shrink drops free chunks until they have at most n bytes, and returns how
// many they have.
func (p *Pool) Shrink(n int) int {
	for class := len(p.free) - 1; class >= 0; class-- {
		for p.freeLen > n && p.free[class] != nil {
			c := p.free[class]
			p.free[class] = c.Next
			p.freeLen -= len(c.b)
			c.Next = nil
		}
	}
	return p.freeLen
}

// Live returns how many chunks are handed out: 0 at rest.
func (p *Pool) Live() int { return p.live }

// LiveBytes returns the bytes of the chunks that are handed out.
func (p *Pool) LiveBytes() int { return p.bytes }

// scratch returns the worker's block for headers that are needed during one
// handler call only.
func (p *Pool) scratch() *hpack.Block {
	p.block.Reset()
	return &p.block
}

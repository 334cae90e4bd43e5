package hpack

// DefaultTableSize is the size of a dynamic table before any SETTINGS, in the
// octets of RFC 7541 section 4.1 (RFC 9113 section 6.5.2).
const DefaultTableSize = 4096

// table is a dynamic table (RFC 7541 section 2.3.2): a ring of entries whose
// strings the table owns. Entries have numbers that count insertions; the
// newest is inserted.
type table struct {
	ring     []Field // length is a power of two, or 0
	inserted uint32  // wraps
	n        int
	size     uint32 // sum of the entries' sizes
	max      uint32

	// strings of entries. Entries leave in the order they came, so the live
	// ones hold no more pieces than their bytes fill, and two.
	strings arena
}

const (
	firstRing      = 8
	firstTextPiece = 128
	maxTextPiece   = 1 << 10
)

// at returns the entry of age i: 0 is the newest.
func (t *table) at(i uint32) *Field {
	return &t.ring[(t.inserted-1-i)&uint32(len(t.ring)-1)]
}

// resize changes the maximum size (RFC 7541 section 4.3).
func (t *table) resize(max uint32) {
	t.max = max
	t.evict(max)
}

// evict removes the oldest entries until size is at most limit.
func (t *table) evict(limit uint32) {
	for t.size > limit && t.n > 0 {
		e := t.at(uint32(t.n - 1))
		t.size -= uint32(e.Size())
		*e = Field{}
		t.n--
	}
}

// fits evicts what an entry of this size needs. If the entry is larger than
// the table it leaves the table empty and returns false, which is not an error
// (RFC 7541 section 4.4).
func (t *table) fits(size int) bool {
	if uint64(size) > uint64(t.max) {
		t.evict(0)
		return false
	}
	t.evict(t.max - uint32(size))
	return true
}

// push adds an entry for which fits said true. It reports whether the ring was
// replaced by a larger one.
func (t *table) push(f *Field) (grown bool) {
	if t.n == len(t.ring) {
		t.grow()
		grown = true
	}
	t.ring[t.inserted&uint32(len(t.ring)-1)] = *f
	t.inserted++
	t.n++
	t.size += uint32(f.Size())
	return grown
}

func (t *table) grow() {
	ring := make([]Field, max(firstRing, 2*len(t.ring)))
	for k := range uint32(t.n) {
		n := t.inserted - 1 - k
		ring[n&uint32(len(ring)-1)] = t.ring[n&uint32(len(t.ring)-1)]
	}
	t.ring = ring
}

// pieceSize is the size of the next piece of strings: small for the few fields
// of most connections.
func (t *table) pieceSize() int {
	return min(maxTextPiece, max(firstTextPiece, 2*cap(t.strings.piece)))
}

// own copies a string.
func (t *table) own(s string) string {
	n := copy(t.strings.room(len(s), t.pieceSize()), s)
	return t.strings.take(n)
}

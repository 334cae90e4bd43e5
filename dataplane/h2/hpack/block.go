package hpack

import "github.com/sluice-proxy/sluice/dataplane/h2/hdr"

// Block is a list of fields and the memory their strings live in. The zero
// value is ready. A Block must not be copied by assignment while in use.
//
// Its owner may reorder, replace and remove elements of Fields. Strings of a
// decoded block are valid until Reset, unless the Block was given to CopyFrom.
type Block struct {
	Fields []Field

	arena arena
	used  int // bytes taken from the arena since Reset, over all its pieces
	want  int // size of the next first piece: what the last block needed
}

const (
	pieceSize  = 512     // of an arena, unless more was needed the last time
	keepArena  = 4 << 10 // bytes a Block may keep over Reset
	keepFields = 96      // fields a Block may keep over Reset: 4.5 KiB
	fewFields  = 16      // room made at first
)

// Reset empties the block. All strings in its arena become invalid; capacity
// is kept for the next block, up to 96 fields and 4 KiB of strings.
func (b *Block) Reset() {
	if cap(b.Fields) > keepFields {
		b.Fields = nil
	} else {
		b.Fields = b.Fields[:0]
	}
	if b.used > keepArena {
		// The fields hold the pieces of a large block, and an empty block
		// must not.
		clear(b.Fields[:cap(b.Fields)])
	}
	if b.used > cap(b.arena.piece) {
		b.want = min(keepArena, (b.used+pieceSize-1)/pieceSize*pieceSize)
		b.arena.piece = nil
	} else if cap(b.arena.piece) > keepArena {
		b.arena.piece = nil
	} else {
		b.arena.piece = b.arena.piece[:0]
	}
	b.used = 0
}

// Size is the size of the list as RFC 9113 section 6.5.2 counts it.
func (b *Block) Size() int {
	n := 0
	for i := range b.Fields {
		n += b.Fields[i].Size()
	}
	return n
}

// Index returns the position of the first field called id, or -1.
func (b *Block) Index(id hdr.ID) int {
	for i := range b.Fields {
		if b.Fields[i].ID == id {
			return i
		}
	}
	return -1
}

// Get returns the value of the first field called id, which must not be
// hdr.Unknown. The value is valid until Reset.
func (b *Block) Get(id hdr.ID) (value string, ok bool) {
	if i := b.Index(id); i >= 0 {
		return b.Fields[i].Value, true
	}
	return "", false
}

// GetName returns the value of the first field with this lower-case name. The
// value is valid until Reset.
func (b *Block) GetName(name string) (value string, ok bool) {
	if id := hdr.Lookup(name); id != hdr.Unknown {
		return b.Get(id)
	}
	for i := range b.Fields {
		if f := &b.Fields[i]; f.ID == hdr.Unknown && f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

// Append adds a field whose strings outlive the block.
func (b *Block) Append(f Field) { b.Fields = append(b.Fields, f) }

// AppendCopy adds a field whose strings are copied into the arena. Its value
// counts as unique: it is not indexed.
func (b *Block) AppendCopy(name, value string) {
	f := Field{Name: name, Value: value, flag: flagArenaName}
	f.resolve()
	if f.flag&flagArenaName != 0 {
		f.Name = b.copyString(name)
	}
	if f.static == 0 {
		f.flag |= flagArenaValue
		f.Value = b.copyString(value)
	} else {
		f.Value = staticTable[f.static].Value
	}
	b.Fields = append(b.Fields, f)
}

// CopyFrom makes b a copy of src that stays valid when src is reset. What b
// held before is gone; src must be another block. Strings outside of src's arena, which outlive src by
// the rule of Append, are shared.
func (b *Block) CopyFrom(src *Block) {
	b.Reset()
	b.Fields = append(b.Fields, src.Fields...)
	for i := range b.Fields {
		f := &b.Fields[i]
		if f.flag&flagArenaName != 0 {
			f.Name = b.copyString(f.Name)
		}
		if f.flag&flagArenaValue != 0 {
			f.Value = b.copyString(f.Value)
		}
	}
}

func (b *Block) copyString(s string) string {
	n := copy(b.arena.room(len(s), b.pieceSize()), s)
	b.used += n
	return b.arena.take(n)
}

func (b *Block) pieceSize() int { return max(pieceSize, b.want) }

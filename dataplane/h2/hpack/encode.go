package hpack

import "github.com/sluice-proxy/sluice/dataplane/h2/hdr"

// maxEncoderTable bounds the encoder's table, whatever the peer allows: more
// costs memory on each connection and finds little.
const maxEncoderTable = 4096

// Encoder encodes the header blocks sent to one peer, in their order. Each
// block starts with Begin.
type Encoder struct {
	table table

	// values and names find entries by their hashes: insertion number, two
	// places for a value, one for a name. A stale or foreign number is
	// recognised by comparing the entry, so collisions cost compression only.
	values []uint32
	names  []uint32

	// pending is set when SetMaxTable changed the size since the last Begin;
	// low is the lowest size since then.
	pending bool
	low     uint32
	want    uint32
}

// NewEncoder returns an encoder for a new connection.
func NewEncoder() *Encoder {
	return &Encoder{table: table{max: DefaultTableSize}}
}

// SetMaxTable takes the peer's SETTINGS_HEADER_TABLE_SIZE. The table's size is
// n, but at most 4096. The next Begin tells the peer.
func (e *Encoder) SetMaxTable(n uint32) {
	n = min(n, maxEncoderTable)
	if !e.pending {
		if n == e.table.max {
			return
		}
		e.pending, e.low = true, n
	}
	e.low = min(e.low, n)
	e.want = n
}

// Begin starts a block: it appends the pending table size updates to dst, the
// lowest size first if the size went down and up (RFC 7541 section 4.2).
func (e *Encoder) Begin(dst []byte) []byte {
	if !e.pending {
		return dst
	}
	e.pending = false
	if e.low < e.want {
		dst = appendInt(dst, 0x20, 0x1f, e.low)
		e.table.resize(e.low)
	}
	e.table.resize(e.want)
	return appendInt(dst, 0x20, 0x1f, e.want)
}

// AppendList appends the encoding of fields in their order, as Append does, but
// without a call for those that are in a table already.
func (e *Encoder) AppendList(dst []byte, list []Field) []byte {
	for i := range list {
		f := &list[i]
		if f.flag&(flagRepeats|flagNever) != flagRepeats || f.hash == 0 {
			dst = e.Append(dst, f)
			continue
		}
		if f.static != 0 {
			if s := &staticTable[f.static]; s.ID == f.ID && s.Value == f.Value {
				dst = append(dst, 0x80|f.static)
				continue
			}
		}
		t := &e.table
		if len(e.values) > 0 && len(t.ring) > 0 {
			number := e.values[f.hash&uint32(len(e.values)-1)]
			if age := t.inserted - number; age < uint32(t.n) && age < 0x7f-staticLen-1 {
				if x := &t.ring[(number-1)&uint32(len(t.ring)-1)]; x.hash == f.hash && same(x, f) {
					dst = append(dst, 0x80|byte(staticLen+1+age))
					continue
				}
			}
		}
		dst = e.Append(dst, f)
	}
	return dst
}

// Append appends the encoding of one field to dst. It keeps no string of f.
func (e *Encoder) Append(dst []byte, f *Field) []byte {
	if f.nameHash == 0 {
		// Not from a constructor.
		g := Field{Name: f.Name, Value: f.Value, flag: f.flag}
		g.resolve()
		f = &g
	}
	if f.flag&flagNever != 0 {
		return appendLiteral(dst, 0x10, 0x0f, e.nameIndex(f), f)
	}
	if s := &staticTable[f.static]; f.static != 0 && s.Value == f.Value && s.ID == f.ID {
		return append(dst, 0x80|f.static)
	}
	if f.flag&flagRepeats == 0 {
		return appendLiteral(dst, 0, 0x0f, e.nameIndex(f), f)
	}
	hash := f.hash
	if hash == 0 {
		hash = hashField(f.nameHash, f.Value)
	}
	i, free := e.find(hash, f)
	if i != 0 {
		if i < 0x7f {
			return append(dst, 0x80|byte(i))
		}
		return appendLongInt(dst, 0xff, i-0x7f)
	}
	name := e.nameIndex(f)
	if !free || f.Size() > int(e.table.max/2) {
		return appendLiteral(dst, 0, 0x0f, name, f)
	}
	dst = appendLiteral(dst, 0x40, 0x3f, name, f)
	e.insert(hash, f)
	return dst
}

// find returns the index of a field in the dynamic table, or 0. Then free tells
// whether one of its two places in values is not held by a live entry.
func (e *Encoder) find(hash uint32, f *Field) (index uint32, free bool) {
	t := &e.table
	ring, values, live := t.ring, e.values, uint32(t.n)
	if len(values) == 0 || len(ring) == 0 {
		return 0, true
	}
	mask := uint32(len(values) - 1)
	number := values[hash&mask]
	first := t.inserted - number
	if first < live {
		if x := &ring[(number-1)&uint32(len(ring)-1)]; x.hash == hash && same(x, f) {
			return staticLen + 1 + first, false
		}
	}
	number = values[hash>>16&mask]
	second := t.inserted - number
	if second < live {
		if x := &ring[(number-1)&uint32(len(ring)-1)]; x.hash == hash && same(x, f) {
			return staticLen + 1 + second, false
		}
	}
	return 0, first >= live || second >= live
}

// same tells whether the entry x holds the field f. Equal IDs say that known
// names are equal.
func same(x, f *Field) bool {
	return x.ID == f.ID && (x.ID != hdr.Unknown || x.Name == f.Name) && x.Value == f.Value
}

// nameIndex returns an index whose name is f's, or 0.
func (e *Encoder) nameIndex(f *Field) uint32 {
	if f.ID != hdr.Unknown && f.ID <= hdr.LastStatic {
		return uint32(staticFirst[f.ID])
	}
	if len(e.names) == 0 {
		return 0
	}
	age := e.table.inserted - e.names[f.nameHash&uint32(len(e.names)-1)]
	if age >= uint32(e.table.n) {
		return 0
	}
	if x := e.table.at(age); x.nameHash == f.nameHash && x.Name == f.Name {
		return staticLen + 1 + age
	}
	return 0
}

// insert adds f to the table, which owns copies of its strings.
func (e *Encoder) insert(hash uint32, f *Field) {
	t := &e.table
	if !t.fits(f.Size()) {
		return
	}
	x := Field{Name: f.Name, hash: hash, nameHash: f.nameHash, ID: f.ID}
	if f.ID == hdr.Unknown {
		x.Name = t.own(f.Name)
	}
	x.Value = t.own(f.Value)
	if t.push(&x) {
		e.reindex()
		return
	}
	e.index(t.inserted, &x)
}

// reindex makes values and names fit a ring that has grown, and enters all
// entries, the oldest first.
func (e *Encoder) reindex() {
	t := &e.table
	e.values = make([]uint32, 4*len(t.ring))
	e.names = make([]uint32, 2*len(t.ring))
	for age := uint32(t.n); age > 0; age-- {
		e.index(t.inserted-(age-1), t.at(age-1))
	}
}

// index enters an entry with its insertion number. It takes the free one of
// its two places, else the second; the newest entry of a name holds the name.
func (e *Encoder) index(number uint32, x *Field) {
	mask := uint32(len(e.values) - 1)
	at := x.hash & mask
	if e.table.inserted-e.values[at] < uint32(e.table.n) {
		at = x.hash >> 16 & mask
	}
	e.values[at] = number
	e.names[x.nameHash&uint32(len(e.names)-1)] = number
}

// appendLiteral appends a literal field of some kind; name is the index of its
// name, or 0.
func appendLiteral(dst []byte, kind, mask byte, name uint32, f *Field) []byte {
	dst = appendInt(dst, kind, mask, name)
	if name == 0 {
		dst = appendInt(dst, 0, 0x7f, uint32(len(f.Name)))
		dst = append(dst, f.Name...)
	}
	dst = appendInt(dst, 0, 0x7f, uint32(len(f.Value)))
	return append(dst, f.Value...)
}

package hpack

import (
	"unsafe"

	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// Limits bound one header list. Zero means no limit.
type Limits struct {
	Bytes  int // as RFC 9113 section 6.5.2 counts them: 32 more for each field
	Fields int
}

// Decoder decodes the header blocks that one peer sends, in their order.
type Decoder struct {
	// Check, if not nil, is called once for each literal; what it says stays
	// with the table's entry, so that indexed fields need no other look. Fields
	// of the static table count as checked.
	Check func(f *Field) bool

	table table
	limit uint32 // of table size updates: our acknowledged setting

	// reduced is set if limit fell below the table's size: the next block must
	// start with an update to at most low, the lowest limit since the last one
	// (RFC 7541 section 4.2).
	reduced bool
	low     uint32
}

// NewDecoder returns a decoder whose table has a size of maxTable octets, which
// is also the limit of updates. In HTTP/2 that is DefaultTableSize for every new
// connection; another value of our SETTINGS_HEADER_TABLE_SIZE counts only from
// the peer's acknowledgement, by SetMaxTable.
func NewDecoder(maxTable uint32) *Decoder {
	return &Decoder{table: table{max: maxTable}, limit: maxTable}
}

// SetMaxTable changes the limit of table size updates after the peer has
// acknowledged our setting. If the table is larger, the peer must start its next
// block with an update.
func (d *Decoder) SetMaxTable(n uint32) {
	d.limit = n
	if d.reduced {
		d.low = min(d.low, n)
	} else if n < d.table.max {
		d.reduced, d.low = true, n
	}
}

// Decode decodes the whole block p and appends its fields to b. It returns
// ErrTooLarge if b would exceed lim: then b holds the fields before the one that
// was too much, and the table is in step all the same. Any other error matches
// ErrCompression and ends the connection. p is not kept.
func (d *Decoder) Decode(p []byte, b *Block, lim Limits) error {
	var err error
	if d.reduced || len(p) > 0 && p[0]&0xe0 == 0x20 {
		if p, err = d.updates(p); err != nil {
			return err
		}
	}
	w := writer{b: b, bytes: lim.Bytes, fields: lim.Fields}
	if w.bytes <= 0 {
		w.bytes = maxInt
	}
	if w.fields <= 0 {
		w.fields = maxInt
	}
	if b.Fields == nil {
		b.Fields = make([]Field, 0, fewFields)
	}
	if len(b.Fields) > 0 {
		w.bytes -= b.Size()
		w.fields -= len(b.Fields)
	}
	for len(p) > 0 {
		switch c := p[0]; {
		case c > 0x80 && c < 0xff: // an index of one octet: most fields
			var e *Field
			if i := uint32(c & 0x7f); i <= staticLen {
				e = &staticTable[i]
			} else if i -= staticLen + 1; i < uint32(d.table.n) {
				if e = d.table.at(i); e.hash == 0 {
					e.repeat()
				}
			} else {
				return errIndex
			}
			p = p[1:]
			b.Fields = append(b.Fields, *e)
			w.done(e.Size())
		case c >= 0x80:
			p, err = d.indexed(p, &w)
		case c >= 0x40:
			p, err = d.inserted(p, &w)
		case c >= 0x20:
			return errUpdateLate
		default:
			p, err = d.literal(p, &w)
		}
		if err != nil {
			return err
		}
	}
	if w.over {
		return ErrTooLarge
	}
	return nil
}

const maxInt = int(^uint(0) >> 1)

// writer appends fields to a Block until a limit is met.
type writer struct {
	b             *Block
	bytes, fields int // left
	over          bool
}

// next appends an empty field to be filled in place. Each is followed by done,
// unless the block is in error.
func (w *writer) next() *Field {
	w.b.Fields = append(w.b.Fields, Field{})
	return &w.b.Fields[len(w.b.Fields)-1]
}

// done charges the last field, of this size, and takes it away again if it is
// over a limit. What is left only falls, so once a field was refused all are.
func (w *writer) done(size int) {
	w.bytes -= size
	w.fields--
	if w.bytes < 0 || w.fields < 0 {
		w.over = true
		w.b.Fields = w.b.Fields[:len(w.b.Fields)-1]
	}
}

// updates reads the table size updates at the start of a block: one, or two
// if the size went down and up again (RFC 7541 sections 4.2 and 6.3).
func (d *Decoder) updates(p []byte) ([]byte, error) {
	for n := 0; len(p) > 0 && p[0]&0xe0 == 0x20; n++ {
		if n == 2 {
			return nil, errUpdateMany
		}
		v, rest, err := readInt(p, 0x1f)
		if err != nil {
			return nil, err
		}
		if v > d.limit {
			return nil, errUpdateTooLarge
		}
		if d.reduced {
			if v > d.low {
				return nil, errUpdateMissing
			}
			d.reduced = false
		}
		d.table.resize(v)
		p = rest
	}
	if d.reduced && len(p) > 0 {
		return nil, errUpdateMissing
	}
	return p, nil
}

// entry returns the entry of an index (RFC 7541 section 2.3.3).
func (d *Decoder) entry(i uint32) (*Field, error) {
	if i-1 < staticLen {
		return &staticTable[i], nil
	}
	if i -= staticLen + 1; i < uint32(d.table.n) {
		return d.table.at(i), nil
	}
	return nil, errIndex
}

// indexed reads an indexed field (RFC 7541 section 6.1).
func (d *Decoder) indexed(p []byte, w *writer) ([]byte, error) {
	i, p, err := readInt(p, 0x7f)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		return nil, errIndex
	}
	e, err := d.entry(i)
	if err != nil {
		return nil, err
	}
	if e.hash == 0 {
		e.repeat()
	}
	w.b.Fields = append(w.b.Fields, *e)
	w.done(e.Size())
	return p, nil
}

// repeat marks an entry that is met for the second time: from now on its value
// counts as repeating.
func (f *Field) repeat() {
	f.hash = hashField(f.nameHash, f.Value)
	f.flag |= flagRepeats
}

// inserted reads a literal field with incremental indexing (RFC 7541 section
// 6.2.1). The entry owns its strings, and the block points to them.
func (d *Decoder) inserted(p []byte, w *writer) ([]byte, error) {
	t := &d.table
	f := w.next()
	p, err := d.name(p, 0x3f, f, &t.strings, t.pieceSize())
	if err != nil {
		return nil, err
	}
	if f.Value, p, err = readString(p, &t.strings, t.pieceSize()); err != nil {
		return nil, err
	}
	d.finish(f)
	f.flag &^= flagArena
	if t.fits(f.Size()) {
		t.push(f)
	}
	w.done(f.Size())
	return p, nil
}

// literal reads a literal field without indexing or never indexed (RFC 7541
// sections 6.2.2 and 6.2.3). Its strings go into the block's arena.
func (d *Decoder) literal(p []byte, w *writer) ([]byte, error) {
	b := w.b
	f := w.next()
	if p[0]&0x10 != 0 {
		f.flag = flagNever
	}
	p, err := d.name(p, 0x0f, f, &b.arena, b.pieceSize())
	if err != nil {
		return nil, err
	}
	if f.Value, p, err = readString(p, &b.arena, b.pieceSize()); err != nil {
		return nil, err
	}
	b.used += len(f.Value)
	if f.flag&flagArenaName != 0 {
		b.used += len(f.Name)
	}
	d.finish(f)
	w.done(f.Size())
	return p, nil
}

// name reads a literal's name, which is an index or a string. It keeps a string
// in a, unless the name has a constant.
func (d *Decoder) name(p []byte, mask byte, f *Field, a *arena, piece int) ([]byte, error) {
	i, p, err := readInt(p, mask)
	if err != nil {
		return nil, err
	}
	if i != 0 {
		e, err := d.entry(i)
		if err != nil {
			return nil, err
		}
		f.Name, f.ID, f.nameHash = e.Name, e.ID, e.nameHash
		return p, nil
	}
	src, p, huffman, err := readLiteral(p)
	if err != nil {
		return nil, err
	}
	raw := src
	if huffman {
		raw = a.room(huffmanRoom(len(src)), piece)
		n, err := huffmanDecode(raw, src)
		if err != nil {
			return nil, err
		}
		raw = raw[:n]
	}
	if f.ID = hdr.Lookup(unsafe.String(unsafe.SliceData(raw), len(raw))); f.ID != hdr.Unknown {
		f.Name = f.ID.String()
		f.nameHash = nameHashes[f.ID]
		return p, nil
	}
	if !huffman {
		copy(a.room(len(src), piece), src)
	}
	f.Name = a.take(len(raw))
	f.nameHash = hashName(f.Name)
	f.flag |= flagArenaName
	return p, nil
}

// finish sets what depends on the value, when name and value are there.
func (d *Decoder) finish(f *Field) {
	f.flag |= flagArenaValue
	if d.Check != nil && d.Check(f) {
		f.flag |= flagChecked
	}
	switch id := f.ID; {
	case id == hdr.Unknown:
	case id <= hdr.Status:
		f.static = staticIndex(id, f.Value)
	case isSecret(id, len(f.Value)):
		f.flag |= flagNever
	}
}

// readString reads a string literal and keeps it in a.
func readString(p []byte, a *arena, piece int) (s string, rest []byte, err error) {
	src, p, huffman, err := readLiteral(p)
	if err != nil {
		return "", nil, err
	}
	if !huffman {
		copy(a.room(len(src), piece), src)
		return a.take(len(src)), p, nil
	}
	n, err := huffmanDecode(a.room(huffmanRoom(len(src)), piece), src)
	if err != nil {
		return "", nil, err
	}
	return a.take(n), p, nil
}

// readLiteral reads a string literal as it is in the block (RFC 7541 section
// 5.2).
func readLiteral(p []byte) (src, rest []byte, huffman bool, err error) {
	if len(p) == 0 {
		return nil, nil, false, errTruncated
	}
	huffman = p[0]&0x80 != 0
	n := uint32(p[0] & 0x7f)
	if p = p[1:]; n == 0x7f {
		if n, p, err = readLongInt(p, 0x7f); err != nil {
			return nil, nil, false, err
		}
	}
	if uint64(n) > uint64(len(p)) {
		return nil, nil, false, errTruncated
	}
	return p[:n], p[n:], huffman, nil
}

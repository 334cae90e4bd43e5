package hpack

import "github.com/sluice-proxy/sluice/dataplane/h2/hdr"

// Limits bound one header list. Zero means no limit.
type Limits struct {
	Bytes  int // as RFC 9113 section 6.5.2 counts them: 32 more for each field
	Fields int
}

// Decoder decodes the header blocks that one peer sends, in their order.
type Decoder struct {
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
	p, err := d.updates(p)
	if err != nil {
		return err
	}
	w := writer{b: b, bytes: lim.Bytes, fields: lim.Fields}
	if w.bytes <= 0 {
		w.bytes = maxInt
	}
	if w.fields <= 0 {
		w.fields = maxInt
	}
	w.bytes -= b.Size()
	w.fields -= len(b.Fields)
	for len(p) > 0 {
		switch c := p[0]; {
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

// accept charges a field of this size. Once a field was refused, all are.
func (w *writer) accept(size int) bool {
	w.bytes -= size
	w.fields--
	if w.bytes < 0 || w.fields < 0 {
		w.over = true
	}
	return !w.over
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
		// The second time a value is met: from now on it counts as repeating.
		e.hash = hashField(e.nameHash, e.Value)
		e.flag |= flagRepeats
	}
	if w.accept(e.Size()) {
		w.b.Fields = append(w.b.Fields, *e)
	}
	return p, nil
}

// inserted reads a literal field with incremental indexing (RFC 7541 section
// 6.2.1). The entry owns its strings, and the block points to them.
func (d *Decoder) inserted(p []byte, w *writer) ([]byte, error) {
	var f Field
	p, name, err := d.name(p, 0x3f, &f)
	if err != nil {
		return nil, err
	}
	value, p, err := readString(p)
	if err != nil {
		return nil, err
	}
	t := &d.table
	if name.b != nil {
		if f.Name, err = name.decode(t); err != nil {
			return nil, err
		}
		intern(&f)
	}
	if f.Value, err = value.decode(t); err != nil {
		return nil, err
	}
	finish(&f)
	if t.fits(f.Size()) {
		t.push(f)
	}
	if w.accept(f.Size()) {
		w.b.Fields = append(w.b.Fields, f)
	}
	return p, nil
}

// literal reads a literal field without indexing or never indexed (RFC 7541
// sections 6.2.2 and 6.2.3). Its strings go into the block's arena.
func (d *Decoder) literal(p []byte, w *writer) ([]byte, error) {
	var f Field
	if p[0]&0x10 != 0 {
		f.flag = flagNever
	}
	p, name, err := d.name(p, 0x0f, &f)
	if err != nil {
		return nil, err
	}
	value, p, err := readString(p)
	if err != nil {
		return nil, err
	}
	if name.b != nil {
		f.flag |= flagArenaName
		if f.Name, err = name.decode(w.b); err != nil {
			return nil, err
		}
		intern(&f)
	}
	f.flag |= flagArenaValue
	if f.Value, err = value.decode(w.b); err != nil {
		return nil, err
	}
	finish(&f)
	if w.accept(f.Size()) {
		w.b.Fields = append(w.b.Fields, f)
	}
	return p, nil
}

// name reads the index of a literal's name, or the name itself, which is
// returned undecoded.
func (d *Decoder) name(p []byte, mask byte, f *Field) (rest []byte, name text, err error) {
	i, p, err := readInt(p, mask)
	if err != nil {
		return nil, text{}, err
	}
	if i == 0 {
		name, p, err = readString(p)
		return p, name, err
	}
	e, err := d.entry(i)
	if err != nil {
		return nil, text{}, err
	}
	f.Name, f.ID, f.nameHash = e.Name, e.ID, e.nameHash
	return p, text{}, nil
}

// intern replaces a name by its constant if it has one.
func intern(f *Field) {
	if f.ID = hdr.Lookup(f.Name); f.ID != hdr.Unknown {
		f.Name = f.ID.String()
		f.nameHash = nameHashes[f.ID]
		f.flag &^= flagArenaName
		return
	}
	f.nameHash = hashName(f.Name)
}

// finish sets what depends on the value.
func finish(f *Field) {
	if isSecret(f.ID, len(f.Value)) {
		f.flag |= flagNever
	}
	if f.ID <= hdr.Status && f.ID != hdr.Unknown {
		f.static = staticIndex(f.ID, f.Value)
	}
}

// text is a string literal as it is in the block; b is nil if there is none.
type text struct {
	b       []byte
	huffman bool
}

// readString reads a string literal (RFC 7541 section 5.2).
func readString(p []byte) (s text, rest []byte, err error) {
	if len(p) == 0 {
		return text{}, nil, errTruncated
	}
	s.huffman = p[0]&0x80 != 0
	n, p, err := readInt(p, 0x7f)
	if err != nil {
		return text{}, nil, err
	}
	if uint64(n) > uint64(len(p)) {
		return text{}, nil, errTruncated
	}
	s.b = p[:n]
	return s, p[n:], nil
}

// memory is where strings go: a Block's arena or a table's.
type memory interface {
	room(n int) []byte
	take(n int) string
}

// decode makes a string in m.
func (s text) decode(m memory) (string, error) {
	if !s.huffman {
		n := copy(m.room(len(s.b)), s.b)
		return m.take(n), nil
	}
	n, err := huffmanDecode(m.room(huffmanMax(len(s.b))), s.b)
	if err != nil {
		return "", err
	}
	return m.take(n), nil
}

package hpack

import (
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// Field is one header field. To change one, replace all of it with a field
// from a constructor: the unexported part describes Name and Value. A Field
// with only Name and Value set is correct too, but slower to encode and never
// indexed.
type Field struct {
	Name, Value string

	hash     uint32 // of name and value; 0: not computed
	nameHash uint32 // of Name; 0: not computed
	ID       hdr.ID // hdr.Unknown for names without a constant
	flag     uint8
	static   uint8 // index of the whole field in the static table, or 0
}

// The flags of a Field.
const (
	flagRepeats    = 1 << iota // worth an entry in the encoder's table
	flagNever                  // never-indexed literal
	flagArenaName              // Name is in the arena of some Block
	flagArenaValue             // Value is in the arena of some Block
	flagChecked                // Decoder.Check said yes

	flagArena = flagArenaName | flagArenaValue
)

// fieldOverhead is what a field costs beyond its octets (RFC 7541 section 4.1,
// RFC 9113 section 6.5.2).
const fieldOverhead = 32

// shortSecret is the length below which a credential could be guessed with the
// help of the compression (RFC 7541 section 7.1).
const shortSecret = 20

// NewField returns a field whose value will repeat, as configured values do:
// the encoder indexes it. Exceptions are ":path" and short credentials.
// The strings must live as long as the field.
func NewField(name, value string) Field {
	f := NewUniqueField(name, value)
	f.hash = hashField(f.nameHash, value)
	if f.ID != hdr.Path || f.static != 0 {
		f.flag |= flagRepeats
	}
	return f
}

// NewUniqueField returns a field whose value is not expected again, such as an
// id or a time: the encoder does not index it. The strings must live as long as
// the field.
func NewUniqueField(name, value string) Field {
	f := Field{Name: name, Value: value}
	f.resolve()
	return f
}

// resolve computes from Name and Value everything but the value's hash. A name
// with a constant is replaced by it.
func (f *Field) resolve() {
	if f.ID = hdr.Lookup(f.Name); f.ID != hdr.Unknown {
		f.Name = f.ID.String()
		f.nameHash = nameHashes[f.ID]
		f.flag &^= flagArenaName
		f.static = staticIndex(f.ID, f.Value)
	} else {
		f.nameHash = hashName(f.Name)
	}
	if isSecret(f.ID, len(f.Value)) {
		f.flag |= flagNever
	}
}

// isSecret tells whether a value of n octets must never enter a table. An empty
// one is in the static table and tells nothing.
func isSecret(id hdr.ID, n int) bool {
	return (id == hdr.Authorization || id == hdr.Cookie) && n > 0 && n < shortSecret
}

// Checked tells whether the field was decoded and has passed Decoder.Check.
func (f *Field) Checked() bool { return f.flag&flagChecked != 0 }

// Replace gives a decoded field another value, which the encoder does not index,
// as it does the old one if that came never-indexed.
func (f *Field) Replace(value string) {
	never := f.flag & flagNever
	*f = NewUniqueField(f.Name, value)
	f.flag |= never
}

// Trim cuts blanks off both ends of the value of a decoded field, wherever its
// strings live. Such values are rare: the encoder does not index them.
func (f *Field) Trim() {
	v := strings.Trim(f.Value, " \t")
	if len(v) == len(f.Value) {
		return
	}
	f.Value, f.hash = v, 0
	f.flag &^= flagRepeats
	if isSecret(f.ID, len(v)) {
		f.flag |= flagNever
	}
}

// Size is the field's share of a header list's size (RFC 9113 section 6.5.2).
func (f *Field) Size() int { return len(f.Name) + len(f.Value) + fieldOverhead }

package hpack

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

// pair is a field as tests compare it.
type pair struct {
	Name, Value string
	Never       bool
}

func pairs(b *Block) []pair {
	var out []pair
	for i := range b.Fields {
		f := &b.Fields[i]
		out = append(out, pair{strings.Clone(f.Name), strings.Clone(f.Value), f.NeverIndexed()})
	}
	return out
}

func xpairs(fs []xhpack.HeaderField) []pair {
	var out []pair
	for _, f := range fs {
		out = append(out, pair{f.Name, f.Value, f.Sensitive})
	}
	return out
}

// unhex reads hexadecimal digits with any blanks between them.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// encode makes a block of fields.
func encode(e *Encoder, fs ...Field) []byte {
	p := e.Begin(nil)
	for i := range fs {
		p = e.Append(p, &fs[i])
	}
	return p
}

// relay makes a block of the fields of b.
func relay(e *Encoder, b *Block) []byte { return e.AppendList(e.Begin(nil), b.Fields) }

// xencode makes a block with x/net's encoder, whose output goes to buf.
func xencode(t testing.TB, e *xhpack.Encoder, buf *bytes.Buffer, fs []pair) []byte {
	t.Helper()
	buf.Reset()
	for _, f := range fs {
		if err := e.WriteField(xhpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: f.Never}); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.Clone(buf.Bytes())
}

// checkTable checks what a table says of itself.
func checkTable(t testing.TB, tbl *table) {
	t.Helper()
	var size uint32
	for i := range uint32(tbl.n) {
		size += uint32(tbl.at(i).Size())
	}
	if size != tbl.size || size > tbl.max {
		t.Fatalf("table of %d entries: size %d, recorded %d, maximum %d", tbl.n, size, tbl.size, tbl.max)
	}
}

// tableText writes a dynamic table as RFC 7541 appendix C does, without the
// sizes of entries.
func tableText(tbl *table) string {
	var sb strings.Builder
	for i := range uint32(tbl.n) {
		sb.WriteString(tbl.at(i).Name + ": " + tbl.at(i).Value + "\n")
	}
	return sb.String()
}

// xdecode decodes a block with x/net's decoder, which refuses the second of two
// table size updates in a row unless its table is empty: each is given to it as
// a block of its own.
func xdecode(d *xhpack.Decoder, block []byte) ([]xhpack.HeaderField, error) {
	for len(block) > 0 && block[0]&0xe0 == 0x20 {
		_, rest, err := readInt(block, 0x1f)
		if err != nil {
			return nil, err
		}
		if _, err := d.DecodeFull(block[:len(block)-len(rest)]); err != nil {
			return nil, err
		}
		block = rest
	}
	return d.DecodeFull(block)
}

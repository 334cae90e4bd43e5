package hpack

import (
	"testing"

	xhpack "golang.org/x/net/http2/hpack"

	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// Every index of the static table means the same to another implementation.
func TestStaticTable(t *testing.T) {
	d := NewDecoder(DefaultTableSize)
	xd := xhpack.NewDecoder(DefaultTableSize, nil)
	for i := 1; i <= staticLen; i++ {
		p := []byte{0x80 | byte(i)}
		want, err := xd.DecodeFull(p)
		if err != nil {
			t.Fatal(err)
		}
		var b Block
		if err := d.Decode(p, &b, Limits{}); err != nil {
			t.Fatal(err)
		}
		f := b.Fields[0]
		if f.Name != want[0].Name || f.Value != want[0].Value {
			t.Errorf("index %d is %s: %s, want %v", i, f.Name, f.Value, want[0])
		}
		if f.ID.String() != f.Name || f.ID == hdr.Unknown {
			t.Errorf("index %d: ID is %d (%q), name is %q", i, f.ID, f.ID, f.Name)
		}
		if n := NewUniqueField(f.Name, f.Value); !n.NeverIndexed() && string(encode(NewEncoder(), n)) != string(p) {
			t.Errorf("index %d: %s: %s is encoded as %x", i, f.Name, f.Value, encode(NewEncoder(), n))
		}
	}
}

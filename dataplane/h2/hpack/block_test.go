package hpack

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

func TestBlockGet(t *testing.T) {
	var b Block
	b.AppendCopy(":method", "POST")
	b.AppendCopy("x-own", "1")
	b.Append(NewField("grpc-status", "5"))
	b.AppendCopy("x-own", "2")
	b.AppendCopy("grpc-status", "6")
	for _, tc := range []struct {
		name, want string
		index      int
	}{
		{":method", "POST", 0}, {"grpc-status", "5", 2}, {"x-own", "1", -1}, {":path", "", -1}, {"x-other", "", -1}, {"", "", -1},
	} {
		got, ok := b.GetName(tc.name)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("GetName(%q) = %q, %v", tc.name, got, ok)
		}
		id := hdr.Lookup(tc.name)
		if id == hdr.Unknown {
			continue
		}
		if got, ok := b.Get(id); got != tc.want || ok != (tc.want != "") {
			t.Errorf("Get(%s) = %q, %v", tc.name, got, ok)
		}
		if got := b.Index(id); got != tc.index {
			t.Errorf("Index(%s) = %d, want %d", tc.name, got, tc.index)
		}
	}
	if got, want := b.Size(), 7+4+5+1+11+1+5+1+11+1+5*32; got != want {
		t.Errorf("Size() = %d, want %d", got, want)
	}
	b.Reset()
	if b.Size() != 0 || len(b.Fields) != 0 {
		t.Errorf("%d fields after Reset", len(b.Fields))
	}
}

// Strings stay as they are while a block grows by many pieces of arena.
func TestBlockStringsStay(t *testing.T) {
	var b Block
	for round := range 3 {
		b.Reset()
		var want []pair
		for i := range 300 {
			p := pair{fmt.Sprintf("x-%d-%d", round, i), strings.Repeat(string(rune('a'+i%26)), i%90), false}
			want = append(want, p)
			b.AppendCopy(p.Name, p.Value)
		}
		if diff := cmp.Diff(want, pairs(&b)); diff != "" {
			t.Fatal(diff)
		}
	}
}

// decoded returns a block with fields of every origin: constants, a table, an
// arena and an owner outside.
func decoded(t testing.TB) *Block {
	t.Helper()
	var b Block
	block := unhex(t, "83 84 40 03 782d61 03 616161 be 00 03 782d62 03 626262 0f 0d 02 3130 10 03 782d63 03 636363")
	if err := NewDecoder(DefaultTableSize).Decode(block, &b, Limits{}); err != nil {
		t.Fatal(err)
	}
	b.Append(NewField("x-d", "ddd"))
	b.AppendCopy("x-e", "eee")
	b.AppendCopy(":status", "200")
	return &b
}

// A copy says the same, and goes on saying it when its source holds another
// block; and it is encoded like its source.
func TestBlockCopyFrom(t *testing.T) {
	src := decoded(t)
	want := pairs(src)
	var dst Block
	dst.AppendCopy("x-old", "old")
	dst.CopyFrom(src)
	bytes := relay(NewEncoder(), src)

	src.Reset()
	for range 20 {
		src.AppendCopy("x-zzzzzzzzzz", strings.Repeat("z", 20))
	}
	if diff := cmp.Diff(want, pairs(&dst)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(bytes, relay(NewEncoder(), &dst)); diff != "" {
		t.Error(diff)
	}
	for i := range dst.Fields {
		if f := &dst.Fields[i]; f.ID != hdr.Lookup(f.Name) {
			t.Errorf("%s: ID is %d", f.Name, f.ID)
		}
	}

	// A copy of the copy needs its strings copied again.
	var third Block
	third.CopyFrom(&dst)
	dst.Reset()
	for range 20 {
		dst.AppendCopy("x-yyyyyyyyyy", strings.Repeat("y", 20))
	}
	if diff := cmp.Diff(want, pairs(&third)); diff != "" {
		t.Error(diff)
	}
}

// A copy shares the strings of tables and owners outside, and no others.
func TestBlockCopyFromShares(t *testing.T) {
	src := decoded(t)
	var dst Block
	dst.CopyFrom(src)
	want := map[string]bool{"x-a": true, "x-b": false, "x-c": false, "x-d": true, "x-e": false}
	for i := range src.Fields {
		s, d := &src.Fields[i], &dst.Fields[i]
		share, ok := want[s.Name]
		if !ok {
			continue
		}
		if got := unsafe.StringData(s.Value) == unsafe.StringData(d.Value); got != share {
			t.Errorf("%s: value is shared: %v, want %v", s.Name, got, share)
		}
		if got := unsafe.StringData(s.Name) == unsafe.StringData(d.Name); got != share {
			t.Errorf("%s: name is shared: %v, want %v", s.Name, got, share)
		}
	}
}

// Strings that a table owns outlive their entry.
func TestTableStringsOutliveEviction(t *testing.T) {
	d := NewDecoder(DefaultTableSize)
	var first, b Block
	if err := d.Decode(unhex(t, "40 03 782d61 03 616161"), &first, Limits{}); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		b.Reset()
		p := unhex(t, "40 03 782d62")
		v := fmt.Sprintf("%040d", i)
		if err := d.Decode(append(append(p, byte(len(v))), v...), &b, Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]pair{{"x-a", "aaa", false}}, pairs(&first)); diff != "" {
		t.Error(diff)
	}
}

// What a block keeps over Reset is bounded, whatever it held.
func TestBlockResetIsBounded(t *testing.T) {
	for _, tc := range []struct{ fields, value int }{{0, 60000}, {1, 10}, {10, 100}, {200, 20}, {1, 60000}, {60, 60}, {40, 2000}} {
		var b Block
		for range 3 {
			for i := range tc.fields {
				b.AppendCopy(fmt.Sprintf("x-%d", i), strings.Repeat("v", tc.value))
			}
			b.AppendCopy("via", strings.Repeat("v", tc.value)) // only a value
			b.Reset()
			if n := cap(b.arena.piece); n > keepArena {
				t.Errorf("%+v: keeps an arena of %d", tc, n)
			}
			if n := cap(b.Fields); n > keepFields {
				t.Errorf("%+v: keeps %d fields", tc, n)
			}
			held := 0
			for _, f := range b.Fields[:cap(b.Fields)] {
				held += len(f.Name) + len(f.Value)
			}
			if held > keepArena {
				t.Errorf("%+v: empty fields hold %d octets", tc, held)
			}
		}
	}
}

// After two blocks of a kind the third needs no memory, as long as it is within
// what a block keeps.
func TestBlockSteadyState(t *testing.T) {
	for _, tc := range []struct{ fields, value int }{{10, 10}, {10, 100}, {30, 100}, {3, 1000}, {60, 40}} {
		var b Block
		value := strings.Repeat("v", tc.value)
		fill := func() {
			b.Reset()
			for range tc.fields {
				b.AppendCopy("x-own", value)
			}
		}
		fill()
		fill()
		if n := testing.AllocsPerRun(100, fill); n != 0 {
			t.Errorf("%+v: %v allocations", tc, n)
		}
	}
}

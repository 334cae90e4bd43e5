package hpack

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDecodeErrors(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		want        error
	}{
		{"index 0", "80", errIndex},
		{"index after the tables", "be", errIndex},
		{"large index", "ff ff ff ff 7f", errIndex},
		{"name index after the tables", "7e 00", errIndex},
		{"name index after the tables, not indexed", "0f 2f 00", errIndex},
		{"index without end", "ff", errTruncated},
		{"index with its end missing", "ff 80 80", errTruncated},
		{"no value", "41", errTruncated},
		{"no name", "40", errTruncated},
		{"no value after a name", "40 01 61", errTruncated},
		{"value too short", "41 03 61 61", errTruncated},
		{"name too short", "40 03 61 61", errTruncated},
		{"length without end", "41 7f 80", errTruncated},
		{"length of 2^32-1", "41 7f 80 ff ff ff 0f", errTruncated},
		{"length of 2^32+126", "41 7f ff ff ff ff 0f", errInteger},
		{"index of 2^32", "ff 81 ff ff ff 0f", errInteger},
		{"integer of six octets", "ff 80 80 80 80 80 00", errInteger},
		{"integer of many octets", "ff 80 80 80 80 80 80 80 80 80 80 80 80 00", errInteger},
		{"update of many octets", "3f 80 80 80 80 80 00", errInteger},
		{"update without end", "3f", errTruncated},
		{"value with EOS", "41 84 ff ff ff ff", errHuffman},
		{"name with bad padding", "40 81 00 00", errHuffman},
		{"update to 4097", "3f e2 1f", errUpdateTooLarge},
		{"update after a field", "82 20", errUpdateLate},
		{"update after an update and a field", "20 82 20", errUpdateLate},
		{"three updates", "20 3f e1 1f 20", errUpdateMany},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b Block
			err := NewDecoder(DefaultTableSize).Decode(unhex(t, tc.block), &b, Limits{})
			if !errors.Is(err, tc.want) || !errors.Is(err, ErrCompression) || errors.Is(err, ErrTooLarge) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
		})
	}
}

// An integer may be longer than it needs to be, up to five octets after the
// prefix.
func TestDecodeLongInteger(t *testing.T) {
	var b Block
	if err := NewDecoder(DefaultTableSize).Decode(unhex(t, "41 7f 81 80 80 80 00"+strings.Repeat("61", 128)), &b, Limits{}); err != nil {
		t.Fatal(err)
	}
	if got := b.Fields[0].Value; got != strings.Repeat("a", 128) {
		t.Errorf("got %q", got)
	}
}

// Each step is some acknowledged settings of ours, and a block that starts with
// some updates.
func TestDecodeTableSize(t *testing.T) {
	type sizes = []uint32
	type step struct {
		settings, updates sizes
		want              error
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"none needed at first", []step{{nil, nil, nil}}},
		{"voluntary", []step{{nil, sizes{100}, nil}, {nil, sizes{4096}, nil}, {nil, sizes{0, 4096}, nil}}},
		{"missing after a reduction", []step{{sizes{100}, nil, errUpdateMissing}}},
		{"reduction", []step{{sizes{100}, sizes{100}, nil}, {nil, nil, nil}}},
		{"to less than the reduction", []step{{sizes{100}, sizes{0}, nil}}},
		{"above the reduction", []step{{sizes{100}, sizes{101}, errUpdateTooLarge}}},
		{"reduced to what is in use", []step{{nil, sizes{100}, nil}, {sizes{100}, nil, nil}, {sizes{99}, nil, errUpdateMissing}}},
		{"raised", []step{{sizes{8192}, nil, nil}, {nil, sizes{8192}, nil}, {nil, sizes{8193}, errUpdateTooLarge}}},
		{"raised, and reduced above what is in use", []step{{sizes{8192, 5000}, nil, nil}}},
		{"reduced twice", []step{{sizes{200, 100}, sizes{100}, nil}}},
		{"reduced twice, updated twice", []step{{sizes{200, 100}, sizes{50, 100}, nil}}},
		{"reduced and raised: lowest first", []step{{sizes{100, 4096}, sizes{100, 4096}, nil}}},
		{"reduced and raised: lowest only", []step{{sizes{100, 4096}, sizes{100}, nil}}},
		{"reduced and raised: lowest missing", []step{{sizes{100, 4096}, sizes{4096}, errUpdateMissing}}},
		{"reduced and raised: lowest last", []step{{sizes{100, 4096}, sizes{4096, 100}, errUpdateMissing}}},
		{"reduced and raised: nothing", []step{{sizes{100, 4096}, nil, errUpdateMissing}}},
		{"asked for once", []step{{sizes{100}, sizes{100}, nil}, {sizes{4096}, nil, nil}, {nil, sizes{4096}, nil}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := NewDecoder(DefaultTableSize)
			for i, s := range tc.steps {
				for _, n := range s.settings {
					d.SetMaxTable(n)
				}
				var p []byte
				for _, n := range s.updates {
					p = appendInt(p, 0x20, 0x1f, n)
				}
				var b Block
				if err := d.Decode(append(p, 0x82), &b, Limits{}); !errors.Is(err, s.want) {
					t.Fatalf("step %d: error is %v, want %v", i+1, err, s.want)
				}
				checkTable(t, &d.table)
			}
		})
	}
}

// A block over its limits fills the block up to them, and the table is in step
// with a decoder that has no limits.
func TestDecodeLimits(t *testing.T) {
	// Four fields of 40 octets each: plain, indexed, inserted, never indexed.
	block := unhex(t, "00 01 61 07 31313131313131 40 01 62 07 32323232323232 be 10 01 63 07 33333333333333 40 01 64 00")
	for _, tc := range []struct {
		lim  Limits
		want int
	}{
		{Limits{}, 5}, {Limits{193, 5}, 5}, {Limits{Bytes: 193}, 5}, {Limits{Fields: 5}, 5},
		{Limits{Bytes: 192}, 4}, {Limits{Bytes: 160}, 4}, {Limits{Bytes: 159}, 3}, {Limits{Bytes: 40}, 1}, {Limits{Bytes: 1}, 0},
		{Limits{Fields: 4}, 4}, {Limits{Fields: 1}, 1}, {Limits{160, 2}, 2}, {Limits{80, 4}, 2},
	} {
		free, d := NewDecoder(DefaultTableSize), NewDecoder(DefaultTableSize)
		var all, b Block
		if err := free.Decode(block, &all, Limits{}); err != nil {
			t.Fatal(err)
		}
		var want error
		if tc.want < len(all.Fields) {
			want = ErrTooLarge
		}
		if err := d.Decode(block, &b, tc.lim); !errors.Is(err, want) {
			t.Errorf("%+v: error is %v, want %v", tc.lim, err, want)
		}
		if diff := cmp.Diff(pairs(&all)[:tc.want], pairs(&b), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%+v: %s", tc.lim, diff)
		}
		if diff := cmp.Diff(tableText(&free.table), tableText(&d.table)); diff != "" {
			t.Errorf("%+v: table: %s", tc.lim, diff)
		}
	}
}

// The limits count what the block held before.
func TestDecodeAppends(t *testing.T) {
	d := NewDecoder(DefaultTableSize)
	var b Block
	for i, want := range []error{nil, nil, ErrTooLarge} {
		if err := d.Decode([]byte{0x82}, &b, Limits{Bytes: 2 * 42}); !errors.Is(err, want) {
			t.Errorf("block %d: error is %v, want %v", i+1, err, want)
		}
	}
	if len(b.Fields) != 2 {
		t.Errorf("%d fields", len(b.Fields))
	}
}

// An octet that stands for 4 KiB cannot make a block larger than its limit.
func TestDecodeBomb(t *testing.T) {
	d := NewDecoder(DefaultTableSize)
	value := strings.Repeat("x", 4000)
	p := append(appendInt(unhex(t, "40 01 61"), 0, 0x7f, uint32(len(value))), value...)
	p = append(p, bytes.Repeat([]byte{0xbe}, 60000)...)
	var b Block
	if err := d.Decode(p, &b, Limits{64 << 10, 200}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("error is %v", err)
	}
	if n := b.Size(); n > 64<<10 || len(b.Fields) != 16 {
		t.Errorf("%d fields, %d octets", len(b.Fields), n)
	}
}

// What is never-indexed and what repeats, in all representations.
func TestDecodeFlags(t *testing.T) {
	const secret, long = "Bearer 1", "Bearer 0123456789abcdef"
	for _, tc := range []struct {
		name, value    string
		kind           byte
		again          bool // by index, after it was inserted
		never, repeats bool
	}{
		{name: "x-a", value: "1", kind: 0x40},
		{name: "x-a", value: "1", kind: 0x40, again: true, repeats: true},
		{name: "x-a", value: "1", kind: 0x00},
		{name: "x-a", value: "1", kind: 0x10, never: true},
		{name: ":path", value: "/a", kind: 0x40},
		{name: ":path", value: "/a", kind: 0x40, again: true, repeats: true},
		{name: "authorization", value: secret, kind: 0x40, never: true},
		{name: "authorization", value: secret, kind: 0x40, again: true, never: true, repeats: true},
		{name: "authorization", value: secret, kind: 0x00, never: true},
		{name: "authorization", value: long, kind: 0x40, again: true, repeats: true},
		{name: "authorization", value: long, kind: 0x10, never: true},
		{name: "cookie", value: "a=1", kind: 0x00, never: true},
		{name: "cookie", value: strings.Repeat("c", 19), kind: 0x40, never: true},
		{name: "cookie", value: strings.Repeat("c", 20), kind: 0x40},
		{name: "set-cookie", value: "a=1", kind: 0x40},
	} {
		d := NewDecoder(DefaultTableSize)
		p := append(append([]byte{tc.kind, byte(len(tc.name))}, tc.name...), byte(len(tc.value)))
		p = append(p, tc.value...)
		if tc.again {
			p = append(p, 0xbe)
		}
		var b Block
		if err := d.Decode(p, &b, Limits{}); err != nil {
			t.Fatal(err)
		}
		f := b.Fields[len(b.Fields)-1]
		if f.NeverIndexed() != tc.never || f.Repeats() != tc.repeats {
			t.Errorf("%+v: never %v, repeats %v", tc, f.NeverIndexed(), f.Repeats())
		}
	}
}

// A name may be taken from the entry that its own insertion evicts (RFC 7541
// section 4.4), and an entry larger than the table empties it.
func TestDecodeEviction(t *testing.T) {
	d := NewDecoder(80)
	var b Block
	if err := d.Decode(unhex(t, "40 08 78782d6e616d6531 01 61 7e 01 62"), &b, Limits{}); err != nil {
		t.Fatal(err)
	}
	if got := tableText(&d.table); got != "xx-name1: b\n" || b.Fields[1].Name != "xx-name1" {
		t.Errorf("table %q, fields %v", got, pairs(&b))
	}
	b.Reset()
	if err := d.Decode(unhex(t, "40 01 61 7f 00"+strings.Repeat("62", 127)), &b, Limits{}); err != nil {
		t.Fatal(err)
	}
	if d.table.n != 0 || d.table.size != 0 || len(b.Fields[0].Value) != 127 {
		t.Errorf("table %q, fields %v", tableText(&d.table), pairs(&b))
	}
}

package hpack

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhpack "golang.org/x/net/http2/hpack"

	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

// How one field is sent the first, second and third time.
func TestEncodeField(t *testing.T) {
	never := func(name, value string) Field {
		f := NewField(name, value)
		f.SetNeverIndexed()
		return f
	}
	long := strings.Repeat("v", maxEncoderTable/2)
	for _, tc := range []struct {
		name  string
		f     Field
		first string // the first octet of each block
		then  string
	}{
		{"static", NewField(":method", "POST"), "83", "83"},
		{"static, unique", NewUniqueField(":status", "200"), "88", "88"},
		{"never indexed", never(":method", "POST"), "12", "12"},
		{"never indexed, own name", never("x-a", "1"), "10", "10"},
		{"repeats", NewField("x-a", "1"), "40", "be"},
		{"repeats, static name", NewField("user-agent", "a"), "7a", "be"},
		{"unique", NewUniqueField("x-a", "1"), "00", "00"},
		{"unique, static name", NewUniqueField("via", "1"), "0f", "0f"},
		{"configured path", NewField(":path", "/a"), "04", "04"},
		{"static path", NewField(":path", "/"), "84", "84"},
		{"short authorization", NewField("authorization", "Basic 123"), "1f", "1f"},
		{"long authorization", NewField("authorization", strings.Repeat("t", 20)), "57", "be"},
		{"short cookie", NewUniqueField("cookie", "a=1"), "1f", "1f"},
		{"not from a constructor", Field{Name: "via", Value: "1"}, "0f", "0f"},
		{"secret, not from a constructor", Field{Name: "authorization", Value: "1"}, "1f", "1f"},
		{"half of the table", NewField("x-a", long[fieldOverhead+3:]), "40", "be"},
		{"more than half of the table", NewField("x-a", long[fieldOverhead+2:]), "00", "00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, xd := NewEncoder(), xhpack.NewDecoder(DefaultTableSize, nil)
			for i, want := range []string{tc.first, tc.then, tc.then} {
				p := encode(e, tc.f)
				if got := fmt.Sprintf("%02x", p[0]); got != want {
					t.Errorf("time %d: first octet is %s, want %s", i+1, got, want)
				}
				got, err := xd.DecodeFull(p)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != 1 || got[0].Name != tc.f.Name || got[0].Value != tc.f.Value {
					t.Errorf("time %d: decoded as %v", i+1, got)
				}
				if got[0].Sensitive != (tc.first[0] == '1') {
					t.Errorf("time %d: never-indexed is %v", i+1, got[0].Sensitive)
				}
			}
		})
	}
}

// A field is indexed by us after it came indexed, and not before.
func TestEncodeIndexesWhatCameIndexed(t *testing.T) {
	d, e := NewDecoder(DefaultTableSize), NewEncoder()
	in := [][]byte{
		unhex(t, "44 02 2f61 40 03 782d61 01 31"), // inserted
		unhex(t, "bf be"),                         // indexed
		unhex(t, "bf be"),
		unhex(t, "bf 10 03 782d61 01 31"), // the same, never indexed
	}
	want := []string{"04022f610003782d610131", "44022f614003782d610131", "bfbe", "bf1f2f0131"}
	for i, p := range in {
		var b Block
		if err := d.Decode(p, &b, Limits{}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", relay(e, &b)); got != want[i] {
			t.Errorf("block %d is %s, want %s", i+1, got, want[i])
		}
	}
}

// An element that was changed in place is sent as it is now.
func TestEncodeChangedField(t *testing.T) {
	e, xd := NewEncoder(), xhpack.NewDecoder(DefaultTableSize, nil)
	if _, err := xd.DecodeFull(encode(e, NewField("x-a", "1"))); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Field{NewField(":status", "200"), NewField("x-a", "1")} {
		f.Value = "204"
		got, err := xd.DecodeFull(encode(e, f))
		if err != nil || got[0].Value != "204" || got[0].Name != f.Name {
			t.Errorf("%s: 204 is decoded as %v, %v", f.Name, got, err)
		}
	}
}

func TestEncodeTableSize(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  []uint32
		want string
	}{
		{"none", nil, ""},
		{"the default", []uint32{4096}, ""},
		{"more than we use", []uint32{65536}, ""},
		{"more, then less, all above ours", []uint32{65536, 8192}, ""},
		{"less", []uint32{100}, "3f45"},
		{"zero", []uint32{0}, "20"},
		{"less and less", []uint32{200, 100}, "3f45"},
		{"down and up", []uint32{100, 4096}, "3f453fe11f"},
		{"down and up a little", []uint32{0, 31}, "203f00"},
		{"down, up, up, down", []uint32{50, 1000, 2000, 1500}, "3f133fbd0b"},
		{"down and above ours", []uint32{100, 1 << 20}, "3f453fe11f"},
		{"up and down", []uint32{8192, 100}, "3f45"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := NewEncoder()
			encode(e, NewField("x-a", "1"))
			for _, n := range tc.set {
				e.SetMaxTable(n)
			}
			if got := fmt.Sprintf("%x", e.Begin(nil)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if got := e.Begin(nil); len(got) != 0 {
				t.Errorf("and again %x", got)
			}
			checkTable(t, &e.table)
		})
	}
}

// After a change, the next one is told even if it is small.
func TestEncodeTableSizeTwice(t *testing.T) {
	e := NewEncoder()
	for i, want := range []struct {
		set uint32
		got string
	}{{100, "3f45"}, {100, ""}, {101, "3f46"}, {0, "20"}, {4096, "3fe11f"}} {
		e.SetMaxTable(want.set)
		if got := fmt.Sprintf("%x", e.Begin(nil)); got != want.got {
			t.Errorf("change %d to %d: got %q, want %q", i+1, want.set, got, want.got)
		}
	}
}

// collide returns n fields that have both places in an index of 32 in common.
func collide(n int) []Field {
	var fs []Field
	for i := 0; len(fs) < n; i++ {
		f := NewField("x-a", fmt.Sprint(i))
		if len(fs) == 0 || f.hash&31 == fs[0].hash&31 && f.hash>>16&31 == fs[0].hash>>16&31 {
			fs = append(fs, f)
		}
	}
	return fs
}

// Fields that collide cost compression only: those which find no place are
// literals, and the table does not churn.
func TestEncodeCollisions(t *testing.T) {
	e, xd := NewEncoder(), xhpack.NewDecoder(DefaultTableSize, nil)
	fs := collide(8)
	var inserted uint32
	for round := range 20 {
		p := encode(e, fs...)
		got, err := xd.DecodeFull(p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range fs {
			if got[i].Name != fs[i].Name || got[i].Value != fs[i].Value {
				t.Fatalf("round %d: field %d is decoded as %v, want %s", round, i, got[i], fs[i].Value)
			}
		}
		if round == 0 {
			inserted = e.table.inserted
		}
	}
	if inserted == 0 || e.table.inserted != inserted {
		t.Errorf("%d insertions in the first round, %d later", inserted, e.table.inserted-inserted)
	}
	if p := encode(e, fs[0]); len(p) != 1 {
		t.Errorf("the first of the colliding fields is not indexed: %x", p)
	}
}

// Insertion numbers wrap, after which old numbers in the index mean other
// entries.
func TestEncodeInsertionsWrap(t *testing.T) {
	e, d := NewEncoder(), NewDecoder(DefaultTableSize)
	e.table.inserted = 1<<32 - 200
	var b Block
	for i := range 1000 {
		f := []Field{NewField("x-a", fmt.Sprint(i)), NewField(fmt.Sprintf("x-%d", i%7), "1"), NewField("x-a", fmt.Sprint(i-3))}
		b.Reset()
		if err := d.Decode(encode(e, f...), &b, Limits{}); err != nil {
			t.Fatal(err)
		}
		for j := range f {
			if f[j].Name != b.Fields[j].Name || f[j].Value != b.Fields[j].Value {
				t.Fatalf("block %d: field %d is %v", i, j, pairs(&b)[j])
			}
		}
	}
	if diff := cmp.Diff(tableText(&d.table), tableText(&e.table)); diff != "" {
		t.Error(diff)
	}
}

// The encoder keeps no string of a field, whose arena is reused.
func TestEncodeCopiesStrings(t *testing.T) {
	e := NewEncoder()
	var b Block
	b.AppendCopy("x-some", "value")
	f := b.Fields[0]
	f.flag |= flagRepeats
	encode(e, f)
	b.Reset()
	b.AppendCopy("y-some", "other")
	if got := tableText(&e.table); got != "x-some: value\n" {
		t.Errorf("table is %q", got)
	}
}

func TestNewFieldKnowsNames(t *testing.T) {
	if f := NewField("grpc-status", "0"); f.ID != hdr.GRPCStatus || !f.Repeats() || f.Size() != 11+1+32 {
		t.Errorf("%+v", f)
	}
	if f := NewUniqueField("x-unknown", "0"); f.ID != hdr.Unknown || f.Repeats() || f.NeverIndexed() {
		t.Errorf("%+v", f)
	}
}

// TestEncodeManyEntries: indices of one octet end at 126, in the middle of a
// full table.
func TestEncodeManyEntries(t *testing.T) {
	e, d := NewEncoder(), NewDecoder(DefaultTableSize)
	var list []Field
	for i := range 100 {
		list = append(list, NewField("n", fmt.Sprintf("v%02d", i)))
	}
	for round := range 2 {
		var b Block
		if err := d.Decode(e.AppendList(e.Begin(nil), list), &b, Limits{}); err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if f := b.Fields[i]; f.Name != "n" || f.Value != list[i].Value {
				t.Fatalf("round %d, field %d: %s=%s", round, i, f.Name, f.Value)
			}
		}
	}
}

// TestReplaceStaysNeverIndexed: what came never-indexed leaves so (RFC 7541
// §7.1.3), with another value, too.
func TestReplaceStaysNeverIndexed(t *testing.T) {
	f := NewUniqueField("grpc-message", "a ")
	f.flag |= flagNever
	f.Replace("a%20")
	if f.flag&flagNever == 0 || f.Value != "a%20" || f.ID != hdr.GRPCMessage {
		t.Errorf("%+v", f)
	}
}

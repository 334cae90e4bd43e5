package h2

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// TestValidValueEverywhere: each forbidden byte at every place of every length
// around the eight bytes that are looked at together.
func TestValidValueEverywhere(t *testing.T) {
	for n := 1; n < 26; n++ {
		for at := range n {
			for x := range 256 {
				b := []byte(strings.Repeat("z", n))
				b[at] = byte(x)
				edge := at == 0 || at == n-1
				want := x != 0 && x != '\r' && x != '\n' && !(edge && (x == ' ' || x == '\t'))
				if got := validValue(string(b)); got != want {
					t.Fatalf("validValue(%q) = %v", b, got)
				}
			}
		}
	}
}

func TestValidValue(t *testing.T) {
	for _, c := range []struct {
		in   string
		want bool
	}{
		{"", true}, {"a", true}, {" ", false}, {"\t", false}, {"a\tb", true}, {"a\x01b", true}, {"a\x7fb", true},
		{"a\xffb", true}, {"\x00", false}, {"\r", false}, {"\n", false}, {"0123456789\n123456789", false},
		{"0123456789\t123456789", true}, {"0123456789 ", false},
	} {
		if got := validValue(c.in); got != c.want {
			t.Errorf("validValue(%q) = %v", c.in, got)
		}
	}
}

func TestValidPathAndAuthority(t *testing.T) {
	for _, c := range []struct {
		in              string
		path, authority bool
	}{
		{"", false, true}, {"/", true, false}, {"/a b", false, false}, {"/a\x7f", false, false}, {"/\xc3\xa4", true, false},
		{"/echo.Echo/Unary?x=1", true, false}, {"a:80", false, true}, {"[::1]:80", false, true}, {"u@a", false, false},
		{"a\tb", false, false}, {"*", true, true}, {"/\x00", false, false},
	} {
		if got := validPath(c.in); got != c.path {
			t.Errorf("validPath(%q) = %v", c.in, got)
		}
		if got := validAuthority(c.in); got != c.authority {
			t.Errorf("validAuthority(%q) = %v", c.in, got)
		}
	}
}

func TestParseNumbers(t *testing.T) {
	for in, want := range map[string]int{"200": 200, "099": 0, "20": 0, "2000": 0, "2x0": 0, "999": 999, "-10": 0} {
		if got := parseStatus(in); got != want {
			t.Errorf("parseStatus(%q) = %d", in, got)
		}
	}
	for in, want := range map[string]int64{"0": 0, "12": 12, "": -1, "-1": -1, "+1": -1, "1 ": -1, "999999999999999999": 999999999999999999, "1000000000000000000": -1} {
		if got := parseLength(in); got != want {
			t.Errorf("parseLength(%q) = %d", in, got)
		}
	}
}

// TestStaticFieldsValid: the decoder takes fields of the static table as
// checked.
func TestStaticFieldsValid(t *testing.T) {
	d := hpack.NewDecoder(4096)
	for i := byte(1); i <= 61; i++ {
		var b hpack.Block
		if err := d.Decode([]byte{0x80 | i}, &b, hpack.Limits{}); err != nil {
			t.Fatal(err)
		}
		f := &b.Fields[0]
		if !f.Checked() || !validField(f) {
			t.Errorf("entry %d, %s: %q", i, f.Name, f.Value)
		}
	}
}

// TestCheckedOnce: what a literal was found to be holds for its table entry.
func TestCheckedOnce(t *testing.T) {
	calls := 0
	d := hpack.NewDecoder(4096)
	d.Check = func(f *hpack.Field) bool { calls++; return validField(f) }
	for _, c := range []struct {
		block string
		want  []bool
	}{
		{"\x40\x03bad\x02a\n\x40\x04good\x01a", []bool{false, true}},
		{"\xbf\xbe\xbe", []bool{false, true, true}},          // indexed
		{"\x0f\x30\x01a\x0f\x2f\x01\r", []bool{true, false}}, // the same names, other values
		{"\x00\x03Bad\x01a", []bool{false}},
	} {
		var b hpack.Block
		if err := d.Decode([]byte(c.block), &b, hpack.Limits{}); err != nil {
			t.Fatal(err)
		}
		var got []bool
		for i := range b.Fields {
			got = append(got, b.Fields[i].Checked())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.block, got, c.want)
		}
	}
	if calls != 5 {
		t.Errorf("%d calls of Check for 5 literals", calls)
	}
}

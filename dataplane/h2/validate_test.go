package h2

import (
	"strings"
	"testing"
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
		{"a\tb", false, false}, {"*", false, true}, {"/\x00", false, false},
	} {
		if got := validPath(c.in, "GET"); got != c.path {
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

package hpack

import (
	"bytes"
	"strings"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

func decodeHuffman(src []byte) (string, error) {
	dst := make([]byte, huffmanRoom(len(src)))
	n, err := huffmanDecode(dst, src)
	return string(dst[:n]), err
}

// Every octet alone, and in every position of a word between other octets.
func TestHuffmanEveryOctet(t *testing.T) {
	for c := 0; c < 256; c++ {
		for _, around := range []string{"", "a", "0123", "\x00", "\xff\x16\n", "~~~~~~~", "abcdefgh"} {
			want := around + string([]byte{byte(c)}) + around
			if got, err := decodeHuffman(xhpack.AppendHuffmanString(nil, want)); got != want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
	}
}

func TestHuffmanEnd(t *testing.T) {
	for _, tc := range []struct {
		name, src, want string
		ok              bool
	}{
		{"empty", "", "", true},
		{"0 and three ones", "07", "0", true},
		{"padding of zeros", "00", "", false},
		{"padding not all ones", "06", "", false},
		{"seven ones after &", "f8 ff", "", false},
		{"seven ones of padding", "0f ff", "", false},
		{"eight ones of padding", "ff", "", false},
		{"EOS", "ff ff ff ff", "", false},
		{"EOS inside", "07 ff ff ff ff 07", "", false},
		{"EOS and more", "ff ff ff fc 00 00 00 00 00", "", false},
		{"part of a long code", "ff ff", "", false},
		{"30 bits of the octet 10", "ff ff ff f3", "\n", true},
		{"8-bit code without padding", "f8", "&", true},
		{"8-bit code and an octet of ones", "f8 ff", "", false},
		{"5-bit codes to the full", "00 00 00 00 00", "00000000", true},
	} {
		got, err := decodeHuffman(unhex(t, tc.src))
		if (err == nil) != tc.ok || tc.ok && got != tc.want {
			t.Errorf("%s: got %q, %v, want %q, ok %v", tc.name, got, err, tc.want, tc.ok)
		}
	}
}

// Each length of padding that is shorter than an octet is accepted.
func TestHuffmanPadding(t *testing.T) {
	// '0' has 5 bits, '%' 6, 'A'... 7: their sums leave 0 to 7 bits.
	for n5 := 0; n5 < 8; n5++ {
		want := string(bytes.Repeat([]byte{'0'}, n5))
		src := xhpack.AppendHuffmanString(nil, want)
		if got, err := decodeHuffman(src); got != want || err != nil {
			t.Errorf("%d octets: got %q, %v", n5, got, err)
		}
		if _, err := decodeHuffman(append(src, 0xff)); err == nil {
			t.Errorf("%d octets and eight more bits of padding: no error", n5)
		}
	}
}

// The shortest codes fill the room to the last octet.
func TestHuffmanRoom(t *testing.T) {
	for n := range 1000 {
		want := strings.Repeat("0", n)
		if got, err := decodeHuffman(xhpack.AppendHuffmanString(nil, want)); got != want || err != nil {
			t.Fatalf("%d octets: got %d, %v", n, len(got), err)
		}
	}
}

func FuzzHuffman(f *testing.F) {
	for _, s := range []string{"", "www.example.com", "\x00\xff\n\r", "application/grpc"} {
		f.Add(xhpack.AppendHuffmanString(nil, s))
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got, err := decodeHuffman(src)
		want, xerr := xhpack.HuffmanDecodeToString(src)
		if (err == nil) != (xerr == nil) || err == nil && got != want {
			t.Errorf("%x: got %q, %v, want %q, %v", src, got, err, want, xerr)
		}
		all := string(src)
		if got, err := decodeHuffman(xhpack.AppendHuffmanString(nil, all)); got != all || err != nil {
			t.Errorf("%q came back as %q, %v", all, got, err)
		}
	})
}

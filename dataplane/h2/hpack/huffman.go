package hpack

import "encoding/binary"

// huffmanLengths are the lengths in bits of the codes of all octets (RFC 7541
// appendix B). The code is canonical: codes of one length are consecutive, in
// the order of their octets, so the lengths say everything. EOS, the last code of
// 30 bits, is not in the list.
var huffmanLengths = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

const (
	huffmanFast   = 10 // bits looked up at once: all printable octets but a few
	huffmanMaxLen = 30
	huffmanEOS    = 256
)

// huffman is the decoder's table.
var huffman = fillHuffman()

type huffmanTable struct {
	// fast has for every prefix of 10 bits the octet and, above it, the length
	// of its code; 0 if the code is longer.
	fast [1 << huffmanFast]uint16
	// For the longer codes, by length: end is one more than the last code, left
	// aligned in 32 bits (it fits, for only EOS ends at 2^32, and is left out);
	// first is the first code; at is its position in symbols.
	end   [huffmanMaxLen + 1]uint32
	first [huffmanMaxLen + 1]uint32
	at    [huffmanMaxLen + 1]uint16
	// symbols are all octets in the order of their codes.
	symbols [256]uint8
}

func fillHuffman() (t huffmanTable) {
	code, n := uint32(0), 0
	for length := 1; length <= huffmanMaxLen; length++ {
		code <<= 1
		t.first[length], t.at[length] = code, uint16(n)
		for sym, l := range huffmanLengths {
			if int(l) != length {
				continue
			}
			t.symbols[n] = uint8(sym)
			n++
			if length <= huffmanFast {
				pad := huffmanFast - length
				for i := code << pad; i < (code+1)<<pad; i++ {
					t.fast[i] = uint16(length)<<8 | uint16(sym)
				}
			}
			code++
		}
		t.end[length] = code << (32 - length)
	}
	return t
}

// huffmanMax is the most octets that n octets can decode to: the shortest code
// has five bits.
func huffmanMax(n int) int { return n * 8 / 5 }

// huffmanDecode decodes src into dst, which has room for huffmanMax(len(src)),
// and returns the number of octets. Padding must be shorter than 8 bits and
// all ones, and EOS must not occur (RFC 7541 section 5.2).
func huffmanDecode(dst, src []byte) (int, error) {
	t := &huffman
	var acc uint64 // left aligned
	var have uint  // valid bits of acc
	n := 0
	for {
		if len(src) >= 8 {
			// Octets that were only partly taken are read again: the bits
			// are the same.
			acc |= binary.BigEndian.Uint64(src) >> have
			took := (63 - have) >> 3
			src = src[took:]
			have += took * 8
		} else {
			for have <= 56 && len(src) > 0 {
				acc |= uint64(src[0]) << (56 - have)
				src = src[1:]
				have += 8
			}
		}
		// Without more input this goes on until the bits are used up.
		for have >= huffmanMaxLen || len(src) == 0 {
			var sym uint8
			var length uint
			if e := t.fast[acc>>(64-huffmanFast)]; e != 0 {
				sym, length = uint8(e), uint(e>>8)
			} else {
				top := uint32(acc >> 32)
				length = huffmanFast + 1
				for length <= huffmanMaxLen && top >= t.end[length] {
					length++
				}
				if length > huffmanMaxLen {
					return 0, errHuffman // EOS, or the end of the input
				}
				sym = t.symbols[uint32(t.at[length])+top>>(32-length)-t.first[length]]
			}
			if length > have {
				// No code is left, only padding.
				if have > 7 || acc != ^uint64(0)<<(64-have) {
					return 0, errHuffman
				}
				return n, nil
			}
			dst[n] = sym
			n++
			acc <<= length
			have -= length
		}
	}
}

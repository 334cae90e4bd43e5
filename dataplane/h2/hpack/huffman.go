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
	huffmanFast   = 12 // bits looked up at once: often two octets
	huffmanMaxLen = 30
)

// huffman is the decoder's table.
var huffman = fillHuffman()

type huffmanTable struct {
	// fast says for 12 bits which octets' codes they start with: the first
	// octet, the second at bit 8, how many octets (1 or 2) at bit 16, bits of
	// their codes at bit 24. It is 0 if the first code is longer than 12 bits.
	fast [1 << huffmanFast]uint32
	// By the length of a code: end is one more than the last code, left aligned
	// in 32 bits (EOS, which ends at 2^32, is left out); first is the first
	// code; at is its position in symbols.
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
					t.fast[i] = uint32(length)<<24 | 1<<16 | uint32(sym)
				}
			}
			code++
		}
		t.end[length] = code << (32 - length)
	}
	singles := t.fast
	for i, one := range singles {
		used := one >> 24
		if two := singles[i<<used&(len(singles)-1)]; one != 0 && two != 0 && used+two>>24 <= huffmanFast {
			t.fast[i] = (used+two>>24)<<24 | 2<<16 | two&0xff<<8 | one&0xff
		}
	}
	return t
}

// slow finds the code that top starts with, which has more than 12 bits. It
// returns 0 bits if there is none: top starts with EOS.
func (t *huffmanTable) slow(top uint32) (sym byte, length uint) {
	length = huffmanFast + 1
	for top >= t.end[length] {
		if length++; length > huffmanMaxLen {
			return 0, 0
		}
	}
	return t.symbols[uint32(t.at[length])+top>>(32-length)-t.first[length]], length
}

// huffmanRoom is the room needed to decode n octets: the shortest code has
// five bits, and one octet more may be written over.
func huffmanRoom(n int) int { return n*8/5 + 1 }

// huffmanDecode decodes src into dst, which has huffmanRoom(len(src)), and
// returns the number of octets. Padding must be shorter than 8 bits and all
// ones, and EOS must not occur (RFC 7541 section 5.2).
func huffmanDecode(dst, src []byte) (int, error) {
	t := &huffman
	var acc uint64 // left aligned
	var have uint  // valid bits of acc
	n := 0
	for {
		if len(src) >= 8 {
			// An octet that was taken only in part is read again, to the
			// same bits.
			acc |= binary.BigEndian.Uint64(src) >> (have & 63)
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
		if have < huffmanMaxLen {
			break // the input is used up
		}
		for have >= huffmanMaxLen {
			e := t.fast[acc>>(64-huffmanFast)]
			if e == 0 {
				sym, length := t.slow(uint32(acc >> 32))
				if length == 0 {
					return 0, errHuffman
				}
				e = uint32(length)<<24 | 1<<16 | uint32(sym)
			}
			binary.LittleEndian.PutUint16(dst[n:], uint16(e))
			n += int(e >> 16 & 0xff)
			acc <<= e >> 24
			have -= uint(e >> 24)
		}
	}
	// Fewer than 30 bits are left, with zeros behind them, so this is not EOS.
	// Of two octets found at once the second may come from those zeros.
	for {
		e := t.fast[acc>>(64-huffmanFast)]
		sym, length := byte(e), uint(huffmanLengths[byte(e)])
		if e == 0 {
			sym, length = t.slow(uint32(acc >> 32))
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

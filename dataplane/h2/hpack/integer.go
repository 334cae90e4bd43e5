package hpack

// maxIntegerOctets is how many octets may follow the prefix of an integer. Four
// hold 2^28, more than any length or index we accept; a fifth is allowed so that
// every 32-bit number has its encoding.
const maxIntegerOctets = 5

// readInt reads an integer with the given mask as its prefix (RFC 7541
// section 5.1). p is not empty. It fails on integers that do not end, do not fit
// 32 bits or have too many octets.
func readInt(p []byte, mask byte) (v uint32, rest []byte, err error) {
	if v := p[0] & mask; v < mask {
		return uint32(v), p[1:], nil
	}
	return readLongInt(p[1:], mask)
}

func readLongInt(p []byte, mask byte) (v uint32, rest []byte, err error) {
	sum := uint64(mask)
	for i := range maxIntegerOctets {
		if i >= len(p) {
			return 0, nil, errTruncated
		}
		sum += uint64(p[i]&0x7f) << (7 * i)
		if p[i] < 0x80 {
			if sum > 1<<32-1 {
				return 0, nil, errInteger
			}
			return uint32(sum), p[i+1:], nil
		}
	}
	return 0, nil, errInteger
}

// appendInt appends an integer whose prefix has the given mask; kind are the
// bits of the first octet above the prefix.
func appendInt(dst []byte, kind, mask byte, v uint32) []byte {
	if v < uint32(mask) {
		return append(dst, kind|byte(v))
	}
	return appendLongInt(dst, kind|mask, v-uint32(mask))
}

func appendLongInt(dst []byte, first byte, v uint32) []byte {
	dst = append(dst, first)
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

package hpack

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// Arbitrary odd constants.
const (
	hashSeed = 0x9e3779b97f4a7c15
	hashMul  = 0xd6e8feb86659fd93
)

// hashName never returns 0, which means "not computed".
func hashName(name string) uint32 { return max(1, hashString(hashSeed, name)) }

// hashField combines the hash of a name with a value; it never returns 0.
func hashField(nameHash uint32, value string) uint32 {
	return max(1, hashString(uint64(nameHash)*hashSeed, value))
}

// hashString is fast and has a constant seed; it does not resist collisions
// made on purpose.
func hashString(seed uint64, s string) uint32 {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	h := seed ^ uint64(len(s))*hashMul
	for len(b) > 8 {
		h = fold(h ^ binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	var tail uint64
	switch n := len(b); {
	case n >= 4:
		tail = uint64(binary.LittleEndian.Uint32(b))<<32 | uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		tail = uint64(b[0])<<16 | uint64(b[n/2])<<8 | uint64(b[n-1])
	}
	h = fold(h ^ tail)
	return uint32(h ^ h>>32)
}

func fold(h uint64) uint64 {
	hi, lo := bits.Mul64(h^hashSeed, hashMul)
	return hi ^ lo
}

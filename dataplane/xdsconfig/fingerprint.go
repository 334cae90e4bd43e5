package xdsconfig

import (
	"crypto/sha256"
	"encoding/binary"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// fingerprint is the hash of a message's meaning: two messages that say the
// same have the same fingerprint, however their maps and Anys were encoded.
// Within one process only: the deterministic encoding may change with the
// protobuf library.
type fingerprint [sha256.Size]byte

func fingerprintOf(ms ...proto.Message) fingerprint {
	h := sha256.New()
	var buf []byte
	for _, m := range ms {
		// A length before each part keeps {a}{bc} and {ab}{c} apart.
		buf = canonical(buf[:0], m)
		h.Write(binary.AppendUvarint(nil, uint64(len(buf))))
		h.Write(buf)
	}
	var f fingerprint
	h.Sum(f[:0])
	return f
}

// key returns the first 64 bits.
func (f fingerprint) key() uint64 { return binary.LittleEndian.Uint64(f[:]) }

// canonical appends m's deterministic encoding, in which Anys of known types
// are encoded deterministically too. (Envoy Gateway's listeners come in ever
// new encodings of one content.)
func canonical(dst []byte, m proto.Message) []byte {
	if m != nil && hasAny(m.ProtoReflect()) {
		m = proto.Clone(m)
		canonicalAnys(m.ProtoReflect())
	}
	// Marshal fails for invalid UTF-8 only, which no received message has.
	dst, _ = proto.MarshalOptions{Deterministic: true, AllowPartial: true}.MarshalAppend(dst, m)
	return dst
}

// messages calls f for every message directly below m until it returns false.
func messages(m protoreflect.Message, f func(protoreflect.Message) bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		ok := true
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					ok = f(v.Message())
					return ok
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := 0; ok && i < v.List().Len(); i++ {
				ok = f(v.List().Get(i).Message())
			}
		default:
			ok = f(v.Message())
		}
		return ok
	})
}

func hasAny(m protoreflect.Message) bool {
	if _, ok := m.Interface().(*anypb.Any); ok {
		return true
	}
	found := false
	messages(m, func(sub protoreflect.Message) bool {
		found = hasAny(sub)
		return !found
	})
	return found
}

func canonicalAnys(m protoreflect.Message) {
	if x, ok := m.Interface().(*anypb.Any); ok {
		if inner, err := x.UnmarshalNew(); err == nil {
			x.Value = canonical(nil, inner)
		}
		return
	}
	messages(m, func(sub protoreflect.Message) bool {
		canonicalAnys(sub)
		return true
	})
}

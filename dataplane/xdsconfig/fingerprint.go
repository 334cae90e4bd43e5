package xdsconfig

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

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

func hasAny(m protoreflect.Message) bool {
	if m.Descriptor().FullName() == anyName {
		return true
	}
	found := false
	belowWithAny(m, func(sub protoreflect.Message) bool {
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
	belowWithAny(m, func(sub protoreflect.Message) bool {
		canonicalAnys(sub)
		return true
	})
}

const anyName = "google.protobuf.Any"

// belowWithAny calls f for the messages directly below m that may be or
// contain an Any, until it returns false.
func belowWithAny(m protoreflect.Message, f func(protoreflect.Message) bool) {
	for _, fd := range anyFields(m.Descriptor()) {
		if !m.Has(fd) {
			continue
		}
		ok := true
		switch v := m.Get(fd); {
		case fd.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				ok = f(v.Message())
				return ok
			})
		case fd.IsList():
			for i := 0; ok && i < v.List().Len(); i++ {
				ok = f(v.List().Get(i).Message())
			}
		default:
			ok = f(v.Message())
		}
		if !ok {
			return
		}
	}
}

// anyFieldsOf remembers anyFields by message name: a large message consists of
// many of few types. It only ever grows by types that are linked in.
var anyFieldsOf sync.Map // protoreflect.FullName → []protoreflect.FieldDescriptor

// anyFields returns the fields of a message that may lead to an Any.
func anyFields(md protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	if list, ok := anyFieldsOf.Load(md.FullName()); ok {
		return list.([]protoreflect.FieldDescriptor)
	}
	var list []protoreflect.FieldDescriptor
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if sub := messageOf(fd); sub != nil && leadsToAny(sub, map[protoreflect.FullName]bool{}) {
			list = append(list, fd)
		}
	}
	anyFieldsOf.Store(md.FullName(), list)
	return list
}

func leadsToAny(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if md.FullName() == anyName {
		return true
	}
	if seen[md.FullName()] {
		return false
	}
	seen[md.FullName()] = true
	for i := range md.Fields().Len() {
		if sub := messageOf(md.Fields().Get(i)); sub != nil && leadsToAny(sub, seen) {
			return true
		}
	}
	return false
}

// messageOf returns the type of a field's messages, or of a map's values; nil
// if they are no messages.
func messageOf(fd protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	return fd.Message()
}

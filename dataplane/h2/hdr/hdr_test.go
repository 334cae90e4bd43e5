package hdr

import "testing"

// A name that shares its slot with another, or has no text, fails here.
func TestEveryNameRoundTrips(t *testing.T) {
	seen := map[string]ID{}
	for id := ID(1); id < Count; id++ {
		name := id.String()
		if name == "" {
			t.Fatalf("ID %d has no name", id)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%q is both %d and %d", name, other, id)
		}
		seen[name] = id
		if got := Lookup(name); got != id {
			t.Errorf("Lookup(%q) = %d (%q), want %d: search another slotMul", name, got, got, id)
		}
	}
}

func TestLookupOfOtherNames(t *testing.T) {
	for _, name := range []string{"", "t", "tE", "TE", ":", ":path2", ":pat", "grpc-statu", "grpc-statuss", "x-custom", "Content-Type", "\x00\x00", "content-typ\x00"} {
		if got := Lookup(name); got != Unknown {
			t.Errorf("Lookup(%q) = %d (%q), want Unknown", name, got, got)
		}
	}
	if got := ID(255).String(); got != "" {
		t.Errorf("ID(255).String() = %q", got)
	}
	if got := Unknown.String(); got != "" {
		t.Errorf("Unknown.String() = %q", got)
	}
}

// Every one-byte change of every name is some other name.
func TestLookupOfNearNames(t *testing.T) {
	for id := ID(1); id < Count; id++ {
		name := []byte(id.String())
		for i := range name {
			old := name[i]
			for _, c := range []byte{old ^ 1, old ^ 0x20, 0, 0xff} {
				name[i] = c
				if got := Lookup(string(name)); got != Unknown && got.String() != string(name) {
					t.Fatalf("Lookup(%q) = %q", name, got)
				}
			}
			name[i] = old
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	names := [4]string{"grpc-status", "x-request-id", "x-custom-header", "content-type"}
	n := 0
	for i := 0; b.Loop(); i++ {
		n += int(Lookup(names[i&3]))
	}
	_ = n
}

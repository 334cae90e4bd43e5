package h2

import "testing"

// TestPoolReuse: up to Reuse, freed chunks are kept as long as few others are in
// use; Trim goes back to the bound of NewPool.
func TestPoolReuse(t *testing.T) {
	const size = chunkMid
	p := NewPool(2*size, false)
	p.Reuse = 6 * size
	get := func(n int) (out []*Chunk) {
		for range n {
			out = append(out, p.Get(size))
		}
		return out
	}
	put := func(cs []*Chunk) {
		for _, c := range cs {
			p.Put(c)
		}
	}
	a, b := get(5), get(3)
	put(b) // 5 are in use, but 2 may always stay
	if p.freeLen != 2*size {
		t.Errorf("%d bytes are free with 5 chunks in use, want %d", p.freeLen, 2*size)
	}
	put(a) // as the last goes back, 6 fit
	if p.freeLen != 6*size {
		t.Errorf("%d bytes are free with none in use, want %d", p.freeLen, 6*size)
	}
	p.Trim()
	if p.freeLen != 2*size {
		t.Errorf("%d bytes are free after Trim, want %d", p.freeLen, 2*size)
	}
	if p.Live() != 0 || p.LiveBytes() != 0 {
		t.Errorf("%d chunks, %d bytes are in use", p.Live(), p.LiveBytes())
	}
}

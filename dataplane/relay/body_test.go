package relay

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// TestBodyAgainstModel drives bodies with random operations and compares them
// with one that keeps everything in a slice.
func TestBodyAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		c := &Core{Pool: h2.NewPool(1<<20, true)}
		var q body
		var all []byte // every byte that came
		pos, credited := 0, 0
		q.keep = rnd.IntN(2) == 0
		kept := q.keep
		piece := func() []byte {
			b := make([]byte, rnd.IntN(1+1<<rnd.IntN(16)))
			for i := range b {
				b[i] = byte(len(all) + i)
			}
			all = append(all, b...)
			return b
		}
		for range 200 {
			switch rnd.IntN(7) {
			case 0:
				q.add(c, piece())
			case 1:
				if q.empty() {
					p := piece()
					n := rnd.IntN(len(p) + 1)
					q.take(c, p, n)
					pos += n
				}
			case 2, 3:
				p := q.next()
				if want := all[pos:]; (p == nil) != (len(want) == 0) || !bytes.HasPrefix(want, p) {
					t.Fatalf("seed %d: next at %d has %d wrong bytes", seed, pos, len(p))
				}
				n := rnd.IntN(len(p) + 1)
				if n > 0 {
					q.advance(c, n)
					pos += n
				}
			case 4:
				want := max(0, pos-credited)
				if got := q.owed(); got != want {
					t.Fatalf("seed %d: owed %d, want %d", seed, got, want)
				}
				credited = max(credited, pos)
			case 5:
				if rnd.IntN(20) == 0 {
					q.release(c)
					kept = false
				}
			case 6:
				want := kept || pos == 0
				if rnd.IntN(5) != 0 {
					break
				}
				if got := q.rewind(); got != want {
					t.Fatalf("seed %d: rewind %v at %d, want %v", seed, got, pos, want)
				}
				if want {
					pos = 0
				}
			}
			if q.empty() != (pos == len(all)) || q.pos != int64(pos) || q.end != int64(len(all)) {
				t.Fatalf("seed %d: pos %d end %d, want %d %d", seed, q.pos, q.end, pos, len(all))
			}
			if q.base > q.pos || !kept && q.base != q.pos {
				t.Fatalf("seed %d: base %d, pos %d, keep %v", seed, q.base, q.pos, kept)
			}
			if c.queued != q.end-q.base {
				t.Fatalf("seed %d: queued %d, want %d", seed, c.queued, q.end-q.base)
			}
			memory := int64(c.Pool.LiveBytes())
			if memory > 0 {
				memory += callMemory
			}
			if c.memory != memory {
				t.Fatalf("seed %d: memory %d, want %d", seed, c.memory, memory)
			}
			if !kept && q.empty() && c.Pool.Live() != 0 {
				t.Fatalf("seed %d: an empty body holds %d chunks", seed, c.Pool.Live())
			}
		}
		q.free(c)
		if n := c.Pool.Live(); n != 0 || c.queued != 0 || c.memory != 0 {
			t.Fatalf("seed %d: %d chunks, %d bytes, %d of memory left", seed, n, c.queued, c.memory)
		}
	}
}

// What a body takes is not much more than it holds, in few chunks if it is
// long.
func TestChunkFor(t *testing.T) {
	for _, tt := range []struct {
		n    int // bytes in pieces of so many
		size int
		most int // bytes of chunks
	}{{100, 100, 256}, {257, 257, 1 << 10}, {5000, 5000, 5 << 10}, {64 << 10, 16 << 10, 64 << 10}, {64 << 10, 100, 68 << 10}, {20_000, 20_000, 20 << 10}} {
		c := &Core{Pool: h2.NewPool(0, true)}
		var q body
		for left := tt.n; left > 0; left -= tt.size {
			q.add(c, make([]byte, min(left, tt.size)))
		}
		if got := c.Pool.LiveBytes(); got > tt.most {
			t.Errorf("%d bytes in pieces of %d take %d, at most %d wanted", tt.n, tt.size, got, tt.most)
		}
		q.free(c)
	}
}

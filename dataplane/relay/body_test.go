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
			if !kept && q.empty() && c.Pool.Live() != 0 {
				t.Fatalf("seed %d: an empty body holds %d chunks", seed, c.Pool.Live())
			}
		}
		q.free(c)
		if n := c.Pool.Live(); n != 0 || c.queued != 0 {
			t.Fatalf("seed %d: %d chunks, %d bytes left", seed, n, c.queued)
		}
	}
}

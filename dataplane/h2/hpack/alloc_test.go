package hpack

import (
	"fmt"
	"strings"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

// Relaying a block allocates nothing once the tables are warm.
func TestRelayAllocations(t *testing.T) {
	for _, huffman := range []bool{false, true} {
		d, e, block := steady(t, false, huffman)
		var blk, cp Block
		out := make([]byte, 0, 1024)
		n := testing.AllocsPerRun(1000, func() {
			blk.Reset()
			if err := d.Decode(block, &blk, Limits{64 << 10, 200}); err != nil {
				t.Fatal(err)
			}
			cp.CopyFrom(&blk)
			out = e.Begin(out[:0])
			for i := range cp.Fields {
				out = e.Append(out, &cp.Fields[i])
			}
		})
		if n != 0 {
			t.Errorf("huffman %v: %v allocations per block", huffman, n)
		}
	}
}

// Peers insert values that do not repeat into our decoder's table, which owns
// them: a piece of 1 KiB holds many. The encoder does not follow.
func TestRelayAllocationsOfInsertedUniqueValues(t *testing.T) {
	const rounds = 1000
	d, e := NewDecoder(DefaultTableSize), NewEncoder()
	blocks := make([][]byte, rounds+1)
	for i := range blocks {
		for _, f := range unique(i) {
			h := xhpack.AppendHuffmanString(nil, f.Value)
			p := appendInt(blocks[i], 0x40, 0x3f, 0)
			p = append(append(p, byte(len(f.Name))), f.Name...)
			blocks[i] = append(append(p, 0x80|byte(len(h))), h...)
		}
	}
	var blk Block
	out := make([]byte, 0, 1024)
	round := func(p []byte) {
		blk.Reset()
		if err := d.Decode(p, &blk, Limits{64 << 10, 200}); err != nil {
			t.Fatal(err)
		}
		out = e.Begin(out[:0])
		for i := range blk.Fields {
			out = e.Append(out, &blk.Fields[i])
		}
	}
	for _, p := range blocks {
		round(p) // until the ring has grown
	}
	i := 0
	n := testing.AllocsPerRun(1, func() {
		for range rounds {
			round(blocks[i%len(blocks)])
			i++
		}
	})
	if perValue := n / rounds / 3; perValue > 0.1 {
		t.Errorf("%.2f allocations per value, want at most one for ten", perValue)
	}
	if e.table.inserted != 0 {
		t.Errorf("the encoder indexed %d values that did not repeat", e.table.inserted)
	}
}

// A table that is evicted in every block takes memory by the piece.
func TestEncodeAllocationsWithEviction(t *testing.T) {
	var fs []Field
	for i := range 200 {
		fs = append(fs, NewField("x-own", fmt.Sprintf("%d%s", i, strings.Repeat("v", 20))))
	}
	e := NewEncoder()
	out := make([]byte, 0, 32<<10)
	n := testing.AllocsPerRun(20, func() {
		out = e.Begin(out[:0])
		for i := range fs {
			out = e.Append(out, &fs[i])
		}
	})
	if n > float64(len(fs))/10 {
		t.Errorf("%v allocations for %d fields", n, len(fs))
	}
}

package hpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhpack "golang.org/x/net/http2/hpack"
)

// script turns fuzz input, or random numbers, into blocks of fields and changes
// of table sizes.
type script struct{ p []byte }

func (s *script) more() bool { return len(s.p) > 0 }

func (s *script) next() int {
	if len(s.p) == 0 {
		return 0
	}
	c := s.p[0]
	s.p = s.p[1:]
	return int(c)
}

var scriptNames = []string{
	":path", ":status", ":authority", "content-type", "authorization", "cookie", "grpc-timeout", "grpc-status",
	"x-request-id", "te", "x-custom", "x", "", "x-another-custom-header", "user-agent", "set-cookie",
}

// field: few names, values of which some repeat soon, some late, some never.
func (s *script) field() pair {
	c := s.next()
	f := pair{Name: scriptNames[c&15], Never: c&0xf0 == 0xf0}
	if c&0xe0 == 0xe0 {
		f.Name = fmt.Sprintf("x-%d", s.next())
	}
	switch v := s.next(); {
	case v < 100:
		f.Value = strings.Repeat(string(rune('a'+v%7)), v%5)
	case v < 140:
		f.Value = "200"
	case v < 200:
		f.Value = fmt.Sprintf("value number %d", s.next())
	case v < 250:
		f.Value = fmt.Sprintf("%d.%d", s.next(), s.next())
	default:
		f.Value = strings.Repeat("long\xff\x00", 100*(v-249))
	}
	return f
}

var scriptSizes = []uint32{0, 1, 32, 33, 64, 100, 256, 1000, 2048, 4095, 4096, 5000, 16384, 65536, 1 << 20, 4096}

// checkScript runs a sequence of blocks through x/net's encoder, our decoder, our
// encoder, and then both x/net's and our decoder, while the table sizes of both
// hops change. The fields must come out as they went in, and all tables must
// stay consistent.
func checkScript(t testing.TB, s *script) {
	var buf bytes.Buffer
	xenc, xdec := xhpack.NewEncoder(&buf), xhpack.NewDecoder(DefaultTableSize, nil)
	dec, enc, dec2 := NewDecoder(DefaultTableSize), NewEncoder(), NewDecoder(DefaultTableSize)
	one := NewEncoder() // does with Append what enc does with AppendList
	var in, out Block
	for s.more() {
		op := s.next()
		for range op & 3 { // changes of size on the way in
			n := scriptSizes[s.next()&15]
			xenc.SetMaxDynamicTableSizeLimit(n)
			xenc.SetMaxDynamicTableSize(n)
			dec.SetMaxTable(n)
		}
		for range op >> 2 & 3 { // and on the way out
			n := scriptSizes[s.next()&15]
			enc.SetMaxTable(n)
			one.SetMaxTable(n)
			dec2.SetMaxTable(n)
			xdec.SetAllowedMaxDynamicTableSize(n)
		}
		var fs []pair
		for range 1 + op>>4 {
			fs = append(fs, s.field())
		}

		in.Reset()
		if err := dec.Decode(xencode(t, xenc, &buf, fs), &in, Limits{}); err != nil {
			t.Fatalf("our decoder: %v", err)
		}
		checkTable(t, &dec.table)
		want := pairs(&in)
		for i := range fs {
			if isSecretPair(fs[i]) {
				fs[i].Never = true
			}
		}
		if diff := cmp.Diff(fs, want); diff != "" {
			t.Fatalf("x/net's encoder to our decoder: %s", diff)
		}

		block := relay(enc, &in)
		checkTable(t, &enc.table)
		if each := encode(one, in.Fields...); !bytes.Equal(each, block) {
			t.Fatalf("AppendList made %x, Append %x", block, each)
		}
		got, err := xdecode(xdec, block)
		if err != nil {
			t.Fatalf("x/net's decoder: %v, block %x", err, block)
		}
		if diff := cmp.Diff(want, xpairs(got)); diff != "" {
			t.Fatalf("our encoder to x/net's decoder: %s", diff)
		}
		out.Reset()
		if err := dec2.Decode(block, &out, Limits{}); err != nil {
			t.Fatalf("our decoder, second hop: %v", err)
		}
		if diff := cmp.Diff(want, pairs(&out)); diff != "" {
			t.Fatalf("our encoder to our decoder: %s", diff)
		}
		if diff := cmp.Diff(tableText(&enc.table), tableText(&dec2.table)); diff != "" {
			t.Fatalf("tables of our encoder and our decoder: %s", diff)
		}
	}
}

func isSecretPair(p pair) bool {
	return (p.Name == "authorization" || p.Name == "cookie") && len(p.Value) > 0 && len(p.Value) < 20
}

func TestDifferentialSequences(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 200
	}
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		p := make([]byte, 50+rng.IntN(2000))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		if seed&1 == 0 { // without changes of size, so that the tables fill
			for i := range p {
				if rng.IntN(4) > 0 {
					p[i] &= 0xf0
				}
			}
		}
		checkScript(t, &script{p})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzSequences(f *testing.F) {
	f.Add([]byte("\x10\x00\x05\x03\x78"))
	f.Add([]byte("\xf5\x00\x0a\x01\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"))
	f.Fuzz(func(t *testing.T, p []byte) { checkScript(t, &script{p}) })
}

// checkBlocks gives arbitrary blocks to our decoder and to x/net's. Both must
// say the same until one of them fails, and then the tables must hold the same.
func checkBlocks(t testing.TB, p []byte) {
	d := NewDecoder(DefaultTableSize)
	xd := xhpack.NewDecoder(DefaultTableSize, nil)
	var b Block
	for len(p) > 2 {
		if c := p[0]; c >= 0xf0 { // our SETTINGS, acknowledged
			d.SetMaxTable(scriptSizes[c&15])
			xd.SetAllowedMaxDynamicTableSize(scriptSizes[c&15])
			p = p[1:]
			continue
		}
		n := min(len(p)-2, int(binary.BigEndian.Uint16(p)&0x3ff))
		block := p[2 : 2+n]
		p = p[2+n:]

		b.Reset()
		err := d.Decode(block, &b, Limits{})
		checkTable(t, &d.table)
		want, xerr := xdecode(xd, block)
		if err != nil && !errors.Is(err, ErrCompression) {
			t.Fatalf("an error of a wrong kind: %v", err)
		}
		switch {
		case errors.Is(err, errInteger), errors.Is(err, errUpdateMany), errors.Is(err, errUpdateMissing), errors.Is(err, errUpdateLate):
			return // where we are the stricter one
		case (err == nil) != (xerr == nil):
			t.Fatalf("block %x: our error is %v, x/net's %v", block, err, xerr)
		case err != nil:
			return
		}
		got := pairs(&b)
		for i, w := range xpairs(want) {
			if isSecretPair(w) {
				w.Never = true
			}
			if got[i] != w {
				t.Fatalf("block %x: field %d is %v, x/net's is %v", block, i, got[i], w)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("block %x: %d fields, x/net has %d", block, len(got), len(want))
		}
	}
	if d.reduced {
		return // nothing but an update may come now
	}
	for i := range uint32(d.table.n) + 1 {
		block := appendInt(nil, 0x80, 0x7f, staticLen+1+i)
		want, xerr := xd.DecodeFull(block)
		b.Reset()
		err := d.Decode(block, &b, Limits{})
		if (err == nil) != (xerr == nil) || (err == nil) != (i < uint32(d.table.n)) {
			t.Fatalf("entry %d of %d: our error is %v, x/net's %v", i, d.table.n, err, xerr)
		}
		if err == nil && (want[0].Name != b.Fields[0].Name || want[0].Value != b.Fields[0].Value) {
			t.Fatalf("entry %d is %v, x/net's is %v", i, pairs(&b), want)
		}
	}
}

// blockBytes makes input for checkBlocks that is mostly legal.
func blockBytes(rng *rand.Rand) []byte {
	var out []byte
	for range 1 + rng.IntN(8) {
		if rng.IntN(4) == 0 {
			out = append(out, 0xf0|byte(rng.Uint32()))
		}
		var p []byte
		if rng.IntN(3) == 0 {
			p = appendInt(p, 0x20, 0x1f, uint32(rng.IntN(5000)))
		}
		for range rng.IntN(12) {
			index := uint32(rng.IntN(staticLen + 6))
			str := func() {
				s := strings.Repeat(string(rune('a'+rng.IntN(26))), rng.IntN(40))
				if rng.IntN(2) == 0 {
					h := xhpack.AppendHuffmanString(nil, s)
					p = append(appendInt(p, 0x80, 0x7f, uint32(len(h))), h...)
				} else {
					p = append(appendInt(p, 0, 0x7f, uint32(len(s))), s...)
				}
			}
			literal := func(kind, mask byte) {
				if rng.IntN(2) == 0 {
					index = 0
				}
				p = appendInt(p, kind, mask, index)
				if index == 0 {
					str()
				}
				str()
			}
			switch rng.IntN(8) {
			case 0, 1, 2:
				p = appendInt(p, 0x80, 0x7f, max(1, index))
			case 3, 4, 5:
				literal(0x40, 0x3f)
			case 6:
				literal(0x10, 0x0f)
			case 7:
				literal(0, 0x0f)
			}
		}
		if len(p) > 0 && rng.IntN(10) == 0 {
			p[rng.IntN(len(p))] ^= 1 << rng.IntN(8)
		}
		if len(p) < 0x400 {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(p))), p...)
		}
	}
	return out
}

func TestDifferentialBlocks(t *testing.T) {
	n := 20000
	if testing.Short() {
		n = 2000
	}
	for seed := range n {
		checkBlocks(t, blockBytes(rand.New(rand.NewPCG(uint64(seed), 2))))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzBlocks(f *testing.F) {
	for seed := range 6 {
		f.Add(blockBytes(rand.New(rand.NewPCG(uint64(seed), 3))))
	}
	f.Fuzz(func(t *testing.T, p []byte) { checkBlocks(t, p) })
}

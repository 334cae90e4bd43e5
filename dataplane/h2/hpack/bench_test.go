package hpack

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

// rpc is what a gRPC client sends with every call.
var rpc = []pair{
	{":method", "POST", false}, {":scheme", "http", false}, {":path", "/helloworld.Greeter/SayHello", false},
	{":authority", "greeter.example.com", false}, {"content-type", "application/grpc", false},
	{"user-agent", "grpc-go/1.85.0", false}, {"te", "trailers", false},
	{"x-tenant", "some-tenant", false},
}

// unique are three values that differ in every call.
func unique(i int) []Field {
	return []Field{
		NewUniqueField("x-request-id", fmt.Sprintf("6f1e8b54-7a64-4d6c-8f5d-%012d", i)),
		NewUniqueField("traceparent", fmt.Sprintf("00-%032d-00f067aa0ba902b7-01", i)),
		NewUniqueField("grpc-timeout", fmt.Sprintf("%dm", 100000+i)),
	}
}

// steady returns a relay's decoder and encoder that have seen the calls before,
// and the blocks of the next call.
func steady(t testing.TB, indexUnique, huffman bool) (d *Decoder, e *Encoder, block []byte) {
	d, e = NewDecoder(DefaultTableSize), NewEncoder()
	var buf bytes.Buffer
	xe := xhpack.NewEncoder(&buf)
	var b Block
	for range 3 {
		b.Reset()
		if err := d.Decode(xencode(t, xe, &buf, rpc), &b, Limits{}); err != nil {
			t.Fatal(err)
		}
		relay(e, &b)
	}
	block = xencode(t, xe, &buf, rpc)
	for _, f := range unique(1) {
		mask, kind := byte(0x0f), byte(0)
		if indexUnique {
			mask, kind = 0x3f, 0x40
		}
		block = appendInt(block, kind, mask, 0)
		for _, s := range []string{f.Name, f.Value} {
			if huffman {
				h := xhpack.AppendHuffmanString(nil, s)
				block = append(appendInt(block, 0x80, 0x7f, uint32(len(h))), h...)
			} else {
				block = append(appendInt(block, 0, 0x7f, uint32(len(s))), s...)
			}
		}
	}
	return d, e, block
}

func BenchmarkRelay(b *testing.B) {
	for _, bm := range []struct {
		name                 string
		indexUnique, huffman bool
		fields               int
	}{
		{"indexed", false, false, 8},
		{"unique", false, false, 11},
		{"unique-huffman", false, true, 11},
		{"unique-inserted", true, false, 11},
		{"unique-inserted-huffman", true, true, 11},
	} {
		b.Run(bm.name, func(b *testing.B) {
			d, e, block := steady(b, bm.indexUnique, bm.huffman)
			if bm.fields == 8 {
				block = block[:8]
			}
			b.ReportAllocs()
			var blk Block
			out := make([]byte, 0, 1024)
			for b.Loop() {
				blk.Reset()
				if err := d.Decode(block, &blk, Limits{64 << 10, 200}); err != nil {
					b.Fatal(err)
				}
				out = e.AppendList(e.Begin(out[:0]), blk.Fields)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(bm.fields), "ns/field")
			b.ReportMetric(float64(len(out)), "B/block")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, bm := range []struct {
		name string
		n    int
	}{{"indexed", 8}, {"unique", 0}} {
		b.Run(bm.name, func(b *testing.B) {
			d, _, block := steady(b, false, false)
			if bm.n > 0 {
				block = block[:8]
			} else {
				block = block[8:]
			}
			var blk Block
			b.ReportAllocs()
			for b.Loop() {
				blk.Reset()
				if err := d.Decode(block, &blk, Limits{64 << 10, 200}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(blk.Fields)), "ns/field")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"indexed", "unique"} {
		b.Run(name, func(b *testing.B) {
			d, e, block := steady(b, false, false)
			var blk Block
			if name == "indexed" {
				block = block[:8]
			} else {
				block = block[8:]
			}
			if err := d.Decode(block, &blk, Limits{}); err != nil {
				b.Fatal(err)
			}
			out := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				out = e.AppendList(e.Begin(out[:0]), blk.Fields)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(blk.Fields)), "ns/field")
		})
	}
}

func BenchmarkHuffman(b *testing.B) {
	src := xhpack.AppendHuffmanString(nil, "6f1e8b54-7a64-4d6c-8f5d-000000000001")
	dst := make([]byte, 128)
	for b.Loop() {
		if _, err := huffmanDecode(dst, src); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(36)
}

// Packing costs more time than the octets it saves.
func BenchmarkStringEncoding(b *testing.B) {
	s := "6f1e8b54-7a64-4d6c-8f5d-000000000001" + strings.Repeat("x", 4)
	dst := make([]byte, 0, 128)
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			dst = append(appendInt(dst[:0], 0, 0x7f, uint32(len(s))), s...)
		}
	})
	b.Run("huffman", func(b *testing.B) {
		for b.Loop() {
			n := xhpack.HuffmanEncodeLength(s)
			dst = xhpack.AppendHuffmanString(appendInt(dst[:0], 0x80, 0x7f, uint32(n)), s)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	for _, n := range []int{4, 16, 40} {
		s := strings.Repeat("v", n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var h uint32
			for b.Loop() {
				h += hashString(1, s)
			}
		})
	}
}

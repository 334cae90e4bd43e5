package hpack

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Appendix C.1: integers.
func TestAppendixCIntegers(t *testing.T) {
	for _, tc := range []struct {
		mask byte
		v    uint32
		want string
	}{
		{0x1f, 10, "0a"}, {0x1f, 1337, "1f9a0a"}, {0xff, 42, "2a"},
	} {
		want := unhex(t, tc.want)
		if got := appendInt(nil, 0, tc.mask, tc.v); !cmp.Equal(got, want) {
			t.Errorf("appendInt(%d) = %x, want %x", tc.v, got, want)
		}
		v, rest, err := readInt(want, tc.mask)
		if v != tc.v || len(rest) != 0 || err != nil {
			t.Errorf("readInt(%x) = %d, %x, %v, want %d", want, v, rest, err, tc.v)
		}
	}
}

// Appendix C.2: one field in a block, and the table after it.
func TestAppendixCFields(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		want        pair
		table       string
	}{
		{"C.2.1", "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", pair{"custom-key", "custom-header", false}, "custom-key: custom-header\n"},
		{"C.2.2", "040c 2f73 616d 706c 652f 7061 7468", pair{":path", "/sample/path", false}, ""},
		{"C.2.3", "1008 7061 7373 776f 7264 0673 6563 7265 74", pair{"password", "secret", true}, ""},
		{"C.2.4", "82", pair{":method", "GET", false}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := NewDecoder(DefaultTableSize)
			var b Block
			if err := d.Decode(unhex(t, tc.block), &b, Limits{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]pair{tc.want}, pairs(&b)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.table, tableText(&d.table)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type exampleBlock struct {
	plain, huffman string
	fields         []pair
	table          string
	size           uint32
}

// Appendices C.3 and C.4: three requests.
var exampleRequests = []exampleBlock{
	{
		plain:   "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
		huffman: "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
		fields:  []pair{{":method", "GET", false}, {":scheme", "http", false}, {":path", "/", false}, {":authority", "www.example.com", false}},
		table:   ":authority: www.example.com\n",
		size:    57,
	},
	{
		plain:   "8286 84be 5808 6e6f 2d63 6163 6865",
		huffman: "8286 84be 5886 a8eb 1064 9cbf",
		fields:  []pair{{":method", "GET", false}, {":scheme", "http", false}, {":path", "/", false}, {":authority", "www.example.com", false}, {"cache-control", "no-cache", false}},
		table:   "cache-control: no-cache\n:authority: www.example.com\n",
		size:    110,
	},
	{
		plain:   "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
		huffman: "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
		fields:  []pair{{":method", "GET", false}, {":scheme", "https", false}, {":path", "/index.html", false}, {":authority", "www.example.com", false}, {"custom-key", "custom-value", false}},
		table:   "custom-key: custom-value\ncache-control: no-cache\n:authority: www.example.com\n",
		size:    164,
	},
}

// Appendices C.5 and C.6: three responses and a table of 256 octets, so that
// entries are evicted.
var exampleResponses = []exampleBlock{
	{
		plain:   "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
		huffman: "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
		fields:  []pair{{":status", "302", false}, {"cache-control", "private", false}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT", false}, {"location", "https://www.example.com", false}},
		table:   "location: https://www.example.com\ndate: Mon, 21 Oct 2013 20:13:21 GMT\ncache-control: private\n:status: 302\n",
		size:    222,
	},
	{
		plain: "4803 3330 37c1 c0bf", huffman: "4883 640e ffc1 c0bf",
		fields: []pair{{":status", "307", false}, {"cache-control", "private", false}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT", false}, {"location", "https://www.example.com", false}},
		table:  ":status: 307\nlocation: https://www.example.com\ndate: Mon, 21 Oct 2013 20:13:21 GMT\ncache-control: private\n",
		size:   222,
	},
	{
		plain:   "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
		huffman: "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
		fields:  []pair{{":status", "200", false}, {"cache-control", "private", false}, {"date", "Mon, 21 Oct 2013 20:13:22 GMT", false}, {"location", "https://www.example.com", false}, {"content-encoding", "gzip", false}, {"set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1", false}},
		table:   "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\ncontent-encoding: gzip\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n",
		size:    215,
	},
}

func TestAppendixCDecode(t *testing.T) {
	for _, tc := range []struct {
		name    string
		table   uint32
		blocks  []exampleBlock
		huffman bool
	}{
		{"C.3", DefaultTableSize, exampleRequests, false},
		{"C.4", DefaultTableSize, exampleRequests, true},
		{"C.5", 256, exampleResponses, false},
		{"C.6", 256, exampleResponses, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := NewDecoder(tc.table)
			var b Block
			for i, x := range tc.blocks {
				src := x.plain
				if tc.huffman {
					src = x.huffman
				}
				b.Reset()
				if err := d.Decode(unhex(t, src), &b, Limits{}); err != nil {
					t.Fatalf("block %d: %v", i+1, err)
				}
				if diff := cmp.Diff(x.fields, pairs(&b)); diff != "" {
					t.Errorf("block %d: %s", i+1, diff)
				}
				if diff := cmp.Diff(x.table, tableText(&d.table)); diff != "" {
					t.Errorf("table after block %d: %s", i+1, diff)
				}
				if d.table.size != x.size {
					t.Errorf("table size after block %d is %d, want %d", i+1, d.table.size, x.size)
				}
			}
		})
	}
}

// The encoder does not use Huffman coding, so what it makes of configured
// fields is C.3 and C.5 to the octet.
func TestAppendixCEncode(t *testing.T) {
	for _, tc := range []struct {
		name   string
		table  uint32
		blocks []exampleBlock
	}{
		{"C.3", DefaultTableSize, exampleRequests},
		{"C.5", 256, exampleResponses},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := NewEncoder()
			e.SetMaxTable(tc.table)
			e.Begin(nil)
			for i, x := range tc.blocks {
				var fs []Field
				for _, p := range x.fields {
					fs = append(fs, NewField(p.Name, p.Value))
				}
				if diff := cmp.Diff(unhex(t, x.plain), encode(e, fs...)); diff != "" {
					t.Errorf("block %d: %s", i+1, diff)
				}
				if diff := cmp.Diff(x.table, tableText(&e.table)); diff != "" {
					t.Errorf("table after block %d: %s", i+1, diff)
				}
			}
		})
	}
}

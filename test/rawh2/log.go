package rawh2

import (
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Field is a header field. Sensitive: it is sent, or came, never-indexed.
type Field = hpack.HeaderField

// Fields makes fields of names and values in turn.
func Fields(nv ...string) []Field {
	f := make([]Field, 0, len(nv)/2)
	for i := 0; i+1 < len(nv); i += 2 {
		f = append(f, Field{Name: nv[i], Value: nv[i+1]})
	}
	return f
}

// Kind says what an Entry is.
type Kind uint8

// Kinds of entries.
const (
	Headers Kind = iota // a header block: request, response, 1xx, trailers
	Data
	Reset
	Lost // the connection ended before the stream
)

// Entry is something that came on a stream.
type Entry struct {
	Kind   Kind
	At     time.Time // of its first frame
	Fields []Field
	Data   []byte // up to keepData bytes
	N      int    // bytes of DATA
	Sum    uint32 // CRC-32C of them
	End    bool   // END_STREAM
	Code   http2.ErrCode
}

const keepData = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func dataEntry(p []byte, end bool) Entry {
	return Entry{Kind: Data, N: len(p), Sum: crc32.Checksum(p, castagnoli), Data: append([]byte(nil), p...), End: end}
}

// merge adds the DATA of a following frame.
func (e *Entry) merge(next Entry) {
	if e.N+next.N <= keepData {
		e.Data = append(e.Data, next.Data...)
	}
	e.N += next.N
	e.Sum = crc32.Update(e.Sum, castagnoli, next.Data)
	e.End = next.End
}

// Get returns the first value of a header, "" if there is none.
func (e *Entry) Get(name string) string {
	for _, f := range e.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Text is the log as lines to compare: a block with its fields, one DATA line
// for each run of bytes, END, RESET. A zero-length DATA frame without
// END_STREAM leaves no trace, and END looks the same on whatever frame it came.
func (s *Stream) Text() []string {
	var out []string
	for _, e := range s.Log() {
		switch e.Kind {
		case Headers:
			var b strings.Builder
			b.WriteString("HEADERS")
			for _, f := range e.Fields {
				fmt.Fprintf(&b, " %s=%s", f.Name, short(f.Value))
				if f.Sensitive {
					b.WriteString("(never indexed)")
				}
			}
			out = append(out, b.String())
		case Data:
			if e.N > 0 {
				out = append(out, fmt.Sprintf("DATA %d bytes, sum %08x", e.N, e.Sum))
			}
		case Reset:
			out = append(out, "RESET "+e.Code.String())
		case Lost:
			out = append(out, "LOST")
		}
		if e.End {
			out = append(out, "END")
		}
	}
	return out
}

// short quotes a value; a long one by its sum.
func short(v string) string {
	if len(v) <= 200 {
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%q... (%d bytes, sum %08x)", v[:16], len(v), crc32.Checksum([]byte(v), castagnoli))
}

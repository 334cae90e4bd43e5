package main

import (
	"io"
	"net/http"
	"testing"
)

// TestCompressedCases runs the cases of compression without a proxy, and
// against a server that gets them wrong: they must notice.
func TestCompressedCases(t *testing.T) {
	flip := func(w http.ResponseWriter, req *http.Request) {
		serveCompressed(&flipped{ResponseWriter: w}, req)
	}
	blind := func(w http.ResponseWriter, req *http.Request) { // expects nothing
		req.Body = &cleared{ReadCloser: req.Body}
		serveCompressed(w, req)
	}
	for _, tt := range []struct {
		name  string
		serve http.HandlerFunc
		fails [4]bool // in the order of compressedCases
	}{
		{"right", serveCompressed, [4]bool{}},
		{"responses with the other flag", flip, [4]bool{true, true, true, true}},
		{"requests lose their flag", blind, [4]bool{true, false, true, false}},
	} {
		b, err := startBackend(tt.serve)
		if err != nil {
			t.Fatal(err)
		}
		c := newRawClient("http://" + b.host + ":" + b.port)
		for i, cs := range compressedCases {
			if err := cs.run(t.Context(), c); (err != nil) != tt.fails[i] {
				t.Errorf("%s, %s: %v, want a failure: %v", tt.name, cs.name, err, tt.fails[i])
			}
		}
		c.close()
		b.stop()
	}
}

// flipped turns the flag of each message, which is one Write.
type flipped struct{ http.ResponseWriter }

func (f *flipped) Write(b []byte) (int, error) {
	b[0] ^= 1
	return f.ResponseWriter.Write(b)
}

// cleared takes the flag from the first message: what is in it stays.
type cleared struct {
	io.ReadCloser
	begun bool
}

func (c *cleared) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if n > 0 && !c.begun {
		c.begun = true
		b[0] = 0
	}
	return n, err
}

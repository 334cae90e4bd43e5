package hpack

import "unsafe"

// arena hands out memory for strings. Its current piece is filled and then left
// to whoever points into it: a piece never grows in place, so strings stay put.
type arena struct {
	piece []byte
}

// room returns the free part of a piece with at least n bytes of room; a new
// piece has size bytes or n if that is more. The caller fills a prefix of it
// and calls take.
func (a *arena) room(n, size int) []byte {
	if cap(a.piece)-len(a.piece) < n {
		a.piece = make([]byte, 0, max(n, size))
	}
	return a.piece[len(a.piece):cap(a.piece)]
}

// take makes a string of the first n bytes of what room returned.
func (a *arena) take(n int) string {
	if n == 0 {
		return ""
	}
	at := len(a.piece)
	a.piece = a.piece[:at+n]
	return unsafe.String(&a.piece[at], n)
}

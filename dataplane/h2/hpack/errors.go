package hpack

import "errors"

// ErrCompression is what every decoding error except ErrTooLarge matches with
// errors.Is: the tables of both sides may differ now, and the connection must end
// with COMPRESSION_ERROR (RFC 9113 section 4.3).
var ErrCompression = errors.New("hpack: compression error")

// ErrTooLarge says that a block was over its limits. All of it was decoded, so
// the connection can go on.
var ErrTooLarge = errors.New("hpack: header list too large")

// compressionError is one of the kinds of ErrCompression.
type compressionError string

func (e compressionError) Error() string { return "hpack: " + string(e) }

// Is makes the error match ErrCompression.
func (e compressionError) Is(target error) bool { return target == ErrCompression }

const (
	errTruncated      = compressionError("block ends inside a field")
	errInteger        = compressionError("integer too large")
	errIndex          = compressionError("index outside of the tables")
	errHuffman        = compressionError("invalid Huffman code")
	errUpdateLate     = compressionError("table size update after a field")
	errUpdateMany     = compressionError("more than two table size updates")
	errUpdateTooLarge = compressionError("table size update above the limit")
	errUpdateMissing  = compressionError("no table size update after the limit was reduced")
)

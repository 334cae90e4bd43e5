// Package hpack is a header compression codec (RFC 7541) for relaying.
//
// A proxy decodes a block from one connection and encodes it into another, and
// most fields are the same on every call. So a Field carries its name's number
// and its hashes from the decoder's table into the encoder's: a field that came
// indexed is found again without hashing, without a Go map and without an
// allocation.
//
// Strings live in three places. Names that package hdr knows and values of the
// static table are constants. Entries of a dynamic table own their strings, in
// ordinary memory that stays valid for as long as anything points to it. All
// other strings of a decoded block are in the Block's arena and are valid until
// its Reset. Pieces of an arena never grow in place, so a string stays put while
// later fields are appended.
//
// What the encoder indexes: fields made by NewField, and fields that the decoder
// met as an index, because only those are known to repeat. It adds no values that
// have not repeated, so unique ids and timeouts do not push out what is useful.
// A field that was received never-indexed stays so (RFC 7541 section 6.2.3), and
// short values of authorization and cookie are never indexed (section 7.1.3).
// The encoder does not use Huffman coding: packing 40 octets takes 37 ns and
// copying them 3 (BenchmarkStringEncoding), and what repeats is sent once anyway.
//
// Hashes have a constant seed, so that a simulated run repeats in another
// process. A peer who makes collisions on purpose costs compression, not time.
//
// The package does not judge fields: case, order, pseudo-headers and forbidden
// bytes are the business of package h2. It only keeps what Decoder.Check said. Nothing here may be used by two
// goroutines at once.
package hpack

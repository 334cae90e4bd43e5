// Package hdr names the well-known header fields, so that filters, routing and
// the relay switch on a number instead of comparing strings.
package hdr

// ID is a well-known header name; 0 is any other name.
type ID uint8

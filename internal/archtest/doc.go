// Package archtest holds the import rules of this module and checks them.
//
// It parses every file itself and follows imports itself: a `go list`
// subprocess would be cached by `go test` and miss changes. It checks each
// package's own imports and, where a rule says so, everything that they pull
// in, through packages of this module and through those of its dependencies
// that the rule names directly.
package archtest

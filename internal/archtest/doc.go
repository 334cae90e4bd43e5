// Package archtest holds the import rules of this module and checks them.
//
// It parses every non-test file itself, whatever its build constraints, and
// follows imports itself: a `go list` subprocess would be cached by `go test`
// and miss changes. Imports are followed through the packages of this module.
// What lies behind a dependency is not looked at: a rule sees that a package
// imports it, directly or through ours, not what it imports in turn.
//
// Rules (rules.go) are about packages; CheckPurity (purity.go) looks into the
// files of the pure packages and of all that they import of ours. Unmatched
// tells of rules that are about nothing.
package archtest

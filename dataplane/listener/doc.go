// Package listener describes a listener and chooses the filter chain of a
// connection, by Envoy's nine steps exactly.
//
// It is pure: it opens no socket. Package xdsconfig makes Listeners; the
// dataplane binds their addresses and asks Table.Choose once per connection.
package listener

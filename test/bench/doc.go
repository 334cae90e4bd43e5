// Command bench measures what an HTTP/2 gRPC proxy costs: CPU time per call,
// beside other proxies, on loopback. README.md tells how to run it and what the
// figures are.
//
// Reading order: load.go and h2.go (the generator), backend.go (what answers
// it), run.go (targets started, measured and stopped), report.go, budget.go and
// page.go (tables, ceilings, docs/performance.md), pgo.go (a profile for the
// compiler). It runs on Linux: CPU time and memory come from /proc.
//
// It does not judge: a figure is compared by who reads it, within one run.
package main

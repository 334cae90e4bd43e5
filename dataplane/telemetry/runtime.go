package telemetry

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// AddServer adds Envoy's server.* gauges, and of Go's runtime what an operator
// of this proxy asks first: server.goroutines does not grow with streams,
// server.allocations, of all time, hardly with calls.
func (r *Registry) AddServer(begin time.Time, live func() bool) {
	r.GaugeFunc("server.live", func() uint64 {
		if live() {
			return 1
		}
		return 0
	})
	r.GaugeFunc("server.uptime", func() uint64 { return uint64(time.Since(begin) / time.Second) })
	r.GaugeFunc("server.goroutines", func() uint64 { return uint64(runtime.NumGoroutine()) })
	r.GaugeFunc("server.allocations", sample("/gc/heap/allocs:objects"))
	r.GaugeFunc("server.memory_allocated", sample("/memory/classes/heap/objects:bytes"))
	r.GaugeFunc("server.memory_heap_size", sample("/memory/classes/total:bytes"))
}

// sample reads one of the runtime's metrics without stopping the world.
func sample(name string) func() uint64 {
	return func() uint64 {
		s := []metrics.Sample{{Name: name}}
		metrics.Read(s)
		if s[0].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return s[0].Value.Uint64()
	}
}

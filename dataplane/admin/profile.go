package admin

import (
	"fmt"
	"net/http"
	"os"
	"runtime/pprof"
	"sync"
)

// defaultProfilePath is Envoy's default of admin.profile_path.
const defaultProfilePath = "/var/log/envoy/envoy.prof"

// profiler is the CPU profile in progress, if any. Safe for concurrent use.
type profiler struct {
	mu   sync.Mutex // guards file
	file *os.File
}

// cpuProfiler starts or stops a CPU profile into the bootstrap's
// admin.profile_path (Envoy's /cpuprofiler?enable=y|n).
func (h *Handler) cpuProfiler(w http.ResponseWriter, r *http.Request) {
	path := h.o.Bootstrap.GetAdmin().GetProfilePath()
	if path == "" {
		path = defaultProfilePath
	}
	var err error
	switch on := r.URL.Query().Get("enable"); on {
	case "y":
		err = h.cpu.start(path)
	case "n":
		err = h.cpu.stop()
	default:
		http.Error(w, "?enable=<y|n>", http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	text(w, "OK\n")
}

func (p *profiler) start(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		return fmt.Errorf("a profile is being written to %s", p.file.Name())
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return err
	}
	p.file = f
	return nil
}

func (p *profiler) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil // as Envoy: stopping twice is no fault
	}
	pprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	return err
}

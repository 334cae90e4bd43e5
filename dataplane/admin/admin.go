package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// Options say what the interface shows. Fields that are nil leave out what
// they would answer.
type Options struct {
	Bootstrap *bootstrapv3.Bootstrap
	Registry  *telemetry.Registry
	Counters  telemetry.Source
	Listeners func() []Listener
	Config    Config
	// Drain drains and closes listeners. It returns at once.
	Drain func(Drain)
	// Quit ends the process, gracefully. It returns at once.
	Quit func()
	// Stopping is closed when the process begins to end: it is DRAINING then.
	Stopping    <-chan struct{}
	Version     string
	CommandLine *adminv3.CommandLineOptions // for /server_info
	Logger      *slog.Logger
	// Level is the log level, for /logging; nil: it cannot be changed.
	Level *slog.LevelVar
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Drain are the parameters of /drain_listeners.
type Drain struct {
	Graceful    bool
	InboundOnly bool
	SkipExit    bool
}

// Listener is a bound listener.
type Listener struct {
	Name      string
	Addresses []string
	Serving   bool // false: it warms, and accepts nothing yet
}

// Handler answers the administration paths. Safe for concurrent use.
type Handler struct {
	o      Options
	mux    *http.ServeMux
	begin  time.Time
	failed atomic.Bool // POST /healthcheck/fail
	pages  []page
	cpu    profiler
}

// page is one path, for /help.
type page struct{ path, help string }

// New returns the handler.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{o: o, mux: http.NewServeMux(), begin: o.Now()}
	if o.Registry != nil {
		o.Registry.AddServer(h.begin, func() bool { return h.state() == adminv3.ServerInfo_LIVE })
	}
	h.get("/ready", "200 LIVE when the proxy serves, 503 and its state otherwise", h.ready)
	h.get("/stats", "counters and gauges (usedonly, filter=REGEX, format=json|prometheus)", h.stats)
	h.get("/stats/prometheus", "counters and gauges for Prometheus", h.prometheus)
	h.get("/server_info", "version, state, uptime, command line", h.serverInfo)
	h.get("/listeners", "listeners that accept (format=json)", h.listeners)
	h.get("/clusters", "clusters and their hosts", h.clusters)
	h.get("/config_dump", "the whole configuration (include_eds, name_regex=REGEX, resource=FIELD, mask=FIELDS)", h.configDump)
	h.get("/init_dump", "what is not ready yet, and what it waits for", h.initDump)
	h.get("/certs", "certificates and authorities in use", h.certs)
	h.get("/runtime", "runtime values of the bootstrap's static layers", h.runtime)
	h.get("/memory", "memory in use", h.memory)
	h.get("/heap_dump", "collect garbage, then dump the heap profile for go tool pprof", h.heapDump)
	h.get("/help", "this list", h.help)
	h.get("/{$}", "this list", h.help)
	h.post("/healthcheck/fail", "make /ready and health checks fail", func(w http.ResponseWriter, _ *http.Request) {
		h.failed.Store(true)
		text(w, "OK\n")
	})
	h.post("/healthcheck/ok", "undo /healthcheck/fail", func(w http.ResponseWriter, _ *http.Request) {
		h.failed.Store(false)
		text(w, "OK\n")
	})
	h.post("/drain_listeners", "close listeners and drain their connections (graceful, inboundonly, skip_exit)", func(w http.ResponseWriter, r *http.Request) {
		if h.o.Drain != nil {
			q := r.URL.Query()
			h.o.Drain(Drain{Graceful: q.Has("graceful"), InboundOnly: q.Has("inboundonly"), SkipExit: q.Has("skip_exit")})
		}
		text(w, "OK\n")
	})
	h.post("/logging", "show the log level, or change it (level=LEVEL)", h.logging)
	h.post("/reset_counters", "make all counters begin at zero again", h.resetCounters)
	h.post("/cpuprofiler", "write a CPU profile to admin.profile_path (enable=y|n)", h.cpuProfiler)
	h.post("/quitquitquit", "end the process", func(w http.ResponseWriter, _ *http.Request) {
		text(w, "OK\n")
		if h.o.Quit != nil {
			h.o.Quit()
		}
	})
	return h
}

func (h *Handler) get(path, help string, f http.HandlerFunc) {
	h.mux.HandleFunc("GET "+path, f)
	h.pages = append(h.pages, page{path, help})
}

func (h *Handler) post(path, help string, f http.HandlerFunc) {
	h.mux.HandleFunc("POST "+path, f)
	h.pages = append(h.pages, page{path, help + " (POST)"})
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, max-age=0")
	h.mux.ServeHTTP(w, r)
}

// Serve answers on ln until ctx is done.
func (h *Handler) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // what is open is cut
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	_, _ = w.Write([]byte(s)) // the client may be gone
}

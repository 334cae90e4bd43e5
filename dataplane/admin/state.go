package admin

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// unready returns what the proxy, its clusters and its listeners wait for.
func (h *Handler) unready() (out []*adminv3.UnreadyTargetsDumps_UnreadyTargetsDump) {
	if h.o.Config == nil {
		return nil
	}
	st := h.o.Config.Status()
	add := func(name string, targets ...string) {
		out = append(out, &adminv3.UnreadyTargetsDumps_UnreadyTargetsDump{Name: name, TargetNames: targets})
	}
	if !st.Ready {
		add("init manager Server", st.Stage)
	}
	for _, c := range st.Clusters {
		if c.Warming != "" {
			add(fmt.Sprintf("init manager Cluster %s", c.Name), c.Warming)
		}
	}
	for _, l := range st.Listeners {
		if l.Warming != "" {
			add(fmt.Sprintf("init manager Listener-local-init-manager %s", l.Name), strings.Split(l.Warming, "; ")...)
		}
	}
	return out
}

// initDump is Envoy's /init_dump: who is not ready yet, and for want of what.
func (h *Handler) initDump(w http.ResponseWriter, _ *http.Request) {
	writeProto(w, &adminv3.UnreadyTargetsDumps{UnreadyTargetsDumps: h.unready()})
}

// whyNot are the lines of /ready below the state while the proxy initialises.
func (h *Handler) whyNot() string {
	var b strings.Builder
	for _, u := range h.unready() {
		fmt.Fprintf(&b, "%s: %s\n", strings.TrimPrefix(strings.TrimPrefix(u.GetName(), "init manager "), "Listener-local-init-manager "), strings.Join(u.GetTargetNames(), ", "))
	}
	return b.String()
}

func (h *Handler) certs(w http.ResponseWriter, _ *http.Request) {
	out := &adminv3.Certificates{}
	if h.o.Config != nil {
		out.Certificates = h.o.Config.Certificates()
	}
	writeProto(w, out)
}

// runtime is Envoy's /runtime: the layers, and of each key its value in each
// of them and the one that counts.
func (h *Handler) runtime(w http.ResponseWriter, _ *http.Request) {
	type entry struct {
		Layers []string `json:"layer_values"`
		Final  string   `json:"final_value"`
	}
	out := struct {
		Layers  []string         `json:"layers"`
		Entries map[string]entry `json:"entries"`
	}{[]string{}, map[string]entry{}}
	r := xdsconfig.NewRuntime(h.o.Bootstrap.GetLayeredRuntime())
	out.Layers = append(out.Layers, r.Layers...)
	for key, e := range r.Entries {
		out.Entries[key] = entry{e.Layers, e.Final}
	}
	writeJSON(w, out)
}

// levels are the log levels by Envoy's names.
var levels = map[string]slog.Level{
	"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn,
	"error": slog.LevelError, "critical": slog.LevelError + 4, "off": slog.LevelError + 100,
}

// logging shows the log level, and changes it. There is one logger.
func (h *Handler) logging(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if len(q) > 0 {
		name := strings.ToLower(q.Get("level"))
		if name == "warn" {
			name = "warning"
		}
		l, ok := levels[name]
		switch {
		case len(q) != 1 || !q.Has("level"):
			http.Error(w, "usage: /logging (shows the level) or /logging?level=LEVEL: there is one logger", http.StatusBadRequest)
			return
		case !ok:
			http.Error(w, fmt.Sprintf("level %q: want one of %s", q.Get("level"), strings.Join(slices.Sorted(maps.Keys(levels)), ", ")), http.StatusBadRequest)
			return
		case h.o.Level == nil:
			http.Error(w, "the log level cannot be changed here", http.StatusNotImplemented)
			return
		}
		h.o.Level.Set(l)
	}
	present := "unknown"
	if h.o.Level != nil {
		for name, l := range levels {
			if l == h.o.Level.Level() {
				present = name
			}
		}
	}
	text(w, "active loggers:\n  main: "+present+"\n\n")
}

func (h *Handler) resetCounters(w http.ResponseWriter, _ *http.Request) {
	if h.o.Registry != nil {
		h.o.Registry.Reset(h.o.Counters)
	}
	text(w, "OK\n")
}

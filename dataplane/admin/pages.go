package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// state is the proxy's state in Envoy's terms.
func (h *Handler) state() adminv3.ServerInfo_State {
	select {
	case <-h.o.Stopping:
		return adminv3.ServerInfo_DRAINING
	default:
	}
	switch {
	case h.failed.Load():
		return adminv3.ServerInfo_DRAINING
	case h.o.Config == nil:
		return adminv3.ServerInfo_LIVE
	}
	select {
	case <-h.o.Config.Ready():
		return adminv3.ServerInfo_LIVE
	default:
		return adminv3.ServerInfo_INITIALIZING
	}
}

func (h *Handler) ready(w http.ResponseWriter, _ *http.Request) {
	s := h.state()
	if s != adminv3.ServerInfo_LIVE {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	body := s.String() + "\n"
	if s == adminv3.ServerInfo_INITIALIZING {
		body += h.whyNot()
	}
	text(w, body)
}

func (h *Handler) serverInfo(w http.ResponseWriter, _ *http.Request) {
	info := &adminv3.ServerInfo{
		Version:            h.o.Version,
		State:              h.state(),
		UptimeCurrentEpoch: durationpb.New(h.o.Now().Sub(h.begin)),
		UptimeAllEpochs:    durationpb.New(h.o.Now().Sub(h.begin)),
		Node:               h.o.Bootstrap.GetNode(),
		CommandLineOptions: h.o.CommandLine,
	}
	writeWhole(w, info)
}

// writeProto writes m as Envoy does: JSON with the names of the API, indented.
func writeProto(w http.ResponseWriter, m proto.Message) {
	writeMessage(w, m, protojson.MarshalOptions{UseProtoNames: true})
}

// writeWhole is writeProto for messages that Envoy writes with all values, zero
// or not: the state LIVE is zero.
func writeWhole(w http.ResponseWriter, m proto.Message) {
	writeMessage(w, m, protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true})
}

func writeMessage(w http.ResponseWriter, m proto.Message, o protojson.MarshalOptions) {
	b, err := o.Marshal(m)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", " "); err != nil { // protojson's own spacing is random
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out.Bytes()) // the client may be gone
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func (h *Handler) listeners(w http.ResponseWriter, r *http.Request) {
	var list []Listener
	if h.o.Listeners != nil { // those that warm are not there yet, as in Envoy
		list = filter(h.o.Listeners(), func(l Listener) bool { return l.Serving })
	}
	if r.URL.Query().Get("format") == "json" {
		out := &adminv3.Listeners{}
		for _, l := range list {
			st := &adminv3.ListenerStatus{Name: l.Name}
			for i, a := range l.Addresses {
				if p := protoAddress(a); i == 0 {
					st.LocalAddress = p
				} else {
					st.AdditionalLocalAddresses = append(st.AdditionalLocalAddresses, p)
				}
			}
			out.ListenerStatuses = append(out.ListenerStatuses, st)
		}
		writeProto(w, out)
		return
	}
	var b strings.Builder
	for _, l := range list {
		for _, a := range l.Addresses {
			fmt.Fprintf(&b, "%s::%s\n", l.Name, a)
		}
	}
	text(w, b.String())
}

func (h *Handler) memory(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	writeWhole(w, &adminv3.Memory{
		Allocated:          m.HeapInuse,
		HeapSize:           m.HeapSys,
		PageheapUnmapped:   m.HeapReleased,
		PageheapFree:       m.HeapIdle - m.HeapReleased,
		TotalPhysicalBytes: m.Sys,
	})
}

// heapDump is Envoy's /heap_dump. Go's profile shows the heap as of the last
// collection, so one runs first.
func (h *Handler) heapDump(w http.ResponseWriter, _ *http.Request) {
	runtime.GC()
	w.Header().Set("Content-Type", "application/octet-stream")
	_ = pprof.WriteHeapProfile(w) // the client may be gone
}

func (h *Handler) help(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	b.WriteString("admin commands are:\n")
	for _, p := range h.pages {
		fmt.Fprintf(&b, "  %s: %s\n", strings.TrimSuffix(p.path, "{$}"), p.help)
	}
	text(w, b.String())
}

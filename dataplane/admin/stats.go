package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// atOnce is how much of a page that may be long is written at once.
const atOnce = 32 << 10

func (h *Handler) stats(w http.ResponseWriter, r *http.Request) {
	h.showStats(w, r, r.URL.Query().Get("format"))
}

func (h *Handler) prometheus(w http.ResponseWriter, r *http.Request) {
	h.showStats(w, r, "prometheus")
}

// showStats writes the stats as they are read: with many clusters they are long.
// The client may be gone before the end.
func (h *Handler) showStats(w http.ResponseWriter, r *http.Request, format string) {
	keep, err := keepStats(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	read := func() *telemetry.Reading {
		if h.o.Registry == nil {
			return new(telemetry.Reading)
		}
		return h.o.Registry.Read(h.o.Counters, keep)
	}
	switch format {
	case "", "text":
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		err = writeStats(w, read())
	case "json":
		w.Header().Set("Content-Type", "application/json")
		err = writeStatsJSON(w, read())
	case "prometheus":
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		err = read().WritePrometheus(w)
	default:
		http.Error(w, fmt.Sprintf("format %q: want text, json or prometheus", format), http.StatusBadRequest)
	}
	if err != nil {
		h.o.Logger.Debug("writing stats", "reason", err)
	}
}

// keepStats returns which stats the query asks for.
func keepStats(q url.Values) (func(name []byte, s *telemetry.Stat) bool, error) {
	var filter *regexp.Regexp
	if f := q.Get("filter"); f != "" {
		var err error
		if filter, err = regexp.Compile(f); err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
	}
	used := q.Has("usedonly")
	return func(name []byte, s *telemetry.Stat) bool {
		return (!used || s.Value != 0 || s.Text != "") && (filter == nil || filter.Match(name))
	}, nil
}

func writeStats(w http.ResponseWriter, x *telemetry.Reading) error {
	b := bufio.NewWriterSize(w, atOnce)
	for name, s := range x.All() {
		line := append(b.AvailableBuffer(), name...)
		line = append(line, ": "...)
		switch {
		case s.Histogram != nil:
			line = append(line, s.Histogram.String()...)
		case s.IsText:
			line = strconv.AppendQuote(line, s.Text)
		default:
			line = strconv.AppendUint(line, s.Value, 10)
		}
		if _, err := b.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return b.Flush()
}

// writeStatsJSON writes {"stats":[{"name":"x","value":1},…]}. A value is a
// number or a text; that of a histogram, how much it counted.
func writeStatsJSON(w http.ResponseWriter, x *telemetry.Reading) error {
	b := bufio.NewWriterSize(w, atOnce)
	begin := `{"stats":[`
	for name, s := range x.All() {
		line := append(b.AvailableBuffer(), begin...)
		begin = ","
		line = append(line, `{"name":`...)
		line = appendJSON(line, name)
		line = append(line, `,"value":`...)
		if s.IsText {
			line = appendJSON(line, []byte(s.Text))
		} else {
			line = strconv.AppendUint(line, s.Value, 10)
		}
		if s.Histogram != nil {
			line = append(line, `,"histogram":`...)
			line = appendJSON(line, []byte(s.Histogram.String()))
		}
		if _, err := b.Write(append(line, '}')); err != nil {
			return err
		}
	}
	if begin != "," {
		_, _ = b.WriteString(begin) // Flush has the error
	}
	_, _ = b.WriteString("]}\n")
	return b.Flush()
}

// appendJSON appends s as encoding/json writes it, in most cases without it.
func appendJSON(to, s []byte) []byte {
	for _, c := range s {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(string(s)) // a string always can be
			return append(to, quoted...)
		}
	}
	to = append(to, '"')
	to = append(to, s...)
	return append(to, '"')
}

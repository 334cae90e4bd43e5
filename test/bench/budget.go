package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// budget is a ceiling for a figure of ours divided by another proxy's.
type budget struct {
	workload, ours, theirs string
	ceiling, aim           float64
	figure                 func(s sample) float64
}

func cpuOf(s sample) float64 { return s.CPUus }

// budgetList is what the project promises itself: CPU per call against nghttpx
// with one worker thread, latency against a plain copy of bytes.
var budgetList = []budget{
	{"W1", "sluice-full", "nghttpx-1", 0.6, 0.4, cpuOf},
	{"W1v", "sluice-full", "nghttpx-1", 0.6, 0.4, cpuOf},
	{"W3", "sluice-full", "nghttpx-1", 0.85, 0.7, cpuOf},
	{"W4", "sluice-full", "nghttpx-1", 0.95, 0.8, cpuOf},
	{"W6", "sluice-full", "nghttpx-1", 0.9, 0.7, cpuOf},
	{"W7", "sluice-full", "nghttpx-1", 0.9, 0.7, cpuOf},
	{"W2", "sluice-full", "tcp-copy", 1.3, 1.0, func(s sample) float64 { return s.P50 }},
	{"W1", "sluice-full-tls", "nghttpx-1-tls", 0.7, 0.5, cpuOf},
	{"W3", "sluice-full-tls", "nghttpx-1-tls", 0.9, 0.7, cpuOf},
	{"W6", "sluice-full-tls", "nghttpx-1-tls", 1.0, 0.8, cpuOf},
}

// budgets writes how the samples stand to the budgets: the median of the
// ratios of samples of the same repetition, and their range.
func budgets(w io.Writer, by map[string]map[string][]sample) {
	fmt.Fprintf(w, "\n| budget | ratio (median, range over repetitions) | ceiling | aim | |\n|---|---|---|---|---|\n")
	for _, b := range budgetList {
		var ratios []float64
		for _, o := range by[b.ours][b.workload] {
			for _, t := range by[b.theirs][b.workload] {
				if o.Rep == t.Rep && b.figure(t) > 0 && b.figure(o) > 0 {
					ratios = append(ratios, b.figure(o)/b.figure(t))
				}
			}
		}
		if len(ratios) == 0 {
			continue
		}
		slices.Sort(ratios)
		m := ratios[len(ratios)/2]
		if len(ratios)%2 == 0 {
			m = (ratios[len(ratios)/2-1] + m) / 2
		}
		verdict := "missed"
		switch {
		case m <= b.aim:
			verdict = "aim"
		case m <= b.ceiling:
			verdict = "holds"
		}
		fmt.Fprintf(w, "| %s %s / %s | %s | %.2f | %.2f | %s |\n", b.workload, b.ours, b.theirs, stat(ratios, 2), b.ceiling, b.aim, verdict)
	}
	runtimeTable(w, by)
}

// runtimeTable writes what targets with an administration interface tell of
// their runtime.
func runtimeTable(w io.Writer, by map[string]map[string][]sample) {
	const ours = "sluice-full"
	var names, allocs, routines []string
	for _, wl := range []string{"W5", "W1", "W1v", "W2", "W3", "W4", "W6", "W7"} {
		var a, r []float64
		for _, s := range by[ours][wl] {
			if s.Routines > 0 {
				a, r = append(a, s.Allocs), append(r, s.Routines)
			}
		}
		if len(r) == 0 {
			continue
		}
		names = append(names, wl)
		allocs = append(allocs, stat(a, 3))
		routines = append(routines, stat(r, 0))
	}
	if len(names) == 0 {
		return
	}
	row := func(title string, cells []string) { fmt.Fprintf(w, "| %s | %s |\n", title, strings.Join(cells, " | ")) }
	fmt.Fprintln(w)
	row(ours, names)
	fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---|", len(names)))
	row("allocations per call", allocs)
	row("goroutines", routines)
}

// runtimeOf asks a proxy's administration interface for the allocations since
// its start and its goroutines; zeros if it has none.
func runtimeOf(admin string) (allocs, goroutines float64) {
	if admin == "" {
		return 0, 0
	}
	c := http.Client{Timeout: 2 * time.Second}
	rsp, err := c.Get("http://" + admin + "/stats?filter=" + url.QueryEscape(`^server\.(allocations|goroutines)$`))
	if err != nil {
		return 0, 0
	}
	defer rsp.Body.Close()
	for sc := bufio.NewScanner(rsp.Body); sc.Scan(); {
		name, v, _ := strings.Cut(sc.Text(), ": ")
		n, _ := strconv.ParseFloat(v, 64)
		switch name {
		case "server.allocations":
			allocs = n
		case "server.goroutines":
			goroutines = n
		}
	}
	return allocs, goroutines
}

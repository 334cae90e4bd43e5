package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
)

func reportMain(args []string) {
	var samples []sample
	for _, a := range args {
		f, err := os.Open(a)
		if err != nil {
			fatal(err)
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			var s sample
			if json.Unmarshal(sc.Bytes(), &s) == nil {
				samples = append(samples, s)
			}
		}
		f.Close()
	}
	report(samples)
}

func stat(v []float64, prec int) string {
	if len(v) == 0 {
		return "-"
	}
	sort.Float64s(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return fmt.Sprintf("%.*f (%.*f-%.*f)", prec, m, prec, v[0], prec, v[len(v)-1])
}

// table writes the one table that matters: CPU per call, or KiB per idle
// connection, for every target and workload.
func table(w io.Writer, order, wls []string, by map[string]map[string][]sample) {
	fmt.Fprintf(w, "\n| proxy CPU µs per call |")
	for _, wl := range wls {
		switch wl {
		case "W5":
			wl = "W5 KiB"
		case "W2":
			wl = "W2 | W2 p50 µs"
		}
		fmt.Fprintf(w, " %s |", wl)
	}
	cols := len(wls)
	if slices.Contains(wls, "W2") {
		cols++
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", cols))
	for _, t := range order {
		fmt.Fprintf(w, "| %s |", t)
		for _, wl := range wls {
			var v []float64
			errs := int64(0)
			for _, s := range by[t][wl] {
				errs += s.Errors
				if wl == "W5" {
					v = append(v, s.KBConn)
				} else {
					v = append(v, s.CPUus)
				}
			}
			cell := stat(v, 1)
			if errs > 0 {
				cell += fmt.Sprintf(" %d errors", errs)
			}
			fmt.Fprintf(w, " %s |", cell)
			if wl == "W2" {
				var p50 []float64
				for _, s := range by[t][wl] {
					p50 = append(p50, s.P50)
				}
				fmt.Fprintf(w, " %s |", stat(p50, 0))
			}
		}
		fmt.Fprintln(w)
	}
}

// group sorts samples by target, in order of appearance, and workload.
func group(samples []sample) (order, wls []string, by map[string]map[string][]sample) {
	by = map[string]map[string][]sample{}
	seen := map[string]bool{}
	for _, s := range samples {
		if by[s.Target] == nil {
			by[s.Target] = map[string][]sample{}
			order = append(order, s.Target)
		}
		by[s.Target][s.Workload] = append(by[s.Target][s.Workload], s)
		if !seen[s.Workload] {
			seen[s.Workload] = true
			wls = append(wls, s.Workload)
		}
	}
	sort.Strings(wls)
	return order, wls, by
}

func report(samples []sample) {
	order, wls, by := group(samples)
	table(os.Stdout, order, wls, by)
	for _, w := range wls {
		if w == "W5" {
			fmt.Printf("\n%s\n| target | KiB per connection | RSS peak MiB | errors |\n|---|---|---|---|\n", w)
		} else {
			fmt.Printf("\n%s\n| target | CPU us/RPC | user | sys | RPC/s | p50 us | p99 us | RSS peak MiB | errors |\n|---|---|---|---|---|---|---|---|---|\n", w)
		}
		for _, t := range order {
			ss := by[t][w]
			if len(ss) == 0 {
				continue
			}
			col := func(f func(sample) float64, prec int) string {
				var v []float64
				for _, s := range ss {
					v = append(v, f(s))
				}
				return stat(v, prec)
			}
			med := func(f func(sample) float64, prec int) string {
				x, _, _ := strings.Cut(col(f, prec), " ")
				return x
			}
			var errs int64
			for _, s := range ss {
				errs += s.Errors
			}
			if w == "W5" {
				fmt.Printf("| %s | %s | %s | %d |\n", t, col(func(s sample) float64 { return s.KBConn }, 1),
					med(func(s sample) float64 { return s.PeakMB }, 0), errs)
				continue
			}
			fmt.Printf("| %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", t,
				col(func(s sample) float64 { return s.CPUus }, 1),
				med(func(s sample) float64 { return s.UserUs }, 1),
				med(func(s sample) float64 { return s.SysUs }, 1),
				col(func(s sample) float64 { return s.Rate }, 0),
				col(func(s sample) float64 { return s.P50 }, 0),
				col(func(s sample) float64 { return s.P99 }, 0),
				med(func(s sample) float64 { return s.PeakMB }, 0), errs)
		}
	}
}

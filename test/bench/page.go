package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const (
	docBegin = "<!-- bench: begin; written by make bench -->"
	docEnd   = "<!-- bench: end -->"
)

// writeDoc replaces the part of a page between the marks by the table of
// samples, and writes a plot beside it.
func writeDoc(page string, samples []sample, args []string) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(b, []byte(docBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(docEnd))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks for the table", page)
	}
	order, wls, by := group(samples)
	plot := strings.TrimSuffix(filepath.Base(page), filepath.Ext(page)) + ".svg"
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s\n\n`bench run %s`, one run, repetitions interleaved; median (minimum-maximum). %s\n", docBegin, strings.Join(args, " "), machine())
	table(&out, order, wls, by)
	budgets(&out, by)
	fmt.Fprintf(&out, "\n![CPU per call, relative to nghttpx with one thread, for TLS with TLS](%s)\n\n%s", plot, docEnd)
	if err := os.WriteFile(page, slices.Concat(before, out.Bytes(), after), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(filepath.Dir(page), plot), svg(order, wls, by), 0o644)
}

// machine describes where the figures were measured.
func machine() string {
	kernel, _ := exec.Command("uname", "-r").Output() // left out if there is none
	return fmt.Sprintf("%d cores, Linux %s, %s.", runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}

// reference is the target that the plot's bars are relative to, for targets
// with TLS its own.
func reference(target string) string {
	if strings.HasSuffix(target, "-tls") {
		return "nghttpx-1-tls"
	}
	return "nghttpx-1"
}

// svg draws, for each workload, a bar for each target: its CPU per call
// divided by the reference's.
func svg(order, wls []string, by map[string]map[string][]sample) []byte {
	const barH, gap, left, scale, maxRatio = 12, 14, 130, 220.0, 3.0
	median := func(t, w string) float64 {
		var v []float64
		for _, s := range by[t][w] {
			if w == "W5" {
				v = append(v, s.KBConn)
			} else {
				v = append(v, s.CPUus)
			}
		}
		if len(v) == 0 {
			return 0
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	var b bytes.Buffer
	y := 24
	for _, w := range wls {
		if median("nghttpx-1", w) == 0 {
			continue
		}
		unit := "CPU per call"
		if w == "W5" {
			unit = "memory per idle connection"
		}
		fmt.Fprintf(&b, `<text x="4" y="%d" font-weight="bold">%s: %s / nghttpx</text>`+"\n", y, w, unit)
		y += 6
		for _, t := range order {
			m, ref := median(t, w), median(reference(t), w)
			if m == 0 || ref == 0 || t == "direct" {
				continue
			}
			r := m / ref
			fill := "#9aa5b1"
			if strings.HasPrefix(t, "sluice") {
				fill = "#2f6fde"
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%.2f</text>`+"\n",
				left-6, y+barH-2, t, left, y, min(r, maxRatio)*scale, barH-2, fill, left+min(r, maxRatio)*scale+4, y+barH-2, r)
			y += barH
		}
		y += gap + 10
	}
	x := float64(left) + scale
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="10">`+"\n"+
		`<rect width="100%%" height="100%%" fill="white"/><line x1="%.0f" x2="%.0f" y1="0" y2="%d" stroke="#c33" stroke-dasharray="3"/>`+"\n",
		left+int(maxRatio*scale)+60, y, x, x, y)
	return slices.Concat([]byte(head), b.Bytes(), []byte("</svg>\n"))
}

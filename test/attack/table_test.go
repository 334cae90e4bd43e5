package attack

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// table collects a row of docs/abuse.md for each attack.
type table struct{ rows []string }

// Marks in the page around what is written here.
const (
	tableBegin = "<!-- attack: begin; written by go test -->\n"
	tableEnd   = "<!-- attack: end -->"
)

func (tb *table) add(a *attack, proxy *result, l latency) {
	beside, again := "", ""
	if l.dummy != 0 {
		beside = l.dummy.Round(100 * time.Microsecond).String()
	}
	if l.tries > 1 {
		again = fmt.Sprintf(" (%d)", l.tries)
	}
	var stats, limits []string
	for _, l := range a.limits {
		limits = append(limits, "`"+l+"`")
	}
	if a.stat != "" {
		stats = append(stats, fmt.Sprintf("`%s` %+v", a.stat, proxy.moved[a.stat]))
	}
	reaction := a.reaction
	if a.toBackend != "" {
		reaction = "to the backend " + a.toBackend
	}
	tb.rows = append(tb.rows, fmt.Sprintf("| %s | %s | %s | %s | %v%s | %s | %.1f | %+d |\n", a.name, strings.Join(limits, ", "), reaction,
		strings.Join(stats, ", "), l.proxy.Round(100*time.Microsecond), again, beside, float64(proxy.rss)/(1<<20), proxy.heap>>10))
}

// write replaces what is between the marks in the page.
func (tb *table) write(t *testing.T, page string) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(b, []byte(tableBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(tableEnd))
	if !ok || !ok2 {
		t.Fatalf("%s has no marks for the table", page)
	}
	out := string(head) + tableBegin +
		"| attack | limits | the attacker sees | counter | p99 | beside the dummy | RSS MiB | heap KiB |\n" +
		"|---|---|---|---|---|---|---|---|\n" + strings.Join(tb.rows, "") + tableEnd + string(tail)
	if err := os.WriteFile(page, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
}

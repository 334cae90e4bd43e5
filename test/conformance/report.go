package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// failure is one case that did not pass.
type failure struct {
	name, message string
}

// result is what became of one suite.
type result struct {
	suite           string
	passed, skipped int
	peers           int // failed as they do without a proxy, and had to
	failed          []failure
	known           int   // failed, and listed in known-failures.txt
	err             error // the suite itself did not run to its end
	took            time.Duration
}

// known is an entry of known-failures.txt.
type known struct {
	suite, pattern string
	line           int
	used           bool
}

func readKnown(path string) ([]*known, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseKnown(path, f)
}

func parseKnown(path string, r io.Reader) ([]*known, error) {
	var out []*known
	sc := bufio.NewScanner(r)
	reason := false
	for n := 1; sc.Scan(); n++ {
		text := strings.TrimSpace(sc.Text())
		switch {
		case text == "":
			reason = false
		case strings.HasPrefix(text, "#"):
			reason = true
		default:
			suite, pattern, ok := strings.Cut(text, " ")
			if !ok {
				return nil, fmt.Errorf("%s:%d: want: suite case", path, n)
			}
			if !reason {
				return nil, fmt.Errorf("%s:%d: no comment above gives the reason", path, n)
			}
			out = append(out, &known{suite: suite, pattern: strings.TrimSpace(pattern), line: n})
		}
	}
	return out, sc.Err()
}

// forgive moves the known failures of r out of its failures.
func (r *result) forgive(entries []*known) {
	var failed []failure
	for _, f := range r.failed {
		forgiven := false
		for _, k := range entries {
			if k.suite == r.suite && match(k.pattern, f.name) {
				k.used, forgiven = true, true
			}
		}
		if forgiven {
			r.known++
		} else {
			failed = append(failed, f)
		}
	}
	r.failed = failed
}

// stale are the entries for suites that ran in which nothing failed so.
func stale(results []*result, entries []*known) (out []*known) {
	for _, k := range entries {
		for _, r := range results {
			if r.suite == k.suite && !k.used && r.err == nil {
				out = append(out, k)
			}
		}
	}
	return out
}

// report prints the failures and the table; false if anything is wrong.
func report(w io.Writer, results []*result, staleEntries []*known) bool {
	good := true
	for _, r := range results {
		for _, f := range r.failed {
			good = false
			fmt.Fprintf(w, "FAILED %s %s\n%s\n", r.suite, f.name, indent(f.message))
		}
		if r.err != nil {
			good = false
			fmt.Fprintf(w, "ERROR %s\n%s\n", r.suite, indent(r.err.Error()))
		}
	}
	for _, k := range staleEntries {
		good = false
		fmt.Fprintf(w, "STALE known-failures.txt:%d: %s %s does not fail\n", k.line, k.suite, k.pattern)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "passed\tfailed\tknown\tpeers\tskipped\ttime\t  suite\n")
	for _, r := range results {
		fmt.Fprintf(tw, "%d\t%d\t%d\t%d\t%d\t%s\t  %s\n",
			r.passed, len(r.failed), r.known, r.peers, r.skipped, r.took.Round(100*time.Millisecond), r.suite)
	}
	if tw.Flush() != nil {
		return false // nobody saw it
	}
	fmt.Fprintln(w, "(known: listed in known-failures.txt; peers: fail without a proxy too, and have to)")
	return good
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ")
}

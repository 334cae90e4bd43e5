package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// connectRuns are the runs of connectconformance. In server mode its reference
// clients (connect-go's and grpc-go's) call the server through the proxy; in
// client mode the client calls its reference servers through the proxy.
var connectRuns = []struct {
	name, mode, peer string
	config           string // testdata/connect/<config>.yaml
	fails            string // testdata/connect/<fails>.fails, if any
}{
	{"connect/server/reference", "server", "referenceserver", "reference", ""},
	{"connect/server/grpc-go", "server", "grpcserver", "grpc", "grpc-server"},
	{"connect/server/grpc-go-web", "server", "grpcserver", "grpc-web", "grpc-server"},
	{"connect/client/reference", "client", "referenceclient", "reference", "reference-client"},
	{"connect/client/grpc-go", "client", "grpcclient", "grpc", "grpc-client"},
}

// runConnect runs connectconformance with a wrapper of this program's around
// the peer: see wrapServer and wrapClient.
func (h *harness) runConnect(ctx context.Context) (out []*result) {
	for _, run := range connectRuns {
		r := h.timed(run.name, func(r *result) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			dir := filepath.Join(h.dir, "testdata", "connect")
			args := []string{"--mode", run.mode, "--conf", filepath.Join(dir, run.config+".yaml"), "--max-servers", "2"}
			if run.fails != "" {
				args = append(args, "--known-failing", "@"+filepath.Join(dir, run.fails+".fails"))
			}
			if h.pattern != "" {
				args = append(args, "--run", h.pattern)
			}
			if h.verbose {
				args = append(args, "--vv", "--trace")
			}
			args = append(args, "--", self, "wrap-"+run.mode,
				"-proxy-cmd", h.proxy.command, "-bootstrap", h.proxy.bootstrap, "-logs", h.proxy.logs,
				"-name", strings.ReplaceAll(run.name, "/", "-"),
				filepath.Join(h.tools, run.peer))
			text, err := h.output(ctx, filepath.Join(h.tools, "connectconformance"), args...)
			return parseConnect(text, err, r)
		})
		if r.err != nil && strings.Contains(r.err.Error(), connectNoMatch) {
			continue // the pattern is for another run
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		out = append(out, &result{suite: "connect", err: errNoCase})
	}
	return out
}

// connectNoMatch is what connectconformance says if no case fits --run.
const connectNoMatch = "run patterns: unmatched"

var (
	connectTotal = regexp.MustCompile(`(?m)^Total cases: (\d+)\n(\d+) passed, (\d+) failed`)
	connectNoRun = regexp.MustCompile(`(?m)^Another (\d+) could not be run`)
	connectPeers = regexp.MustCompile(`(?m)^\(Another (\d+) failed as expected`)
)

// parseConnect reads the report of connectconformance, which ended with err.
func parseConnect(text string, err error, r *result) error {
	m := connectTotal.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("no report: %w\n%s", err, text)
	}
	r.passed = number(m[2])
	r.peers = number(first(connectPeers, text))
	r.skipped = number(first(connectNoRun, text))
	var last *failure
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		name, isFailure := strings.CutPrefix(line, "FAILED: ")
		switch {
		case isFailure:
			name, message := strings.TrimSuffix(name, ":"), ""
			if n, ok := strings.CutSuffix(name, " was expected to fail but did not"); ok {
				name, message = n, "was expected to fail but did not"
			}
			r.failed = append(r.failed, failure{name, message})
			last = &r.failed[len(r.failed)-1]
		case strings.HasPrefix(line, "INFO: "), strings.HasPrefix(line, "Total cases: "):
			last = nil
		case last != nil:
			last.message += strings.TrimPrefix(line, "\t") + "\n"
		}
	}
	if r.skipped > 0 {
		return fmt.Errorf("%d cases could not be run\n%s", r.skipped, text[:min(len(text), tailSize)])
	}
	if n := number(m[3]); n != len(r.failed) {
		return fmt.Errorf("%d failures reported, %d found in the report", n, len(r.failed))
	}
	return nil
}

func first(re *regexp.Regexp, text string) string {
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return "0"
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // only digits come here
	return n
}

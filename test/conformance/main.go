// Command conformance runs the conformance suites of HTTP/2 and gRPC through
// the proxy: h2spec, gRPC's interop tests with grpc-go and grpc-js, and
// connectconformance with gRPC and gRPC-Web. `test/conformance/run` starts it.
//
//	run -suite h2spec -run http2/6.5.3/2 -v     one case, with its frames
//	run -suite connect -run '**/unary/error'    cases by pattern
//	run -proxy-cmd none                         without a proxy
//	run -proxy-cmd 'nghttpx -f127.0.0.1,{LISTEN_PORT};no-tls -b{BACKEND_HOST},{BACKEND_PORT};;proto=h2'
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var err error
	if mode, ok := strings.CutPrefix(command(os.Args), "wrap-"); ok {
		err = wrap(mode, os.Args[2:])
	} else {
		err = run(os.Args[1:])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func command(args []string) string {
	if len(args) < 2 {
		return ""
	}
	return args[1]
}

var (
	errNoCase = errors.New("no case matches -run")
	errFailed = errors.New("not everything passed")
)

// harness is what the suites need.
type harness struct {
	dir     string // test/conformance
	tools   string // the tools' directory
	proxy   proxyConfig
	pattern string
	verbose bool
}

// suite is what -suite selects.
type suite struct {
	name  string
	tools []string
	run   func(*harness, context.Context) []*result
}

var suites = []suite{
	{"h2spec", []string{"h2spec"}, (*harness).runH2spec},
	{"interop", []string{"interop-client", "interop-server"}, (*harness).runInterop},
	{"connect", []string{"connectconformance", "grpcclient", "grpcserver", "referenceclient", "referenceserver"}, (*harness).runConnect},
}

func run(args []string) error {
	f := flag.NewFlagSet("conformance", flag.ContinueOnError)
	root := f.String("root", "../..", "the repository's root")
	names := f.String("suite", "h2spec,interop,connect", "suites to run")
	pattern := f.String("run", "", "cases to run: * is one element of the name, ** any number")
	command := f.String("proxy-cmd", "", "another proxy's command, with {CONFIG}, {LISTEN_PORT}, {BACKEND_HOST}, {BACKEND_PORT}; \"none\": no proxy")
	timeout := f.Duration("timeout", 30*time.Minute, "time for everything")
	verbose := f.Bool("v", false, "print what the suites print, with frames")
	if err := f.Parse(args); err != nil {
		return err
	}
	h, err := newHarness(*root, *command)
	if err != nil {
		return err
	}
	h.pattern, h.verbose = *pattern, *verbose
	entries, err := readKnown(filepath.Join(h.dir, "known-failures.txt"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()

	chosen, err := choose(*names)
	if err != nil {
		return err
	}
	var results []*result
	for _, s := range chosen {
		if err := build(ctx, h.tools, s.tools); err != nil {
			return err
		}
		results = append(results, s.run(h, ctx)...)
	}
	results = matched(results)
	for _, r := range results {
		r.forgive(entries)
	}
	var unused []*known
	if h.pattern == "" {
		unused = stale(results, entries)
	}
	if !report(os.Stdout, results, unused) {
		return errFailed
	}
	return nil
}

// choose returns the suites of a list of names.
func choose(names string) (out []suite, err error) {
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(suites, func(s suite) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-suite %q: want some of h2spec, interop, connect", name)
		}
		out = append(out, suites[i])
	}
	return out, nil
}

// matched leaves out the suites that -run is not for, unless it is for none.
func matched(results []*result) []*result {
	var out []*result
	for _, r := range results {
		if !errors.Is(r.err, errNoCase) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return results
	}
	return out
}

func newHarness(root, command string) (*harness, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	h := &harness{
		dir:   filepath.Join(root, "test", "conformance"),
		tools: filepath.Join(root, "bin", "conformance"),
	}
	if command == "" {
		command = filepath.Join(root, "bin", "dataplane") + " -c {CONFIG} --shutdown-grace 10ms"
	}
	h.proxy = proxyConfig{
		command:   command,
		bootstrap: filepath.Join(h.dir, "testdata", "proxy.yaml"),
		logs:      filepath.Join(h.tools, "log"),
	}
	return h, os.MkdirAll(h.proxy.logs, 0o755)
}

// timed runs one suite and takes its time.
func (h *harness) timed(name string, f func(*result) error) *result {
	fmt.Fprintf(os.Stderr, "== %s (logs: %s)\n", name, h.proxy.logs)
	r := &result{suite: name}
	begin := time.Now()
	r.err = f(r)
	r.took = time.Since(begin)
	return r
}

// output runs a tool to its end and returns what it printed.
func (h *harness) output(ctx context.Context, tool string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = childAttr()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if h.verbose {
		fmt.Fprint(os.Stderr, out.String())
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return out.String(), err
}

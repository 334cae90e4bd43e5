// Command demo shows the main job: a control plane steers two proxies, and
// calls flow through both of them to three example backends.
//
// It starts everything on loopback, prints one line per second (calls, errors,
// share per backend), and after a while shifts the route's weights by
// rewriting one YAML file, as an operator would. Ctrl-C stops it; with -for it
// ends by itself: exit code 0, or 1 if a call failed or the shares did not
// move.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory of the dataplane and controlplane binaries")
	flag.StringVar(&o.testdata, "testdata", "testdata", "directory with quickstart/ and bootstrap/")
	flag.DurationVar(&o.length, "for", 0, "end after this long; 0: run until interrupted")
	flag.IntVar(&o.callers, "callers", 8, "concurrent callers")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, o)
	switch {
	case err == nil:
	case errors.Is(err, errFailedCalls):
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	}
}

type options struct {
	bin, testdata string
	length        time.Duration
	callers       int
}

// run is the whole demo. It returns nil if every call succeeded.
func run(ctx context.Context, o options) error {
	if o.length > 0 && o.length < 4*time.Second {
		o.length = 4 * time.Second // less would not show the shift
	}
	w, err := newWorld(o)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.start(ctx); err != nil {
		return err
	}
	w.printAddresses()
	return w.watch(ctx, o)
}

// Command dataplane is the proxy. It takes Envoy's bootstrap and flags, or, for
// a proxy without a control plane, --listen, --backend and --route.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/spf13/pflag"

	"github.com/sluice-proxy/sluice/dataplane"
	"github.com/sluice-proxy/sluice/dataplane/admin"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

func main() {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(o)
	}
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "dataplane:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	if o.version {
		fmt.Println(versionLine())
		return nil
	}
	level := new(slog.LevelVar)
	level.Set(o.level)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	bs, err := o.bootstrap(log)
	if err != nil {
		return err
	}
	if o.print {
		return printBootstrap(os.Stdout, bs)
	}
	if o.mode == "validate" {
		return o.validate(os.Stdout, bs)
	}

	// The collector keeps to nine tenths of the container's memory (GOMEMLIMIT
	// wins); the rest is for what is not heap, and for peaks.
	if n, err := memlimit.Set(); err == nil && n > 0 {
		log.Debug("memory limit", "bytes", n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// As Envoy: what rotates logs, or closes a terminal, ends no calls.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1)
	reg := telemetry.NewRegistry()
	srv, err := dataplane.New(dataplane.Options{Concurrency: o.concurrency, Logger: log, Registry: reg, DrainTime: o.drainTime(), ShutdownAccept: o.shutdownAccept, Rebalance: o.rebalance, MemoryBudget: int64(o.heldMB) << 20})
	if err != nil {
		return err
	}
	mgr, err := xdsconfig.Attach(ctx, srv, bs, xdsconfig.Options{
		Logger: log, Registry: reg,
		AllowUnknownStaticFields: o.sources.Options.AllowUnknownStaticFields, RefuseUnknownDynamicFields: o.refuseUnknownDynamic,
	})
	if err != nil {
		return errors.Join(err, shutdown(srv, 0))
	}
	// The interface answers until the last call has ended.
	adminCtx, stopAdmin := context.WithCancel(context.Background())
	defer stopAdmin()
	waitAdmin, err := startAdmin(adminCtx, o, bs, admin.Options{
		Bootstrap: bs, Registry: reg, Counters: srv, Config: mgr, Quit: stop, Stopping: ctx.Done(),
		Version: version(), CommandLine: o.commandLine(), Logger: log, Level: level,
		Drain: func(d admin.Drain) { srv.DrainListeners(dataplane.DrainOptions(d)) },
		Listeners: func() (out []admin.Listener) {
			for _, l := range srv.Listeners() {
				out = append(out, admin.Listener(l))
			}
			return out
		},
	})
	if err != nil {
		mgr.Close()
		return errors.Join(err, shutdown(srv, 0))
	}

	<-ctx.Done()
	stop() // a second signal ends the process at once
	log.Info("shutting down", "grace", o.grace)
	mgr.Close()
	err = shutdown(srv, o.grace)
	stopAdmin()
	return errors.Join(err, waitAdmin())
}

// shutdown gives calls in progress the time given to end.
func shutdown(srv *dataplane.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// startAdmin serves the administration interface if the bootstrap has one. The
// function returned waits for its end.
func startAdmin(ctx context.Context, o *options, bs *bootstrapv3.Bootstrap, ao admin.Options) (wait func() error, err error) {
	network, address, ok := bootstrap.AdminAddress(bs)
	if !ok {
		return func() error { return nil }, nil
	}
	if network == "unix" {
		if err := os.Remove(address); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("admin: %w", err)
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if o.adminAddressPath != "" {
		if err := os.WriteFile(o.adminAddressPath, []byte(ln.Addr().String()), 0o644); err != nil {
			ln.Close()
			return nil, fmt.Errorf("--admin-address-path: %w", err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- admin.New(ao).Serve(ctx, ln) }()
	return func() error { return <-done }, nil
}

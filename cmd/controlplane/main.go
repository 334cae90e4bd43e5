// Command controlplane publishes xDS resources from a directory to a fleet of
// proxies.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-proxy/sluice/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// As the data plane: what rotates logs, or closes a terminal, ends no streams.
	// The directory is followed without being told.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1)
	if err := root().ExecuteContext(ctx); err != nil {
		for _, fault := range controlplane.Faults(err) {
			fmt.Fprintln(os.Stderr, "controlplane:", fault)
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "controlplane",
		Short:         "Publishes xDS resources from a directory to a fleet of proxies",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	cmd.AddCommand(serve(), check())
	return cmd
}

func serve() *cobra.Command {
	var dir, listen, level string
	cmd := &cobra.Command{
		Use:   "serve --config DIR",
		Short: "Serve the resources of DIR over ADS and follow its changes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var lvl slog.Level
			if err := lvl.UnmarshalText([]byte(level)); err != nil {
				return fmt.Errorf("--log-level: %w", err)
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: lvl}))
			s, err := controlplane.New(controlplane.Options{Dir: dir, Logger: log})
			if err != nil {
				return err
			}
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			log.Info("serving xDS", "address", ln.Addr().String(), "config", dir)
			return s.Serve(cmd.Context(), ln)
		},
	}
	cmd.Flags().StringVar(&dir, "config", "", "directory of node groups; see docs/control-plane.md")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:18000", "address for xDS, health and reflection")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	required(cmd, "config")
	return cmd
}

func check() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "check --config DIR",
		Short: "Check the resources of DIR and say what is wrong",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := controlplane.LoadDir(dir)
			if err != nil {
				return err
			}
			for _, w := range cfg.Check() {
				fmt.Fprintln(cmd.OutOrStdout(), "warning:", w)
			}
			if err := cfg.Err(); err != nil {
				return err
			}
			n := 0
			for _, g := range cfg.Groups {
				n += g.Resources.Count()
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s with %s: good\n", plural(len(cfg.Groups), "group"), plural(n, "resource"))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "config", "", "directory of node groups")
	required(cmd, "config")
	return cmd
}

// required marks a flag that cmd has.
func required(cmd *cobra.Command, name string) {
	f := cmd.Flags().Lookup(name)
	f.Annotations = map[string][]string{cobra.BashCompOneRequiredFlag: {"true"}} // as MarkFlagRequired does
}

func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

func version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "unknown"
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"sigs.k8s.io/yaml"

	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// options are the command line.
type options struct {
	sources              bootstrap.Sources
	refuseUnknownDynamic bool
	concurrency          int
	drainSeconds         int
	grace                time.Duration
	shutdownAccept       time.Duration
	rebalance            time.Duration
	heldMB               int
	mode                 string
	adminAddressPath     string
	level                slog.Level
	version, print       bool

	static bootstrap.Static
}

// levels are Envoy's log levels in slog's terms.
var levels = map[string]slog.Level{
	"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warning": slog.LevelWarn, "warn": slog.LevelWarn,
	"error": slog.LevelError, "critical": slog.LevelError + 4, "off": slog.LevelError + 100,
}

// ignored are flags of Envoy's that its control planes and agents pass and
// that have no meaning here.
var ignored = []string{
	"component-log-level", "drain-strategy", "parent-shutdown-time-s", "local-address-ip-version",
	"file-flush-interval-msec", "base-id", "base-id-path", "log-format", "log-path", "restart-epoch", "stats-tag",
}

func parse(args []string) (*options, error) {
	o := &options{static: bootstrap.Static{}}
	f := pflag.NewFlagSet("dataplane", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVarP(&o.sources.ConfigPath, "config-path", "c", "", "bootstrap, YAML or JSON")
	f.StringVar(&o.sources.ConfigYAML, "config-yaml", "", "bootstrap as text; merged over --config-path")
	f.StringVar(&o.sources.NodeID, "service-node", "", "node.id")
	f.StringVar(&o.sources.NodeCluster, "service-cluster", "", "node.cluster")
	f.StringVar(&o.sources.NodeZone, "service-zone", "", "node.locality.zone")
	level := f.StringP("log-level", "l", "info", "trace, debug, info, warning, error, critical or off")
	f.IntVar(&o.concurrency, "concurrency", 0, "workers; 0: one for each processor")
	f.IntVar(&o.drainSeconds, "drain-time-s", 600, "seconds that calls have to end when their connection drains")
	f.DurationVar(&o.grace, "shutdown-grace", 5*time.Second, "time that calls have to end after SIGTERM or SIGINT")
	f.IntVar(&o.heldMB, "held-memory-mb", 0, "MiB that the whole process holds for receivers that are slow, before calls of those that hoard end; 0: 24")
	f.DurationVar(&o.rebalance, "rebalance-interval", 0, "how often a worker that has much more to do than another sends a client away with a graceful GOAWAY; 0: never")
	f.DurationVar(&o.shutdownAccept, "shutdown-accept", time.Second, "time that new connections are accepted after SIGTERM or SIGINT at least; while others are left, four fifths of the grace")
	f.StringVar(&o.mode, "mode", "serve", "serve or validate")
	f.StringVar(&o.adminAddressPath, "admin-address-path", "", "file to write the admin's address to")
	f.BoolVar(&o.sources.Options.AllowUnknownStaticFields, "allow-unknown-static-fields", false, "ignore unknown fields in the bootstrap")
	f.BoolVar(&o.sources.Options.AllowUnknownStaticFields, "allow-unknown-fields", false, "the same")
	f.BoolVar(&o.refuseUnknownDynamic, "reject-unknown-dynamic-fields", false, "refuse unknown fields in xDS resources")
	f.BoolVar(&o.version, "version", false, "print the version")
	f.StringVar(&o.static.Listen, "listen", "", "without a bootstrap: address to listen on, HOST:PORT or unix:PATH")
	f.StringVar(&o.static.Backend, "backend", "", "without a bootstrap: where calls go")
	f.Var((*routesFlag)(&o.static.Routes), "route", "without a bootstrap: SERVICE[/METHOD]=BACKEND or PACKAGE.*=BACKEND, repeatable")
	f.StringVar(&o.static.Admin, "admin", "", "without a bootstrap: address of the admin interface")
	f.BoolVar(&o.print, "print", false, "print the bootstrap as it is read, and exit")
	for _, name := range ignored {
		f.String(name, "", "accepted and ignored")
		f.Lookup(name).Hidden = true
	}
	for _, name := range []string{"disable-hot-restart", "cpuset-threads", "skip-deprecated-logs", "ignore-unknown-dynamic-fields", "enable-fine-grain-logging", "enable-core-dump"} {
		f.Bool(name, false, "accepted and ignored")
		f.Lookup(name).Hidden = true
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 && f.ArgsLenAtDash() != 0 { // what follows -- is not ours
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var ok bool
	if o.level, ok = levels[strings.ToLower(*level)]; !ok {
		return nil, fmt.Errorf("--log-level %q: want trace, debug, info, warning, error, critical or off", *level)
	}
	if o.mode != "serve" && o.mode != "validate" {
		return nil, fmt.Errorf("--mode %q: want serve or validate", o.mode)
	}
	if o.drainSeconds < 0 || o.concurrency < 0 || o.grace < 0 || o.shutdownAccept < 0 || o.rebalance < 0 || o.heldMB < 0 {
		return nil, errors.New("--drain-time-s, --concurrency, --held-memory-mb, --rebalance-interval, --shutdown-grace and --shutdown-accept must not be negative")
	}
	if o.concurrency == 0 { // /server_info tells it, as Envoy's, and the runtime may get more or fewer processors later
		o.concurrency = runtime.GOMAXPROCS(0)
	}
	return o, nil
}

func (o *options) drainTime() time.Duration {
	// 0 means "the default" to the server; the shortest drain is what was asked.
	return max(time.Duration(o.drainSeconds)*time.Second, time.Millisecond)
}

// bootstrap reads the bootstrap, or makes one of --listen and its companions.
func (o *options) bootstrap(log *slog.Logger) (*bootstrapv3.Bootstrap, error) {
	static := o.static.Listen != "" || o.static.Backend != "" || len(o.static.Routes) > 0
	given := o.sources.ConfigPath != "" || o.sources.ConfigYAML != ""
	switch {
	case static && given:
		return nil, errors.New("--listen, --backend and --route make a bootstrap of their own; leave out --config-path and --config-yaml")
	case static:
		return o.static.Bootstrap()
	case !given:
		return nil, errors.New("nothing to do: give --config-path, --config-yaml, or --listen with --backend or --route")
	}
	o.sources.Options.Warn = func(path, problem string) { log.Warn("bootstrap", "field", path, "reason", problem) }
	return bootstrap.Load(o.sources)
}

// validate says what a start would warn of and refuse.
func (o *options) validate(w io.Writer, bs *bootstrapv3.Bootstrap) error {
	err := xdsconfig.Check(bs, o.sources.Options.AllowUnknownStaticFields, func(warning xdsconfig.Warning) {
		fmt.Fprintln(w, "warning:", warning)
	})
	if err == nil {
		fmt.Fprintln(w, "configuration OK")
	}
	return err
}

func printBootstrap(w io.Writer, bs *bootstrapv3.Bootstrap) error {
	j, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(bs)
	if err != nil {
		return err
	}
	y, err := yaml.JSONToYAML(j)
	if err != nil {
		return err
	}
	_, err = w.Write(y)
	return err
}

func (o *options) commandLine() *adminv3.CommandLineOptions {
	return &adminv3.CommandLineOptions{
		Concurrency:    uint32(o.concurrency),
		ConfigPath:     o.sources.ConfigPath,
		ConfigYaml:     o.sources.ConfigYAML,
		ServiceNode:    o.sources.NodeID,
		ServiceCluster: o.sources.NodeCluster,
		ServiceZone:    o.sources.NodeZone,
		DrainTime:      durationpb.New(o.drainTime()),

		AllowUnknownStaticFields:   o.sources.Options.AllowUnknownStaticFields,
		RejectUnknownDynamicFields: o.refuseUnknownDynamic,
	}
}

// routesFlag are the values of --route. What is given twice is a mistake.
type routesFlag map[string]string

// Type implements pflag.Value.
func (r *routesFlag) Type() string { return "SERVICE=BACKEND" }

// String implements pflag.Value.
func (r *routesFlag) String() string { return "" }

// Set implements pflag.Value. Several routes may be separated by commas.
func (r *routesFlag) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		service, backend, ok := strings.Cut(one, "=")
		service = strings.TrimPrefix(service, "/")
		if !ok {
			return fmt.Errorf("%q: want SERVICE=BACKEND", one)
		}
		if old, twice := (*r)[service]; twice {
			return fmt.Errorf("%s leads to %s already", service, old)
		}
		if *r == nil {
			*r = routesFlag{}
		}
		(*r)[service] = backend
	}
	return nil
}

// version is the module's version and revision.
func version() string {
	bi, _ := debug.ReadBuildInfo()
	return versionOf(bi)
}

// versionOf has the form of Envoy's: revision, version, state of the sources,
// build type, TLS library. bi may be nil.
func versionOf(bi *debug.BuildInfo) string {
	v, rev, state := "unknown", "0", "Clean"
	if bi != nil {
		v = cmp.Or(bi.Main.Version, v)
		for _, s := range bi.Settings {
			switch {
			case s.Key == "vcs.revision":
				rev = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				state = "Modified"
			}
		}
	}
	return rev + "/" + v + "/" + state + "/RELEASE/Go"
}

// versionLine has the form that agents parse out of `envoy --version`.
func versionLine() string { return os.Args[0] + "  version: " + version() }

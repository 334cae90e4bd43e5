package main

import (
	"bytes"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// TestParse gives the flags that Envoy's control planes and agents pass.
func TestParse(t *testing.T) {
	tests := []struct {
		name, args, wantErr string
		check               func(o *options) bool
	}{
		{"envoy gateway", "-c b.yaml --service-cluster c --service-node n --log-level warn --cpuset-threads --drain-strategy immediate --drain-time-s 60", "",
			func(o *options) bool {
				return o.sources.ConfigPath == "b.yaml" && o.sources.NodeID == "n" && o.level == slog.LevelWarn && o.drainSeconds == 60
			}},
		{"istio", "-c b.json --drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning --component-log-level misc:error --skip-deprecated-logs --concurrency 2", "",
			func(o *options) bool { return o.concurrency == 2 && o.sources.Options.AllowUnknownStaticFields }},
		{"default concurrency", "-c b", "", func(o *options) bool { return o.commandLine().GetConcurrency() == uint32(runtime.GOMAXPROCS(0)) }},
		{"after --", "-c b.yaml -- -l nonsense", "", func(o *options) bool { return o.level == slog.LevelInfo }},
		{"level in capitals", "-c b -l INFO", "", func(o *options) bool { return o.level == slog.LevelInfo }},
		{"routes", "--listen 127.0.0.1:0 --backend a:1 --route x.Y=b:2 --route x.Y/Z=c:3", "",
			func(o *options) bool { return o.static.Routes["x.Y/Z"] == "c:3" && o.static.Routes["x.Y"] == "b:2" }},
		{"several routes at once", "--listen :1 --route a.B=x:1,a.C=y:1", "", func(o *options) bool { return o.static.Routes["a.C"] == "y:1" }},
		{"a route twice", "--listen :1 --route a.B=x:1 --route /a.B=y:1", "a.B leads to x:1 already", nil},
		{"no backend", "--listen :1 --route a.B", "want SERVICE=BACKEND", nil},
		{"bad level", "-c b -l loud", `--log-level "loud"`, nil},
		{"bad mode", "-c b --mode fly", `--mode "fly"`, nil},
		{"stray word", "serve -c b", `unexpected argument "serve"`, nil},
		{"unknown flag", "--nope", "nope", nil},
		{"negative", "-c b --drain-time-s=-1", "negative", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := parse(strings.Fields(tt.args))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(o) {
				t.Errorf("read as %+v", o)
			}
		})
	}
}

// TestBootstrapSources checks what may be given together.
func TestBootstrapSources(t *testing.T) {
	for args, want := range map[string]string{
		"":                                       "nothing to do",
		"--listen :1 --backend a:1 -c b":         "leave out --config-path",
		"--listen nowhere --backend a:1":         `--listen "nowhere"`,
		"--listen :1":                            "--listen needs --backend or --route",
		"--listen :1 --backend a":                `--backend "a"`,
		"--listen :1 --route x.Y=b":              "--route x.Y=b",
		"--listen :1 --route x.Y/=b:1":           "want SERVICE or SERVICE/METHOD",
		"--listen :1 --route x.*.Y=b:1":          "a * stands only at the end",
		"--listen :1 --route x.*/Get=b:1":        "a * stands only at the end",
		"--listen :1 --route *=b:1":              "a * stands only at the end",
		"--listen host.example:1 --backend b:1":  `--listen "host.example:1": want an IP address`,
		"--listen :99999 --backend a:1":          "up to 65535",
		`--config-yaml {"static_resources":[1]}`: "static_resources",
	} {
		o, err := parse(strings.Fields(args))
		if err == nil {
			_, err = o.bootstrap(slog.New(slog.DiscardHandler))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one with %q", args, err, want)
		}
	}
}

// TestPrint: the bootstrap that --print shows reads back as the same one.
func TestPrint(t *testing.T) {
	o, err := parse(strings.Fields("--listen 127.0.0.1:8080 --backend orders.local:50051 --route acme.v1.Orders=127.0.0.1:50052 --route acme.v1.Orders/Get=unix:/run/get.sock --admin 127.0.0.1:9901 --print"))
	if err != nil {
		t.Fatal(err)
	}
	bs, err := o.bootstrap(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := printBootstrap(&b, bs); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"path: /acme.v1.Orders/Get", "prefix: /acme.v1.Orders/", "type: STRICT_DNS", "path: /run/get.sock", "port_value: 9901"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Index(b.String(), "Orders/Get") > strings.Index(b.String(), "prefix: /acme.v1.Orders/") {
		t.Error("the method's route stands behind its service's")
	}
	again, err := bootstrap.Parse(b.Bytes(), bootstrap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(again, bs) {
		t.Errorf("read back as\n%v\nwant\n%v", again, bs)
	}
}

// TestWildcards: a package stands behind its services, and localhost is an
// address.
func TestWildcards(t *testing.T) {
	o, err := parse(strings.Fields("--listen localhost:8080 --route acme.v1.*=a:1 --route acme.v1.Orders=b:1"))
	if err != nil {
		t.Fatal(err)
	}
	bs, err := o.bootstrap(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := xdsconfig.Check(bs, false, nil); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if err := printBootstrap(&b, bs); err != nil {
		t.Fatal(err)
	}
	pkg, svc := strings.Index(b.String(), "prefix: /acme.v1.\n"), strings.Index(b.String(), "prefix: /acme.v1.Orders/\n")
	if pkg < 0 || svc < 0 || pkg < svc || !strings.Contains(b.String(), "address: 127.0.0.1") {
		t.Errorf("package at %d, service at %d in\n%s", pkg, svc, b.String())
	}
}

// TestVersion: sources that were changed are said to be.
func TestVersion(t *testing.T) {
	bi := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}}
	if got := versionOf(bi); got != "abc/unknown/Modified/RELEASE/Go" {
		t.Error(got)
	}
	bi.Settings[1].Value = "false"
	if got := versionOf(bi); got != "abc/unknown/Clean/RELEASE/Go" {
		t.Error(got)
	}
}

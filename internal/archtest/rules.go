package archtest

import "strings"

const module = "github.com/sluice-proxy/sluice"

// Rule forbids imports.
type Rule struct {
	// Name is what a violation is reported under.
	Name string
	// From are the packages the rule is about, relative to the module. A
	// trailing "/..." takes in the packages below.
	From []string
	// Except are packages of From that the rule spares.
	Except []string
	// Deny are the imports it forbids: relative to the module if they start
	// with "./", else full import paths; "/..." as in From.
	Deny []string
	// Direct limits the rule to a package's own imports; otherwise everything
	// reachable through packages of this module counts.
	Direct bool
}

const (
	envoyProtos = "github.com/envoyproxy/go-control-plane/..."
	grpcGo      = "google.golang.org/grpc/..."
)

// Pure are the packages that compute and do nothing else: no sockets, files,
// clock reads, goroutines, channels or locks. Time comes in as an argument.
var Pure = []string{"dataplane/h2/...", "dataplane/route", "dataplane/cluster", "dataplane/listener", "dataplane/clock", "dataplane/call"}

// Rules are the import rules of docs/architecture.md.
var Rules = []Rule{
	{
		Name: "the core never learns of xDS",
		From: []string{"dataplane/h2/...", "dataplane/call", "dataplane/clock", "dataplane/relay", "dataplane/worker", "dataplane/route", "dataplane/cluster", "dataplane/listener"},
		Deny: []string{envoyProtos, "github.com/cncf/xds/go/...", grpcGo, "./xdsclient/...", "./dataplane/xdsconfig/..."},
	},
	{
		Name: "relay and worker know call.Director and call.BackendSet only",
		From: []string{"dataplane/relay", "dataplane/worker"},
		Deny: []string{"./dataplane/route", "./dataplane/cluster/...", "./dataplane/listener", "./dataplane"},
	},
	{
		Name: "relay is driven by the worker",
		From: []string{"dataplane/relay", "dataplane/h2/...", "dataplane/call", "dataplane/clock"},
		Deny: []string{"./dataplane/worker"},
	},
	{
		Name: "call is a leaf",
		From: []string{"dataplane/call"},
		Deny: []string{"./dataplane/h2", "./dataplane/relay", "./dataplane/worker", "./dataplane/route", "./dataplane/cluster/...", "./dataplane/listener"},
	},
	{
		Name:   "pure packages use no sockets, files, locks or goroutines",
		From:   Pure,
		Deny:   []string{"net", "net/http", "os", "sync", "syscall", "golang.org/x/sys/...", "io/fs", "context", "log", "log/slog"},
		Direct: true,
	},
	{
		Name:   "filters import call, never the core",
		From:   []string{"dataplane/filter/..."},
		Deny:   []string{"./dataplane/relay", "./dataplane/worker", "./dataplane/h2", "./dataplane"},
		Direct: false,
	},
	{
		Name: "observers consume call.Outcome, never the relay",
		From: []string{"dataplane/accesslog", "dataplane/telemetry"},
		Deny: []string{"./dataplane/relay", "./dataplane/worker"},
	},
	{
		Name: "the embeddable proxy does not know its configurators",
		From: []string{"dataplane"},
		Deny: []string{"./dataplane/xdsconfig/...", "./xdsclient/...", "./controlplane/...", envoyProtos, grpcGo},
	},
	{
		Name: "xdsconfig plugs in from outside",
		From: []string{"dataplane/xdsconfig/..."},
		Deny: []string{"./dataplane", "./dataplane/worker", "./dataplane/relay", "./dataplane/h2"},
	},
	{
		Name: "xdsclient never imports the data plane",
		From: []string{"xdsclient/..."},
		Deny: []string{"./dataplane/...", "./controlplane/..."},
	},
	{
		Name: "the control plane compiles, it does not relay",
		From: []string{"controlplane/..."},
		Deny: []string{"./dataplane", "./dataplane/worker", "./dataplane/relay", "./dataplane/h2"},
	},
	{
		Name:   "grpc-go only where it is the right tool",
		From:   []string{"..."},
		Except: []string{"xdsclient/...", "internal/grpcclient", "dataplane/grpcproxy/...", "controlplane/...", "dataplane/cluster/health", "cmd/...", "test/..."},
		Deny:   []string{grpcGo},
		Direct: true,
	},
	{
		Name:   "Envoy's protobufs end in xdsconfig",
		From:   []string{"..."},
		Except: []string{"xdsclient/...", "dataplane/xdsconfig/...", "dataplane/filter/...", "dataplane/admin", "controlplane/...", "cmd/...", "test/..."},
		Deny:   []string{envoyProtos},
		Direct: true,
	},
}

// matches reports whether the slash-separated path p is covered by pattern.
func matches(pattern, p string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == base || strings.HasPrefix(p, base+"/")
	}
	return p == pattern
}

func anyMatch(patterns []string, p string) bool {
	for _, pat := range patterns {
		if matches(pat, p) {
			return true
		}
	}
	return false
}

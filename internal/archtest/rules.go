package archtest

import "strings"

const module = "github.com/sluice-proxy/sluice"

// Rule limits imports. Patterns of this module's packages are relative to it;
// in Deny, Allow and Only they begin with "./", and others are full import
// paths. A trailing "/..." takes in the packages below, "..." alone is all.
type Rule struct {
	// Name is what a violation is reported under.
	Name string
	// From are the packages the rule is about.
	From []string
	// Except are packages of From that the rule spares.
	Except []string
	// Planned are patterns of From and Except that no package matches yet.
	Planned []string
	// Deny are the imports it forbids, Allow the ones among them that it does
	// not.
	Deny, Allow []string
	// Only, if not nil, are the only imports it permits.
	Only []string
	// Spare are single imports that the rule permits.
	Spare []Edge
	// Direct limits the rule to a package's own imports; otherwise everything
	// reachable through packages of this module counts.
	Direct bool
}

// Edge is one package's import of another, and why it is permitted.
type Edge struct{ From, To, Why string }

const (
	envoyProtos = "github.com/envoyproxy/go-control-plane/..."
	xdsProtos   = "github.com/cncf/xds/go/..."
	grpcGo      = "google.golang.org/grpc/..."
	ours        = "./..." // every package of this module
	others      = "..."   // every package that is not of this module
)

// Pure are the packages that compute and do nothing else: no sockets, files,
// clock reads, goroutines, channels or locks, in them or in what they import
// of ours. Time comes in as an argument. dataplane/call is among them because
// the others import it; atomic counters are no locks.
var Pure = []string{"dataplane/h2/...", "dataplane/route", "dataplane/cluster", "dataplane/listener", "dataplane/clock", "dataplane/call"}

// Rules are the import rules of docs/architecture.md.
var Rules = []Rule{
	{
		Name: "the core never learns of xDS",
		From: []string{"dataplane/h2/...", "dataplane/call", "dataplane/clock", "dataplane/relay", "dataplane/worker", "dataplane/route", "dataplane/cluster", "dataplane/listener"},
		Deny: []string{envoyProtos, xdsProtos, grpcGo, "./xdsclient/...", "./dataplane/xdsconfig/..."},
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
		// The header types, and the type that time comes in as.
		Name:   "call is a leaf",
		From:   []string{"dataplane/call"},
		Only:   []string{others, "./dataplane/h2/hpack", "./dataplane/h2/hdr", "./dataplane/clock"},
		Direct: true,
	},
	{
		// A list of what is permitted: new packages of the standard library
		// are not pure before somebody says so.
		Name: "pure packages compute",
		From: Pure,
		Only: []string{
			ours, // and what they import is held to the same
			"bytes", "cmp", "container/...", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/pem", "errors", "fmt", "hash/...",
			"iter", "maps", "math", "math/bits", "math/rand/v2", "net/netip", "net/url", "reflect", "regexp", "regexp/syntax", "slices", "sort",
			"strconv", "strings", "sync/atomic", "time", "unicode", "unicode/utf8", "unsafe",
		},
		Spare: []Edge{{"dataplane/call", "crypto/tls", "call.ClientTLS hands out a *tls.Config; call does nothing with it, and worker makes the handshake"}},
	},
	{
		Name:    "filters import call, never the core",
		From:    []string{"dataplane/filter/..."},
		Planned: []string{"dataplane/filter/..."},
		Deny:    []string{"./dataplane/relay", "./dataplane/worker", "./dataplane/h2", "./dataplane"},
	},
	{
		Name:    "observers consume call.Outcome, never the relay",
		From:    []string{"dataplane/accesslog", "dataplane/telemetry"},
		Planned: []string{"dataplane/accesslog"},
		Deny:    []string{"./dataplane/relay", "./dataplane/worker"},
	},
	{
		Name: "the embeddable proxy does not know its configurators",
		From: []string{"dataplane"},
		Deny: []string{"./dataplane/xdsconfig/...", "./xdsclient/...", "./controlplane/...", envoyProtos, xdsProtos, grpcGo},
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
		// It asks for types by URL and hands on what comes: of Envoy's
		// protobufs it knows the protocol's own, and the Node in it.
		Name:   "xdsclient knows no resource type",
		From:   []string{"xdsclient/..."},
		Except: []string{"xdsclient/bootstrap"},
		Deny:   []string{envoyProtos, xdsProtos, "./xdsclient/bootstrap"},
		Allow:  []string{"github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3", "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"},
	},
	{
		Name: "the control plane imports xdsclient/bootstrap, xdsconfig's Compile and pure packages",
		From: []string{"controlplane/..."},
		Only: []string{
			others, "./controlplane/...", "./xdsclient/bootstrap", "./dataplane/xdsconfig",
			"./dataplane/h2/hpack", "./dataplane/h2/hdr", "./dataplane/route", "./dataplane/cluster", "./dataplane/listener", "./dataplane/clock", "./dataplane/call",
		},
		Direct: true,
	},
	{
		// Compile and the joiner that feeds it from a client are one package,
		// so the control plane links what the joiner uses, and runs none of it.
		Name: "the control plane compiles, it does not relay",
		From: []string{"controlplane/..."},
		Only: []string{
			others, "./controlplane/...", "./xdsclient/bootstrap", "./dataplane/xdsconfig",
			"./dataplane/h2/hpack", "./dataplane/h2/hdr", "./dataplane/route", "./dataplane/cluster", "./dataplane/listener", "./dataplane/clock", "./dataplane/call",
			"./dataplane/transport",         // Compile makes TLS contexts
			"./dataplane/filter/...",        // Compile makes filters
			"./dataplane/telemetry",         // Compile names the stats of what it makes
			"./dataplane/cluster/discovery", // joiner: DNS
			"./xdsclient",                   // joiner: ADS
			"./internal/grpcclient",         // joiner: channels to clusters of the bootstrap
		},
	},
	{
		Name:    "grpc-go only where it is the right tool",
		From:    []string{"..."},
		Except:  []string{"xdsclient", "internal/grpcclient", "dataplane/grpcproxy/...", "controlplane/...", "dataplane/cluster/health", "cmd/...", "test/..."},
		Planned: []string{"dataplane/cluster/health"},
		Deny:    []string{grpcGo},
		Direct:  true,
	},
	{
		Name: "Envoy's protobufs end in xdsconfig",
		From: []string{"..."},
		Except: []string{
			"dataplane/xdsconfig/...",
			"dataplane/filter/...", // a filter compiles its own
			"xdsclient/...",        // limited by a rule of its own; bootstrap is where the parsing begins
			"controlplane/...",     // resources are its goods
			"dataplane/admin",      // limited by the next rule
			"cmd/...", "test/...",
		},
		Planned: []string{"dataplane/filter/..."},
		Deny:    []string{envoyProtos, xdsProtos},
		Direct:  true,
	},
	{
		// Envoy's /config_dump, /clusters, /listeners and /server_info answer
		// with messages of envoy.admin.v3, in JSON; what goes into them comes
		// out of xdsconfig as it was received. No decision is made of it.
		Name: "admin speaks Envoy's admin protobufs",
		From: []string{"dataplane/admin"},
		Deny: []string{envoyProtos, xdsProtos},
		Allow: []string{
			"github.com/envoyproxy/go-control-plane/envoy/admin/v3",
			"github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3", // BootstrapConfigDump
			"github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3",   // CircuitBreakers of ClusterStatus
			"github.com/envoyproxy/go-control-plane/envoy/config/core/v3",      // addresses and health of HostStatus
		},
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

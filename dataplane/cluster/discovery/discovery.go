package discovery

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// Config is what a Resolver is made with (Cluster.type STRICT_DNS or
// LOGICAL_DNS, its dns_* fields, or the cluster extension
// envoy.clusters.dns.v3.DnsCluster).
type Config struct {
	Cluster string // its name, for logs
	Logical bool   // LOGICAL_DNS; otherwise STRICT_DNS
	// Assignment is the cluster's load_assignment. An endpoint's Address is
	// "name:port" or a numeric address; each resolved host takes over the rest
	// of its endpoint, and the name as Hostname if that is empty. LOGICAL_DNS
	// uses the first endpoint only (Envoy allows no other).
	Assignment *cluster.Assignment

	Family      Family
	RefreshRate time.Duration // dns_refresh_rate; 0: 5 s
	// MinRefreshRate is dns_min_refresh_rate: respected TTLs are not below it;
	// 0: 1 s.
	MinRefreshRate time.Duration
	// FailureBase and FailureMax are dns_failure_refresh_rate's base_interval
	// and max_interval. After the n-th failure in a row the next lookup comes
	// at random within min(FailureMax, FailureBase·2^n). 0: RefreshRate
	// without growth; FailureMax 0: 10·FailureBase.
	FailureBase time.Duration
	FailureMax  time.Duration
	RespectTTL  bool          // respect_dns_ttl: the answer's TTL replaces RefreshRate
	Jitter      time.Duration // dns_jitter: up to this is added after a success

	Lookup Lookup        // nil: System()
	Rand   func() uint64 // nil: math/rand/v2.Uint64
	Logger *slog.Logger  // nil: no logs
}

// Lookup asks for the addresses of a name. Safe for concurrent use.
type Lookup interface {
	// Lookup returns the addresses of one family. No addresses and no error
	// means that the name server said that there are none.
	Lookup(ctx context.Context, name string, v6 bool) (Answer, error)
}

// Answer is what a lookup gave.
type Answer struct {
	Addrs []netip.Addr
	TTL   time.Duration // the smallest of the answer's records; 0: unknown
}

// Family is Cluster.dns_lookup_family.
type Family uint8

// Families.
const (
	Auto        Family = iota // AUTO: IPv6, and IPv4 if there is none
	V4Only                    // V4_ONLY
	V6Only                    // V6_ONLY
	V4Preferred               // V4_PREFERRED: IPv4, and IPv6 if there is none
	All                       // ALL: both
)

// Resolver follows the names of one cluster.
type Resolver struct {
	cfg    Config
	update func(*cluster.Assignment)
	first  func(error)
}

// New returns a Resolver that calls update with each assignment that differs
// from the one before, and first once, when every name has had an answer or a
// failure: the cluster need not warm any longer. err joins the failures of
// names without addresses and is nil if there were none. update comes before
// first if there is anything to tell. Both are called one after the other on
// Run's goroutine and may be nil.
func New(cfg Config, update func(*cluster.Assignment), first func(err error)) *Resolver {
	return &Resolver{cfg: cfg, update: update, first: first}
}

// Run resolves until ctx ends and then returns when all of its goroutines have.
func (r *Resolver) Run(ctx context.Context) {
	r.run(ctx)
}

package discovery

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
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
	// at random between half and all of min(FailureMax, FailureBase·2^(n-1)).
	// FailureBase 0: after RefreshRate; FailureMax 0: 10·FailureBase.
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
	// Set at creation.

	cfg    Config
	update func(*cluster.Assignment)
	first  func(error)

	// Owned by Run's goroutine.

	sites   []site           // the configured endpoints, in order
	names   map[string]*name // by DNS name
	waiting int              // names without an answer or failure yet
	told    bool             // update was called
}

// New returns a Resolver that calls update with each assignment that differs
// from the one before, and first once, when every name has had an answer or a
// failure: the cluster need not warm any longer. err joins the failures of
// names without addresses and is nil if there were none. update comes before
// first if there is anything to tell, and that a STRICT_DNS cluster has no host
// is. Both are called one after the other on Run's goroutine and may be nil.
func New(cfg Config, update func(*cluster.Assignment), first func(err error)) *Resolver {
	if cfg.Assignment == nil {
		cfg.Assignment = new(cluster.Assignment)
	}
	if cfg.RefreshRate <= 0 {
		cfg.RefreshRate = defaultRefreshRate
	}
	if cfg.MinRefreshRate <= 0 {
		cfg.MinRefreshRate = defaultMinRefreshRate
	}
	if cfg.FailureMax < cfg.FailureBase {
		cfg.FailureMax = 10 * cfg.FailureBase
	}
	if cfg.Lookup == nil {
		cfg.Lookup = System()
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Uint64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if update == nil {
		update = func(*cluster.Assignment) {}
	}
	if first == nil {
		first = func(error) {}
	}
	return &Resolver{cfg: cfg, update: update, first: first}
}

const (
	defaultRefreshRate    = 5 * time.Second
	defaultMinRefreshRate = time.Second
	// lookupTimeout bounds one look-up of a name: both families, all servers.
	lookupTimeout = 20 * time.Second
)

// Run resolves until ctx ends, and returns when all of its goroutines have. If
// no endpoint has a name to resolve it returns at once. Run may be called once.
func (r *Resolver) Run(ctx context.Context) {
	r.plan()
	if r.numeric() || r.deserted() {
		r.tell()
	}
	if r.waiting == 0 {
		r.first(r.failures())
		return
	}

	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	defer loops.Wait()
	defer cancel()
	results := make(chan result)
	for _, n := range r.names {
		loops.Go(func() { r.follow(ctx, n.name, results) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case res := <-results:
			r.take(res)
		}
	}
}

// take keeps a result, and tells the owner if it changes anything.
func (r *Resolver) take(res result) {
	n := r.names[res.name]
	changed := n.take(res, r.cfg.Logical)
	switch {
	case res.err != nil && n.err == nil:
		r.cfg.Logger.Warn("name not resolved", "cluster", r.cfg.Cluster, "name", n.name, "reason", res.err)
	case res.err == nil && n.err != nil:
		r.cfg.Logger.Info("name resolved again", "cluster", r.cfg.Cluster, "name", n.name)
	}
	n.err = res.err
	last := false
	if !n.seen {
		n.seen = true
		r.waiting--
		last = r.waiting == 0
	}
	if changed || r.deserted() {
		r.tell()
	}
	if last {
		r.first(r.failures())
	}
}

func (r *Resolver) tell() {
	r.told = true
	r.update(r.assignment())
}

// deserted reports that there are no hosts and that nobody knows yet: every
// name has an answer, and none an address. It is not for want of an answer, so
// hosts from elsewhere (of the cluster's last version) must go.
func (r *Resolver) deserted() bool {
	return !r.told && r.waiting == 0 && !r.cfg.Logical && r.failures() == nil
}

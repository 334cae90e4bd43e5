package cluster

import (
	"sync/atomic"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Cluster is a set of hosts and a policy to choose one. Pick, Done and the
// readers are safe for concurrent use; Update and Close belong to the
// configuration goroutine.
type Cluster struct {
	// Set at creation, or by Adopt before the first Pick.

	cfg        Config
	thresholds [2]Thresholds // DEFAULT, HIGH
	acc        *accounts

	// Owned by the configuration goroutine.

	byKey      map[hostKey]*Host
	localities map[localityKey]uint32 // weights, of localities with hosts
	round      uint64                 // number of Updates; marks the hosts that an Update saw

	// Atomic.

	set atomic.Pointer[set]
}

var _ call.BackendSet = (*Cluster)(nil)

// New returns a cluster without hosts: until its first Update, calls get
// call.ReplyNoHealthy.
func New(cfg Config) *Cluster {
	if cfg.Overprovisioning == 0 {
		cfg.Overprovisioning = defaultOverprovisioning
	}
	if cfg.PanicThreshold == nil {
		t := uint32(defaultPanicThreshold)
		cfg.PanicThreshold = &t
	}
	c := &Cluster{
		cfg:        cfg,
		acc:        new(accounts),
		thresholds: [2]Thresholds{DefaultThresholds(), DefaultThresholds()},
		byKey:      make(map[hostKey]*Host),
		localities: make(map[localityKey]uint32),
	}
	for i, t := range []*Thresholds{cfg.Breakers.Default, cfg.Breakers.High} {
		if t != nil {
			c.thresholds[i] = *t
		}
	}
	c.acc.limitBy(&c.thresholds[0])
	c.set.Store(&set{overprovisioning: cfg.Overprovisioning})
	return c
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// Scope returns where the cluster is counted.
func (c *Cluster) Scope() call.Scope { return c.cfg.Scope }

// Config returns what the cluster was made with, defaults filled in.
func (c *Cluster) Config() *Config { return &c.cfg }

// Pick chooses the host for an attempt. It takes its random numbers from
// cl.Draw; a repeated attempt avoids the hosts of cl.Tried if there are others
// that may be picked. Errors are call.ReplyDropOverload, call.ReplyNoHealthy
// and call.ReplyOverflow.
func (c *Cluster) Pick(cl *call.Call, attempt int) (call.Host, error) {
	s := c.set.Load()
	// A drop is decided once per call, not again for its retries.
	if attempt == 0 && len(s.drops) > 0 && s.drop(cl.Draw) {
		c.acc.dropped.Add(1)
		if s.dropsAll {
			return nil, call.ReplyDropAll
		}
		return nil, call.ReplyDropOverload
	}
	h := s.pick(cl, attempt)
	if h == nil {
		return nil, call.ReplyNoHealthy
	}
	if !c.acc.requests.acquire() {
		return nil, call.ReplyOverflow
	}
	h.active.Add(1)
	h.total.Add(1)
	return h, nil
}

// Done ends what a successful Pick began. o may be nil if nothing is known of
// the attempt.
func (c *Cluster) Done(h call.Host, o *call.Outcome) { done(h, o) }

// done accounts where the host was picked, which need not be the cluster that
// the caller's handle holds by now.
func done(host call.Host, o *call.Outcome) {
	h, ok := host.(*Host)
	if !ok {
		return
	}
	h.active.Add(-1)
	h.acc.requests.release()
	if o != nil {
		h.record(o)
	}
}

// Close retires all hosts, but for those that another version has adopted, and
// leaves the cluster without any, for good.
func (c *Cluster) Close() {
	c.set.Store(&set{overprovisioning: c.cfg.Overprovisioning})
	for _, h := range c.byKey {
		h.retired.Store(true)
	}
	clear(c.byKey)
	clear(c.localities)
}

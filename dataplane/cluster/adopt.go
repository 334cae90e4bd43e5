package cluster

import (
	"reflect"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Adopt makes the hosts that c has in common with old those of old: they keep
// their connections, their counts and the calls in progress, which go on
// counting against the circuit breakers, now with c's limits. It does nothing
// if hosts of c are connected to in another way.
//
// c takes old's place: it must not have been picked from yet, and old is only
// picked from (until the Handle has c) and closed after this. Both belong to
// the configuration goroutine.
func (c *Cluster) Adopt(old *Cluster) {
	if !sameOptions(c.cfg.Options, old.cfg.Options) {
		return
	}
	c.acc = old.acc
	c.acc.limitBy(&c.thresholds[0])
	now := c.set.Load()
	next := &set{
		hosts: make([]*Host, 0, len(now.hosts)),
		drops: now.drops, overprovisioning: now.overprovisioning, weightedHealth: now.weightedHealth,
	}
	for _, h := range now.hosts {
		if was := old.byKey[h.key]; was != nil {
			was.attrs.Store(h.attrs.Load())
			was.round = h.round
			delete(old.byKey, h.key)
			c.byKey[h.key] = was
			h = was
		} else {
			h.acc = c.acc
			h.target.Limits = &c.acc.limits
		}
		next.hosts = append(next.hosts, h)
	}
	next.build(&c.cfg, c.localities)
	c.set.Store(next)
}

// sameOptions reports whether connections made by a are as good for b.
func sameOptions(a, b *call.UpstreamOptions) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	// Configurations of TLS have no order or meaning here: one and the same, or
	// another.
	if t := reflect.TypeOf(a.TLS); t != nil && !t.Comparable() {
		return false
	}
	return *a == *b
}

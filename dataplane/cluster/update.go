package cluster

import (
	"slices"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// Update makes a the cluster's endpoints. It belongs to the configuration
// goroutine. An assignment that means the same as the present one (the order
// of endpoints and localities has no meaning) changes nothing. Of endpoints
// with the same address the first counts, as in Envoy's EDS. The cost is
// proportional to the number of hosts.
//
// It reports whether anything changed. Hosts that left are retired when it
// returns; the caller then lets the workers sweep their connections.
func (c *Cluster) Update(a *Assignment) (changed bool) {
	c.round++
	old := c.set.Load()
	next := &set{
		hosts:            make([]*Host, 0, len(old.hosts)),
		drops:            a.DropOverloads,
		dropsAll:         slices.ContainsFunc(a.DropOverloads, func(d DropOverload) bool { return d.PerMillion >= 1_000_000 }),
		overprovisioning: a.Overprovisioning,
		weightedHealth:   a.WeightedPriorityHealth,
	}
	if next.overprovisioning == 0 {
		next.overprovisioning = c.cfg.Overprovisioning
	}
	changed = next.overprovisioning != old.overprovisioning || next.weightedHealth != old.weightedHealth ||
		!slices.Equal(next.drops, old.drops)

	localities := make(map[localityKey]uint32) // with hosts
	weights := make(map[localityKey]uint32)    // of any part of a locality; the last counts
	for i := range a.Localities {
		l := &a.Localities[i]
		key := localityKey{l.Region, l.Zone, l.SubZone, l.Priority}
		before := len(next.hosts)
		for j := range l.Endpoints {
			if c.take(next, &l.Endpoints[j], key) {
				changed = true
			}
		}
		if l.Weight != 0 {
			weights[key] = l.Weight
		}
		if len(next.hosts) > before {
			localities[key] = 0
		}
	}
	for key := range localities {
		localities[key] = weights[key]
	}
	if len(next.hosts) != len(old.hosts) {
		changed = true // a host left, for every host that came has set changed already
	}
	if c.cfg.LocalityWeighted && !equalWeights(localities, c.localities) {
		changed = true
	}
	if !changed {
		return false
	}

	c.localities = localities
	next.build(&c.cfg, localities)
	c.set.Store(next)
	// Only now: a worker that picks from the published set never meets a host
	// that was retired before the set was.
	for _, h := range old.hosts {
		if h.round != c.round {
			h.retired.Store(true)
			delete(c.byKey, h.key)
		}
	}
	return true
}

// take adds the host of e to next and reports whether it is new or changed.
func (c *Cluster) take(next *set, e *Endpoint, l localityKey) (changed bool) {
	at := attrs{locality: l, hostname: e.Hostname, health: e.Health, weight: max(e.Weight, 1), metadata: e.Metadata}
	key := e.key()
	h := c.byKey[key]
	switch {
	case h == nil:
		h = &Host{
			acc:    c.acc,
			key:    key,
			target: call.Target{Network: key.network, Address: key.address, Options: c.cfg.Options, Limits: &c.acc.limits},
		}
		h.target.Stats = &h.stats
		h.setAttrs(at)
		c.byKey[key] = h
		changed = true
	case h.round == c.round:
		return false // the address was there before in this assignment
	case !h.attrs.Load().equal(&at):
		h.setAttrs(at)
		changed = true
	}
	h.round = c.round
	next.hosts = append(next.hosts, h)
	return changed
}

func equalWeights(a, b map[localityKey]uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for k, w := range a {
		if v, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

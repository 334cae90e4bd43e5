package cluster

// HostStatus is what the admin interface shows of a host.
type HostStatus struct {
	Network, Address, Hostname string
	Region, Zone, SubZone      string
	Priority                   uint32
	Health                     Health
	Weight                     uint32
	Metadata                   Metadata // read-only
	Active                     int64    // attempts picked and not done
	Total                      uint64   // attempts ever
	Errors                     uint64   // attempts that failed at the host, connecting included
	ConnectErrors              uint64   // attempts for which no connection could be made
	Successes                  uint64   // attempts whose response was no error of the host
	Timeouts                   uint64   // attempts that took too long
	Connections                int64    // open, and being made
	ConnectionsTotal           uint64   // ever begun
	Pending                    int64    // attempts that wait for a stream
}

// Hosts returns the hosts of the present set in the assignment's order.
func (c *Cluster) Hosts() []HostStatus {
	s := c.set.Load()
	out := make([]HostStatus, len(s.hosts))
	for i, h := range s.hosts {
		at := h.attrs.Load()
		out[i] = HostStatus{
			Network: h.key.network, Address: h.key.address, Hostname: at.hostname,
			Region: at.locality.region, Zone: at.locality.zone, SubZone: at.locality.subZone,
			Priority: at.locality.priority, Health: at.health, Weight: at.weight, Metadata: at.metadata,
			Active: h.active.Load(), Total: h.total.Load(),
			Errors: h.errors.Load(), ConnectErrors: h.connectErrors.Load(),
			Successes: h.successes.Load(), Timeouts: h.timeouts.Load(),
			Connections: h.stats.Open.Load(), ConnectionsTotal: h.stats.Connecting.Load(), Pending: h.stats.Pending.Load(),
		}
	}
	return out
}

// Len returns the number of hosts, whatever their health.
func (c *Cluster) Len() int { return len(c.set.Load().hosts) }

// LevelStatus is the state of one priority level. Loads are percent of the
// calls; the loads of all levels add up to 100 if the cluster has hosts.
type LevelStatus struct {
	Priority                 uint32
	Hosts, Healthy, Degraded int
	HealthyLoad              uint32
	DegradedLoad             uint32
	Panic                    bool // calls go to all hosts of the level
}

// Levels returns the priority levels that have hosts, the highest first.
func (c *Cluster) Levels() []LevelStatus {
	s := c.set.Load()
	out := make([]LevelStatus, len(s.levels))
	copy(out, s.levels)
	return out
}

// Counts are a cluster's totals.
type Counts struct {
	Requests      int64  // attempts picked and not done, in all sets and of retired hosts too
	Overflow      uint64 // picks refused by max_requests
	Retries       int64  // retries acquired and not released
	RetryOverflow uint64 // retries refused by max_retries
	Dropped       uint64 // calls refused by drop_overloads
	Connections   int64  // to the hosts, and being made
	Pending       int64  // attempts that wait for a stream
}

// Counts returns the cluster's totals. They are read one after the other.
func (c *Cluster) Counts() Counts {
	return Counts{
		Requests:      c.acc.requests.taken.Load(),
		Overflow:      c.acc.requests.overflow.Load(),
		Retries:       c.acc.retries.taken.Load(),
		RetryOverflow: c.acc.retries.overflow.Load(),
		Dropped:       c.acc.dropped.Load(),
		Connections:   c.acc.limits.Connections.Taken(),
		Pending:       c.acc.limits.Pending.Taken(),
	}
}

// Thresholds returns the circuit breakers' limits of the routing priorities
// DEFAULT and HIGH.
func (c *Cluster) Thresholds() (def, high Thresholds) { return c.thresholds[0], c.thresholds[1] }

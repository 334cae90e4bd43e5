package cluster

// level is what the load of a priority level depends on.
type level struct {
	hosts, healthy, degraded       int    // numbers of hosts
	weight, healthyWght, degradedW uint64 // the same, by weight
}

// load is a priority level's share of the calls in percent.
type load struct {
	healthy, degraded uint32
	panic             bool // use all hosts of the level, whatever their health
}

// distribute gives each priority level its load, as Envoy's
// LoadBalancerBase::recalculatePerPriorityState, …Panic and …LoadInTotalPanic:
//
//	health(P)   = min(100, overprovisioning * healthy(P) / hosts(P)), integer
//	degraded(P) = the same of the degraded hosts
//	total       = min(100, Σ health + Σ degraded)
//	load(P)     = min(what is left of 100, health(P) * 100 / total)
//
// Healthy hosts of all levels come first, degraded ones get what is left, and
// the first available level gets what integer division lost. With three levels
// of 25 %, 25 % and 20 % healthy hosts and the factor 140: health 35, 35, 28;
// total 98; loads 35, 35, 28; the 2 % left go to the first: 37, 35, 28.
//
// A level panics if total < 100 and its available hosts are under the
// threshold. If all levels do, calls are shared by numbers of hosts.
func distribute(levels []level, overprovisioning, threshold uint32, byWeight bool) []load {
	loads := make([]load, len(levels))
	if len(levels) == 0 {
		return loads
	}
	threshold = min(threshold, 100)
	health := make([]uint32, len(levels))
	degraded := make([]uint32, len(levels))
	var sum uint32
	for i := range levels {
		health[i], degraded[i] = levels[i].availability(overprovisioning, byWeight)
		sum = min(100, sum+health[i]+degraded[i])
	}

	if sum > 0 {
		left, first := uint32(100), (*uint32)(nil)
		give := func(to *uint32, available uint32) {
			if available > 0 && first == nil {
				first = to
			}
			*to = min(left, available*100/sum)
			left -= *to
		}
		for i := range loads {
			give(&loads[i].healthy, health[i])
		}
		for i := range loads {
			give(&loads[i].degraded, degraded[i])
		}
		*first += left
	}
	if sum == 100 {
		return loads
	}

	total := true
	for i := range levels {
		loads[i].panic = levels[i].panics(threshold)
		total = total && loads[i].panic
	}
	switch {
	case total:
		distributeByHosts(levels, loads)
	case sum == 0:
		loads[0].healthy = 100 // panic is disabled and nothing is available: fails in the first level
	}
	return loads
}

// availability returns the health scores of a level's healthy and degraded
// hosts, 0 to 100.
func (l *level) availability(overprovisioning uint32, byWeight bool) (healthy, degraded uint32) {
	all, ok, deg := uint64(l.hosts), uint64(l.healthy), uint64(l.degraded)
	if byWeight {
		all, ok, deg = l.weight, l.healthyWght, l.degradedW
	}
	if all == 0 {
		return 0, 0
	}
	f := uint64(min(overprovisioning, 1<<14)) // sums of weights stay below 1<<49 (100,000 hosts)
	return uint32(min(100, f*ok/all)), uint32(min(100, f*deg/all))
}

// panics reports whether less than threshold percent of the hosts are available.
func (l *level) panics(threshold uint32) bool {
	if l.hosts == 0 {
		return threshold > 0
	}
	return 100*(l.healthy+l.degraded) < int(threshold)*l.hosts
}

// distributeByHosts shares the load by numbers of hosts: total panic.
func distributeByHosts(levels []level, loads []load) {
	all := 0
	for i := range levels {
		all += levels[i].hosts
	}
	left, first := uint32(100), 0
	for i := len(levels) - 1; i >= 0; i-- {
		loads[i].healthy, loads[i].degraded = 0, 0
		if levels[i].hosts > 0 {
			first = i
			loads[i].healthy = uint32(100 * levels[i].hosts / all)
			left -= loads[i].healthy
		}
	}
	loads[first].healthy += left
}

package cluster

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// set is the hosts of a cluster between two updates, ready for picking.
// Immutable but for the cursors of its rotations.
type set struct {
	hosts            []*Host // all of them, in the assignment's order
	drops            []DropOverload
	dropsAll         bool // one of drops takes every call
	overprovisioning uint32
	weightedHealth   bool
	levels           []LevelStatus

	// What Pick uses: one draw in 0..99 gives the tier, the tier its group.
	tiers   []tier
	percent [100]uint8 // index in tiers; loads are whole percents, so there are at most 100 tiers
}

// tier is the hosts that get one share of the load: the healthy or the
// degraded hosts of a priority level, or all of them in panic.
type tier struct {
	groups     []group
	localities *rotation // which group; nil if there is only one
}

// group is hosts that share by the cluster's policy: a tier's, or those of one
// of its localities. Empty only if calls are to fail there.
type group struct {
	hosts  []*Host
	picker picker
}

// The stages of a Pick derive their random numbers from the call's one draw.
const (
	stageTier uint64 = iota + 1
	stageLocality
	stageHost
	stageDrop
	stageRetry
)

// mix returns a random number for a stage of the choice that draw is for
// (splitmix64's finaliser).
func mix(draw, stage uint64) uint64 {
	z := draw + stage*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// below maps a random number to 0..n-1.
func below(draw, n uint64) uint64 {
	hi, _ := bits.Mul64(draw, n)
	return hi
}

func (s *set) drop(draw uint64) bool {
	for i := range s.drops {
		draw = mix(draw, stageDrop)
		if below(draw, 1_000_000) < uint64(s.drops[i].PerMillion) {
			return true
		}
	}
	return false
}

// pick returns the host for an attempt, nil if there is none.
func (s *set) pick(c *call.Call, attempt int) *Host {
	if len(s.tiers) == 0 {
		return nil
	}
	g := s.group(c.Draw)
	if len(g.hosts) == 0 {
		return nil
	}
	h := g.picker.pick(c, mix(c.Draw, stageHost))
	if attempt == 0 || !tried(c, h) {
		return h
	}
	return s.another(c, h)
}

// group chooses the tier by its load and the locality by its weight.
func (s *set) group(draw uint64) *group {
	t := &s.tiers[s.percent[below(mix(draw, stageTier), 100)]]
	if t.localities == nil {
		return &t.groups[0]
	}
	return &t.groups[t.localities.next(mix(draw, stageLocality))]
}

// redraws is how often a repeated attempt draws again before it looks for any
// host that was not tried.
const redraws = 3

// another returns a host that the call has not tried, h if there is none. It
// draws again first, which keeps the shares; then it looks through the groups
// with load. Hosts of a group differ, so len(c.Tried)+1 of each are enough.
func (s *set) another(c *call.Call, h *Host) *Host {
	draw := c.Draw
	for range redraws {
		draw = mix(draw, stageRetry)
		g := s.group(draw)
		if len(g.hosts) == 0 {
			continue
		}
		if a := g.picker.pick(c, mix(draw, stageHost)); !tried(c, a) {
			return a
		}
	}
	for i := range s.tiers {
		for j := range s.tiers[i].groups {
			hosts := s.tiers[i].groups[j].hosts
			n := len(hosts)
			if n == 0 {
				continue
			}
			start := int(below(draw, uint64(n)))
			for k := range min(n, len(c.Tried)+1) {
				if a := hosts[(start+k)%n]; !tried(c, a) {
					return a
				}
			}
		}
	}
	return h
}

func tried(c *call.Call, h *Host) bool {
	for _, t := range c.Tried {
		if t == call.Host(h) {
			return true
		}
	}
	return false
}

// hostsOf is the hosts of one priority level while a set is built.
type hostsOf struct {
	priority               uint32
	all, healthy, degraded []*Host
	level                  level
}

// build makes levels, tiers and percent from hosts. Localities are weights.
func (s *set) build(cfg *Config, localities map[localityKey]uint32) {
	byLevel := s.split()
	levels := make([]level, len(byLevel))
	for i := range byLevel {
		levels[i] = byLevel[i].level
	}
	loads := distribute(levels, s.overprovisioning, *cfg.PanicThreshold, s.weightedHealth)
	s.levels = make([]LevelStatus, len(byLevel))
	for i, l := range byLevel {
		s.levels[i] = LevelStatus{
			Priority: l.priority, Hosts: len(l.all), Healthy: len(l.healthy), Degraded: len(l.degraded),
			HealthyLoad: loads[i].healthy, DegradedLoad: loads[i].degraded, Panic: loads[i].panic,
		}
	}

	at := 0 // percent given out
	add := func(t tier, share uint32) {
		s.tiers = append(s.tiers, t)
		for range share {
			s.percent[at] = uint8(len(s.tiers) - 1)
			at++
		}
	}
	for i, l := range byLevel {
		ld := loads[i]
		switch {
		case ld.panic && ld.healthy+ld.degraded > 0 && cfg.FailTrafficOnPanic:
			add(tier{groups: make([]group, 1)}, ld.healthy+ld.degraded)
		case ld.panic && ld.healthy+ld.degraded > 0:
			// In panic Envoy takes all hosts of the level and leaves localities aside.
			add(tier{groups: []group{newGroup(cfg, l.all)}}, ld.healthy+ld.degraded)
		default:
			if ld.healthy > 0 {
				add(s.newTier(cfg, &l, l.healthy, localities), ld.healthy)
			}
			if ld.degraded > 0 {
				add(s.newTier(cfg, &l, l.degraded, localities), ld.degraded)
			}
		}
	}
}

// split sorts the hosts into priority levels, the highest first. Priorities
// without hosts have no level; they would have no load.
func (s *set) split() []hostsOf {
	index := make(map[uint32]int)
	var levels []hostsOf
	for _, h := range s.hosts {
		at := h.attrs.Load()
		i, ok := index[at.locality.priority]
		if !ok {
			i = len(levels)
			index[at.locality.priority] = i
			levels = append(levels, hostsOf{priority: at.locality.priority})
		}
		l := &levels[i]
		w := uint64(at.weight)
		l.all = append(l.all, h)
		l.level.hosts++
		l.level.weight += w
		switch {
		case at.health.healthy():
			l.healthy = append(l.healthy, h)
			l.level.healthy++
			l.level.healthyWght += w
		case at.health.degraded():
			l.degraded = append(l.degraded, h)
			l.level.degraded++
			l.level.degradedW += w
		}
	}
	slices.SortFunc(levels, func(a, b hostsOf) int { return cmp.Compare(a.priority, b.priority) })
	return levels
}

// newTier groups the eligible hosts of a level by locality if localities have
// weights, else into one group.
func (s *set) newTier(cfg *Config, l *hostsOf, eligible []*Host, localities map[localityKey]uint32) tier {
	if cfg.LocalityWeighted {
		if t, ok := s.newLocalityTier(cfg, l, eligible, localities); ok {
			return t
		}
	}
	return tier{groups: []group{newGroup(cfg, eligible)}}
}

// localityScale turns effective locality weights into integers: availability
// counts in steps of a ten thousandth.
const localityScale = 10_000

// newLocalityTier makes one group per locality with the effective weight
//
//	weight * min(1, overprovisioning/100 * eligible/hosts)
//
// as Envoy's LocalityWrr::effectiveLocalityWeight: a locality of weight 1 with
// 50 % of its hosts eligible counts 0.7. ok is false if no locality has weight.
func (s *set) newLocalityTier(cfg *Config, l *hostsOf, eligible []*Host, localities map[localityKey]uint32) (tier, bool) {
	total := make(map[localityKey]int)
	for _, h := range l.all {
		total[h.attrs.Load().locality]++
	}
	index := make(map[localityKey]int)
	var keys []localityKey
	var members [][]*Host
	for _, h := range eligible {
		key := h.attrs.Load().locality
		if localities[key] == 0 {
			continue
		}
		i, ok := index[key]
		if !ok {
			i = len(members)
			index[key] = i
			keys = append(keys, key)
			members = append(members, nil)
		}
		members[i] = append(members[i], h)
	}
	if len(members) == 0 {
		return tier{}, false
	}
	t := tier{groups: make([]group, len(members))}
	weights := make([]uint64, len(members))
	for i, hosts := range members {
		t.groups[i] = newGroup(cfg, hosts)
		share := float64(s.overprovisioning) / 100 * float64(len(hosts)) / float64(total[keys[i]])
		weights[i] = max(1, uint64(math.Round(float64(localities[keys[i]])*min(1, share)*localityScale)))
	}
	if len(members) > 1 {
		t.localities = newRotation(weights)
	}
	return t, true
}

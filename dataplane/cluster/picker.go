package cluster

import (
	"math"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// picker chooses among the hosts of one group, at least one. Many workers use
// it at once; what it changes is atomic. draw is a random number of its own.
type picker interface {
	pick(c *call.Call, draw uint64) *Host
}

func newGroup(cfg *Config, hosts []*Host) group {
	return group{hosts: hosts, picker: newPicker(&cfg.Policy, hosts)}
}

func newPicker(p *Policy, hosts []*Host) picker {
	weights := make([]uint64, len(hosts))
	equal := true
	for i, h := range hosts {
		weights[i] = uint64(h.attrs.Load().weight)
		equal = equal && weights[i] == weights[0]
	}
	switch {
	case p.Kind == LeastRequest && equal:
		return &leastRequest{hosts: hosts, choices: p.choices()}
	case p.Kind == LeastRequest:
		return &weightedLeastRequest{hosts: hosts, weights: newPrefix(weights), choices: p.choices(), bias: p.bias()}
	case p.Kind == Random && equal:
		return uniform(hosts)
	case p.Kind == Random:
		return &weightedRandom{hosts: hosts, weights: newPrefix(weights)}
	default:
		return &roundRobin{hosts: hosts, rotation: newRotation(weights)}
	}
}

func (p *Policy) choices() int {
	if p.ChoiceCount == 0 {
		return defaultChoiceCount
	}
	return int(min(p.ChoiceCount, maxChoiceCount))
}

func (p *Policy) bias() float64 {
	if p.Bias == nil {
		return 1
	}
	return max(*p.Bias, 0)
}

// roundRobin takes the hosts in turn, by weight.
type roundRobin struct {
	hosts    []*Host
	rotation *rotation
}

func (r *roundRobin) pick(_ *call.Call, draw uint64) *Host { return r.hosts[r.rotation.next(draw)] }

// uniform takes any host.
type uniform []*Host

func (u uniform) pick(_ *call.Call, draw uint64) *Host { return u[below(draw, uint64(len(u)))] }

// weightedRandom takes any host, with a probability proportional to its
// weight. (Envoy's random policy leaves weights aside.)
type weightedRandom struct {
	hosts   []*Host
	weights *prefix
}

func (r *weightedRandom) pick(_ *call.Call, draw uint64) *Host { return r.hosts[r.weights.find(draw)] }

// leastRequest takes the host with the fewest active requests of a few drawn
// at random; of equals any. If there are no more hosts than choices it looks
// at all of them.
type leastRequest struct {
	hosts   []*Host
	choices int
}

func (l *leastRequest) pick(_ *call.Call, draw uint64) *Host {
	var best *Host
	var least int64
	ties := uint64(0)
	n := len(l.hosts)
	all := n <= l.choices
	for i := range min(n, l.choices) {
		draw = mix(draw, stageHost)
		h := l.hosts[i]
		if !all {
			h = l.hosts[below(draw, uint64(n))]
		}
		switch a := h.active.Load(); {
		case best == nil || a < least:
			best, least, ties = h, a, 1
		case a == least:
			// Of k equal ones the k-th replaces the earlier with probability 1/k.
			if ties++; below(mix(draw, stageRetry), ties) == 0 {
				best = h
			}
		}
	}
	return best
}

// weightedLeastRequest gives a host the share weight/(active+1)^bias. A few
// hosts are drawn by weight, and one of them by 1/(active+1)^bias: with equal
// activity the shares are exactly proportional to the weights, with few choices
// the influence of activity is an estimate (sampling, importance resampling).
// Envoy keeps an EDF queue with these effective weights per worker instead. If
// there are no more hosts than choices the shares are exact.
type weightedLeastRequest struct {
	hosts   []*Host
	weights *prefix
	choices int
	bias    float64
}

func (l *weightedLeastRequest) pick(_ *call.Call, draw uint64) *Host {
	var best *Host
	var sum float64
	n := len(l.hosts)
	all := n <= l.choices
	for i := range min(n, l.choices) {
		draw = mix(draw, stageHost)
		at := i
		if !all {
			at = l.weights.find(draw)
		}
		h := l.hosts[at]
		share := l.score(h)
		if all {
			share *= float64(l.weights.weight(at))
		}
		sum += share
		// The k-th replaces the earlier with its share of all so far.
		if float64(mix(draw, stageRetry)>>11)*(1.0/(1<<53))*sum < share {
			best = h
		}
	}
	return best
}

func (l *weightedLeastRequest) score(h *Host) float64 {
	a := float64(max(h.active.Load(), 0) + 1)
	if l.bias == 1 {
		return 1 / a
	}
	return math.Pow(a, -l.bias)
}

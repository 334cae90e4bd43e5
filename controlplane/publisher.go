package controlplane

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// stepTimeout bounds the wait for a proxy's answer within a change. A proxy
// that is slower than that gets the rest anyway: a stuck proxy must not stop
// its configuration for ever.
const stepTimeout = 5 * time.Second

// publisher leads every connected node from the state it has to the state it
// should have. One goroutine (run) owns all of it; others only post.
type publisher struct {
	cache cachev3.SnapshotCache
	nodes *nodes
	log   *slog.Logger

	// owned by run
	groups  revisions
	members map[string]*member // by node key
	plans   map[planKey]plan

	wakeup chan struct{} // capacity 1
	gone   chan struct{} // closed when run ends

	mu    sync.Mutex // guards queue
	queue []event
}

// event is what run is told.
type event struct {
	key    string          // a node connected, answered or left
	node   *corev3.Node    // with key: the node that connected
	done   chan<- struct{} // with node, closed when its state is published; nil: nobody waits
	groups revisions       // what is to be published; nil: no change
}

// member is a node being led.
type member struct {
	node *corev3.Node
	at   *state // published last
	to   *state // to be reached; nil: the group is gone, its proxies keep what they have

	made     bool              // clusters changed and the node has not confirmed them yet
	fresh    map[string]string // clusters that came and whose endpoints it has not confirmed yet; -> endpoints; never written, may be shared
	added    bool              // a cluster that it had not is among what changed
	swapping bool              // listeners or routes changed and it has not confirmed them yet

	deadline time.Time // of the wait it is in; zero: it waits for nothing, or for a new revision
	held     bool      // it refused what the next step needs, and that was logged
}

// plan is one step, which all nodes share that are at the same point, with
// what is derived from it once for all of them. Immutable.
type plan struct {
	st    *state
	kind  stepKind
	made  bool              // clusters change
	added bool              // clusters come
	fresh map[string]string // clusters that come, with their endpoints
}

type planKey struct {
	from, to *state
	swapping bool
}

func newPublisher(cache cachev3.SnapshotCache, log *slog.Logger) *publisher {
	return &publisher{
		cache: cache, log: log,
		members: map[string]*member{}, plans: map[planKey]plan{},
		wakeup: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}

func (p *publisher) post(e event) {
	p.mu.Lock()
	p.queue = append(p.queue, e)
	p.mu.Unlock()
	select {
	case p.wakeup <- struct{}{}:
	default:
	}
}

// kick tells that something about a node changed.
func (p *publisher) kick(key string) { p.post(event{key: key}) }

// connected leads a node that has just connected, and returns when its state is
// in the cache. A request that came before would wait for a change: to the
// cache, a client that has the version which is set first has everything.
func (p *publisher) connected(n *corev3.Node) {
	done := make(chan struct{})
	p.post(event{key: nodeKey(n), node: n, done: done})
	select {
	case <-done:
	case <-p.gone:
	}
}

// run is the publisher's goroutine. It runs once.
func (p *publisher) run(ctx context.Context) {
	defer close(p.gone)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wakeup:
		case <-timer.C:
		}
		p.mu.Lock()
		q := p.queue
		p.queue = nil
		p.mu.Unlock()
		for _, e := range q {
			p.handle(ctx, e)
		}
		timer.Reset(p.expire(ctx, time.Now()))
	}
}

func (p *publisher) handle(ctx context.Context, e event) {
	m := p.members[e.key]
	switch {
	case e.groups != nil:
		p.groups = e.groups
		clear(p.plans)
		for key, m := range p.members {
			p.target(key, m)
			p.advance(ctx, key, m)
		}
	case e.node != nil:
		if m == nil {
			m = &member{}
			p.members[e.key] = m
		}
		m.node = e.node
		p.target(e.key, m)
		p.advance(ctx, e.key, m)
		if e.done != nil {
			close(e.done)
		}
	case m == nil:
	case p.nodes.ifGone(e.key, func() { p.cache.ClearSnapshot(e.key) }):
		delete(p.members, e.key)
	default:
		p.advance(ctx, e.key, m)
	}
}

// target sets where a member is to be led: to its group's present state.
func (p *publisher) target(key string, m *member) {
	m.held = false
	rev := p.groups.of(m.node)
	if rev == nil {
		if m.to != nil {
			p.log.Warn("the node's group is gone; it keeps what it has", "node", m.node.GetId(), "cluster", m.node.GetCluster())
		}
		m.to = nil
		p.nodes.regrouped(key, "")
		return
	}
	m.to = rev.Group.state
	p.nodes.regrouped(key, rev.Group.Name)
}

// advance goes step by step to where the member is to be led, as far as it has
// taken in what the next step needs.
func (p *publisher) advance(ctx context.Context, key string, m *member) {
	for m.to != nil && m.at != m.to {
		if m.at == nil {
			p.publish(ctx, key, m, m.to)
			continue
		}
		if m.swapping && p.confirmsSwap(key, m) == accepted {
			m.swapping = false
		}
		next := p.next(m)
		v := accepted
		switch next.kind {
		case stepSwap:
			v = p.confirmsMake(key, m)
		case stepBreak:
			v = p.confirmsSwap(key, m)
		}
		switch v {
		case pending:
			if m.deadline.IsZero() {
				m.deadline = time.Now().Add(stepTimeout)
			}
			return
		case refused:
			m.deadline = time.Time{}
			if !m.held {
				m.held = true
				p.log.Warn("the rest of the change is held back from a node that refused a part of it", "node", m.node.GetId(), "cluster", m.node.GetCluster())
			}
			return
		}
		p.step(ctx, key, m, next)
	}
	m.deadline = time.Time{}
}

func (p *publisher) next(m *member) plan {
	id := planKey{m.at, m.to, m.swapping}
	s, ok := p.plans[id]
	if !ok {
		s.st, s.kind = nextStep(m.at, m.to, m.swapping)
		if s.kind == stepMake {
			s.made = !s.st.same(m.at, resourcev3.ClusterType)
			s.added = s.st.adds(m.at, resourcev3.ClusterType)
			s.fresh = s.st.newAssignments(m.at)
		}
		p.plans[id] = s
	}
	return s
}

// step publishes a step and notes what must be confirmed before others.
func (p *publisher) step(ctx context.Context, key string, m *member, s plan) {
	switch s.kind {
	case stepMake:
		m.made, m.added = m.made || s.made, m.added || s.added
		m.fresh = stillWanted(m.fresh, s.fresh, m.to)
	case stepSwap:
		m.made, m.added, m.fresh, m.swapping = false, false, nil, true
	case stepBreak:
		m.swapping = false
	}
	p.publish(ctx, key, m, s.st)
}

// stillWanted joins the clusters that a node has to confirm with those that
// come, without those of the former that are no longer on its way.
func stillWanted(had, come map[string]string, to *state) map[string]string {
	if len(had) == 0 {
		return come
	}
	out := maps.Clone(come)
	for cluster, eds := range had {
		r := (*to)[resourcev3.ClusterType].byName[cluster]
		if r != nil && r.assignment() == eds && (*to)[resourcev3.EndpointType].byName[eds] != nil {
			out[cluster] = eds
		}
	}
	return out
}

func (p *publisher) publish(ctx context.Context, key string, m *member, st *state) {
	m.at, m.deadline, m.held = st, time.Time{}, false
	if err := p.cache.SetSnapshot(ctx, key, st); err != nil && ctx.Err() == nil {
		p.log.Error("publishing failed", "node", m.node.GetId(), "cluster", m.node.GetCluster(), "reason", err)
	}
}

// confirmsMake reports whether a node has what listeners and routes may refer
// to now. If it refused clusters of which one is new, a route to that one would
// fail: it keeps its routes. If all it refused is a change, it goes on with the
// clusters it has.
func (p *publisher) confirmsMake(key string, m *member) verdict {
	if m.made {
		switch v := p.nodes.stands(key, resourcev3.ClusterType, m.at); {
		case v == pending, v == refused && m.added:
			return v
		}
	}
	if len(m.fresh) > 0 && !p.nodes.has(key, m.fresh) {
		if p.nodes.stands(key, resourcev3.EndpointType, m.at) == refused {
			return refused
		}
		return pending
	}
	m.made, m.added, m.fresh = false, false, nil
	return accepted
}

// confirmsSwap reports whether a node has taken in the listeners and routes, so
// that what the former ones used can go. If it refused one, the former one
// serves on and needs what it uses.
func (p *publisher) confirmsSwap(key string, m *member) verdict {
	v := accepted
	for _, url := range usingTypes {
		v = max(v, p.nodes.stands(key, url, m.at))
	}
	return v
}

// expire moves on members that waited too long, and returns when to look
// again.
func (p *publisher) expire(ctx context.Context, now time.Time) time.Duration {
	next := time.Hour
	for key, m := range p.members {
		if !m.deadline.IsZero() && !m.deadline.After(now) {
			p.log.Warn("the node does not answer; going on with the change", "node", m.node.GetId(), "cluster", m.node.GetCluster(), "waited", stepTimeout)
			p.nodes.gaveUp(key)
			p.step(ctx, key, m, p.next(m))
			p.advance(ctx, key, m)
		}
		if !m.deadline.IsZero() {
			next = min(next, m.deadline.Sub(now))
		}
	}
	return max(next, time.Millisecond)
}

// shortType is a type URL's last word, for people.
func shortType(url string) string {
	switch url {
	case resourcev3.ListenerType:
		return "LDS"
	case resourcev3.RouteType:
		return "RDS"
	case resourcev3.ClusterType:
		return "CDS"
	case resourcev3.EndpointType:
		return "EDS"
	case resourcev3.SecretType:
		return "SDS"
	case resourcev3.RuntimeType:
		return "RTDS"
	case resourcev3.ExtensionConfigType:
		return "ECDS"
	}
	return url
}

package controlplane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// stepTimeout bounds the wait for a proxy's answer within a change. A proxy
// that is slower than that gets the rest anyway: a stuck proxy must not stop
// the fleet's configuration for ever.
const stepTimeout = 5 * time.Second

// publisher leads every connected node from the state it has to the state it
// should have. One goroutine (run) owns all of it; others only kick.
type publisher struct {
	cache cachev3.SnapshotCache
	nodes *nodes
	log   *slog.Logger

	// owned by run
	groups  map[string]*state
	match   func(*corev3.Node) *Revision // which group a node belongs to
	members map[string]*member           // by node key
	plans   map[[2]*state][]step

	wakeup chan struct{} // capacity 1

	mu    sync.Mutex // guards queue
	queue []event
}

// event is what run is told.
type event struct {
	key  string            // a node connected, answered or left
	node *corev3.Node      // with key: the node that connected
	set  map[string]*state // the groups' states; nil: no change
}

// member is a node being led.
type member struct {
	node     *corev3.Node
	at       *state // published last
	steps    []step // still to do; steps[0] is at, being waited for
	deadline time.Time
}

func newPublisher(cache cachev3.SnapshotCache, match func(*corev3.Node) *Revision, log *slog.Logger) *publisher {
	return &publisher{
		cache: cache, log: log, match: match,
		groups: map[string]*state{}, members: map[string]*member{}, plans: map[[2]*state][]step{},
		wakeup: make(chan struct{}, 1),
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

// run is the publisher's goroutine.
func (p *publisher) run(ctx context.Context) {
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
	if e.set != nil {
		p.groups = e.set
		clear(p.plans)
		for key, m := range p.members {
			p.retarget(ctx, key, m)
		}
		return
	}
	m := p.members[e.key]
	if e.node != nil {
		if m == nil {
			m = &member{}
			p.members[e.key] = m
		}
		m.node = e.node
		p.retarget(ctx, e.key, m)
		return
	}
	if m == nil {
		return
	}
	if !p.nodes.connected(e.key) {
		delete(p.members, e.key)
		p.cache.ClearSnapshot(e.key)
		return
	}
	p.advance(ctx, e.key, m)
}

// retarget leads a member to its group's present state from wherever it is.
func (p *publisher) retarget(ctx context.Context, key string, m *member) {
	var to *state
	if rev := p.match(m.node); rev != nil {
		to = p.groups[rev.Group.Name]
	}
	if to == nil {
		m.steps = nil // the group is gone: its proxies keep what they have
		return
	}
	if m.at == to && len(m.steps) == 0 {
		return
	}
	id := [2]*state{m.at, to}
	steps, ok := p.plans[id]
	if !ok {
		steps = plan(m.at, to)
		p.plans[id] = steps
	}
	m.steps = steps
	if len(steps) == 0 {
		m.at = to
		return
	}
	p.publish(ctx, key, m)
	p.advance(ctx, key, m)
}

// publish hands the member's present step to the cache.
func (p *publisher) publish(ctx context.Context, key string, m *member) {
	m.at = m.steps[0].state
	m.deadline = time.Now().Add(stepTimeout)
	if err := p.cache.SetSnapshot(ctx, key, m.at.snapshot); err != nil && ctx.Err() == nil {
		p.log.Error("publishing failed", "node", key, "reason", err)
	}
}

// advance goes on to the next step as long as the present one is settled.
func (p *publisher) advance(ctx context.Context, key string, m *member) {
	for len(m.steps) > 0 && p.settled(key, m.steps[0]) {
		p.next(ctx, key, m)
	}
}

func (p *publisher) next(ctx context.Context, key string, m *member) {
	m.steps = m.steps[1:]
	if len(m.steps) > 0 {
		p.publish(ctx, key, m)
	}
}

func (p *publisher) settled(key string, s step) bool {
	for _, w := range s.wait {
		if !p.nodes.settled(key, w.url, w.version, w.names) {
			return false
		}
	}
	return true
}

// expire moves on members that waited too long, and returns when to look
// again.
func (p *publisher) expire(ctx context.Context, now time.Time) time.Duration {
	next := time.Hour
	for key, m := range p.members {
		for len(m.steps) > 0 && !m.deadline.After(now) {
			p.log.Warn("the proxy does not answer; going on with the change", "node", key, "waited", stepTimeout)
			p.next(ctx, key, m)
			p.advance(ctx, key, m)
		}
		if len(m.steps) > 0 {
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

package controlplane

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// NodeStatus is what is known of a connected proxy's stream.
type NodeStatus struct {
	ID        string
	Cluster   string
	Group     string // "" if its group is gone
	Delta     bool   // the incremental variant of the protocol
	Connected time.Time
	Types     map[string]TypeStatus // by type URL
}

// TypeStatus is how a stream stands to one resource type.
type TypeStatus struct {
	Sent   string // version sent last
	Acked  string // version accepted last
	Nacked string // version refused last, "" if the newest was accepted
	Error  string // why
}

// nodes tracks what each stream's proxy asked for, was sent and has accepted.
// Safe for concurrent use. Its lock is taken before the cache's.
type nodes struct {
	changed func(key string) // called without the lock when an answer came in

	mu      sync.Mutex // guards all below
	streams map[streamID]*nodeStream
	byKey   map[string][]*nodeStream // the streams of a node
}

// streamID is a stream of either protocol variant: the two count by
// themselves.
type streamID struct {
	delta bool
	id    int64
}

type nodeStream struct {
	key    string
	node   *corev3.Node
	status NodeStatus
	types  map[string]*typeTrack
}

func newNodes(changed func(key string)) *nodes {
	return &nodes{changed: changed, streams: map[streamID]*nodeStream{}, byKey: map[string][]*nodeStream{}}
}

// open notes the node of a stream's first request.
func (n *nodes) open(id streamID, node *corev3.Node, group string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &nodeStream{
		key: nodeKey(node), node: node,
		status: NodeStatus{ID: node.GetId(), Cluster: node.GetCluster(), Group: group, Delta: id.delta, Connected: time.Now()},
		types:  map[string]*typeTrack{},
	}
	n.streams[id] = s
	n.byKey[s.key] = append(n.byKey[s.key], s)
}

// close forgets a stream and returns its node, nil if it never told.
func (n *nodes) close(id streamID) *corev3.Node {
	n.mu.Lock()
	s := n.streams[id]
	if s == nil {
		n.mu.Unlock()
		return nil
	}
	delete(n.streams, id)
	rest := slices.DeleteFunc(n.byKey[s.key], func(o *nodeStream) bool { return o == s })
	if n.byKey[s.key] = rest; len(rest) == 0 {
		delete(n.byKey, s.key)
	}
	n.mu.Unlock()
	n.changed(s.key)
	return s.node
}

// node returns the node of a stream, nil before its first request.
func (n *nodes) node(id streamID) *corev3.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.streams[id]; s != nil {
		return s.node
	}
	return nil
}

// regrouped notes the group of a node's streams.
func (n *nodes) regrouped(key, group string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.byKey[key] {
		s.status.Group = group
	}
}

// request notes a request. It reports whether it was a NACK.
func (n *nodes) request(id streamID, r request) (isNACK bool) {
	n.mu.Lock()
	s := n.streams[id]
	if s == nil {
		n.mu.Unlock()
		return false
	}
	t := s.types[r.url]
	if t == nil {
		t = newTypeTrack(id.delta, r)
		s.types[r.url] = t
	}
	t.asked(r)
	n.mu.Unlock()
	n.changed(s.key)
	return r.nack != ""
}

// sent notes a response.
func (n *nodes) sent(id streamID, url string, r response) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.streams[id]; s != nil && s.types[url] != nil {
		s.types[url].sent(r)
	}
}

// verdict is how a node stands to what it was sent.
type verdict uint8

const (
	accepted verdict = iota
	pending          // not answered yet
	refused
)

// stands reports how a node stands to a state's resources of one type, over
// all of its streams. A node that never asked for the type has nothing against
// it, and a stream that has been waited for in vain is not waited for again
// until it answers.
func (n *nodes) stands(key, url string, st *state) verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	worst := accepted
	for _, s := range n.byKey[key] {
		if t := s.types[url]; t != nil && !t.late {
			worst = max(worst, t.stands((*st)[url]))
		}
	}
	return worst
}

// has reports whether a node has accepted the endpoints of all those of the
// clusters (name -> name of the endpoints) that it asked for.
func (n *nodes) has(key string, clusters map[string]string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for cluster, eds := range clusters {
		wanted, served := false, false
		for _, s := range n.byKey[key] {
			if t := s.types[resourcev3.ClusterType]; t != nil && t.subscribes(cluster) {
				wanted = true
			}
			t := s.types[resourcev3.EndpointType]
			switch {
			case t == nil:
			case t.got(eds):
				served = true
			case t.subscribes(eds) && !t.late:
				return false
			}
		}
		if wanted && !served {
			return false
		}
	}
	return true
}

// gaveUp notes that a node was waited for in vain.
func (n *nodes) gaveUp(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.byKey[key] {
		for _, t := range s.types {
			t.late = t.late || t.open
		}
	}
}

// ifGone calls f if the node has no stream, and reports it. No stream of the
// node opens while f runs.
func (n *nodes) ifGone(key string, f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.byKey[key]) > 0 {
		return false
	}
	f()
	return true
}

// list returns a status for each stream, sorted by node.
func (n *nodes) list() []NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []NodeStatus
	for _, s := range n.streams {
		st := s.status
		st.Types = make(map[string]TypeStatus, len(s.types))
		for url, t := range s.types {
			st.Types[url] = t.TypeStatus
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b NodeStatus) int {
		return cmp.Or(strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.ID, b.ID), a.Connected.Compare(b.Connected))
	})
	return out
}

package controlplane

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// NodeStatus is what is known of a connected proxy.
type NodeStatus struct {
	Key       string // group/id
	ID        string
	Cluster   string
	Group     string
	Connected time.Time
	Types     map[string]TypeStatus // by type URL
}

// TypeStatus is how a proxy stands to one resource type.
type TypeStatus struct {
	Sent     string   // version sent last
	Acked    string   // version accepted last
	Nacked   string   // version refused last, "" if the newest was accepted
	Error    string   // why
	Received []string // names accepted last
}

// nodes tracks what each stream's proxy was sent and has accepted. Safe for
// concurrent use.
type nodes struct {
	changed func(key string) // called without the lock when an answer came in

	mu      sync.Mutex // guards all below
	streams map[streamID]*nodeStream
}

// streamID is a stream of either protocol variant: the two count by
// themselves.
type streamID struct {
	delta bool
	id    int64
}

type nodeStream struct {
	status NodeStatus
	types  map[string]*typeTrack
}

// typeTrack follows the answers for one type on one stream.
type typeTrack struct {
	nonce, version string            // of the newest response
	names          []string          // its resources
	acked          map[string]string // resource name -> version it was accepted with
	TypeStatus
}

func newNodes(changed func(key string)) *nodes {
	return &nodes{changed: changed, streams: map[streamID]*nodeStream{}}
}

// open notes the node of a stream's first request.
func (n *nodes) open(id streamID, key, group string, node *corev3.Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.streams[id] = &nodeStream{
		status: NodeStatus{Key: key, ID: node.GetId(), Cluster: node.GetCluster(), Group: group, Connected: time.Now()},
		types:  map[string]*typeTrack{},
	}
}

func (n *nodes) close(id streamID) {
	n.mu.Lock()
	s := n.streams[id]
	delete(n.streams, id)
	n.mu.Unlock()
	if s != nil {
		n.changed(s.status.Key)
	}
}

// key returns the node key of a stream, "" before its first request.
func (n *nodes) key(id streamID) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.streams[id]; s != nil {
		return s.status.Key
	}
	return ""
}

func (s *nodeStream) track(url string) *typeTrack {
	t := s.types[url]
	if t == nil {
		t = &typeTrack{acked: map[string]string{}}
		s.types[url] = t
	}
	return t
}

// sent notes a response.
func (n *nodes) sent(id streamID, url, nonce, version string, names, removed []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.streams[id]
	if s == nil {
		return
	}
	t := s.track(url)
	t.nonce, t.version, t.names = nonce, version, names
	t.Sent = version
	for _, r := range removed {
		delete(t.acked, r)
	}
}

// answered notes a request; an ACK or a NACK if it carries the nonce of the
// newest response. It reports whether it was a NACK.
func (n *nodes) answered(id streamID, url, nonce, nack string) (isNACK bool) {
	n.mu.Lock()
	s := n.streams[id]
	if s == nil || nonce == "" || s.track(url).nonce != nonce {
		n.mu.Unlock()
		return false
	}
	t := s.track(url)
	if nack != "" {
		t.Nacked, t.Error = t.version, nack
	} else {
		t.Acked, t.Nacked, t.Error = t.version, "", ""
		t.Received = t.names
		for _, r := range t.names {
			t.acked[r] = t.version
		}
	}
	key := s.status.Key
	n.mu.Unlock()
	n.changed(key)
	return nack != ""
}

// settled reports whether the node has taken in a version of a type: every
// stream on which it asked for the type has answered it and, with names, has
// accepted those resources. A refusal counts as an answer: waiting longer
// changes nothing. A node that never asked for the type is settled unless
// names are wanted.
func (n *nodes) settled(key, url, version string, names []string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := false
	for _, s := range n.streams {
		t := s.types[url]
		if s.status.Key != key || t == nil {
			continue
		}
		asked = true
		if t.Nacked == version {
			continue
		}
		if t.Acked != version {
			return false
		}
		for _, name := range names {
			if _, ok := t.acked[name]; !ok {
				return false
			}
		}
	}
	return asked || len(names) == 0
}

// connected reports whether the node has a stream.
func (n *nodes) connected(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.streams {
		if s.status.Key == key {
			return true
		}
	}
	return false
}

// list returns a status for each stream, sorted by node.
func (n *nodes) list() []NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []NodeStatus
	for _, s := range n.streams {
		st := s.status
		st.Types = make(map[string]TypeStatus, len(s.types))
		for _, url := range slices.Sorted(maps.Keys(s.types)) {
			st.Types[url] = s.types[url].TypeStatus
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b NodeStatus) int { return strings.Compare(a.Key, b.Key) })
	return out
}

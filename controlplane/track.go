package controlplane

import (
	"maps"
	"slices"
)

// request is what matters of a request of either variant of the protocol.
type request struct {
	url   string
	nonce string // "" on the first of its type
	nack  string // why, if it refuses

	// State of the world: all names, and the version that the proxy has.
	names   []string
	version string

	// Delta: changes to the names, and what the proxy has.
	subscribe, unsubscribe []string
	initial                map[string]string
}

// response is what matters of a response.
type response struct {
	nonce, version string
	names          []string          // state of the world: those asked for
	hashes         map[string]string // delta: by name, of what it brings
	removed        []string          // delta
}

// typeTrack follows one type on one stream. It repeats what the protocol says
// about subscriptions, because the publisher must know what a proxy has.
type typeTrack struct {
	delta    bool
	wildcard bool            // subscribed to all
	legacy   bool            // only because it named none so far
	names    map[string]bool // subscribed to by name
	accepted map[string]string
	refused  map[string]string // delta: by name, of what it refused; any of it may be why
	allNames bool              // state of the world: accepted is everything there is

	open  bool     // a response is not answered
	last  response // the newest; delta: joined with unanswered ones before it
	late  bool     // was waited for in vain
	nonce string   // of last
	TypeStatus
}

func newTypeTrack(delta bool, first request) *typeTrack {
	t := &typeTrack{delta: delta, legacy: true, names: map[string]bool{}, accepted: map[string]string{}, refused: map[string]string{}}
	t.wildcard = len(first.names) == 0 && len(first.subscribe) == 0
	if delta {
		maps.Copy(t.accepted, first.initial)
	} else if len(first.names) == 0 || slices.Contains(first.names, "*") {
		// What it has, it need not be sent: see knownCache.
		t.Acked, t.allNames = first.version, true
	}
	return t
}

// asked takes in a request.
func (t *typeTrack) asked(r request) {
	if !t.delta && t.nonce != "" && r.nonce != t.nonce {
		return // stale: go-control-plane ignores it as well
	}
	t.subscribe(r)
	if r.nonce == "" || r.nonce != t.nonce || !t.open {
		return
	}
	t.open, t.late = false, false
	if r.nack != "" {
		t.Nacked, t.Error = t.last.version, r.nack
		maps.Copy(t.refused, t.last.hashes)
		return
	}
	t.Acked, t.Nacked, t.Error = t.last.version, "", ""
	if !t.delta {
		clear(t.accepted)
		t.allNames = len(t.last.names) == 0
		for _, name := range t.last.names {
			t.accepted[name] = ""
			t.allNames = t.allNames || name == "*"
		}
		return
	}
	if t.brings(t.refused) {
		clear(t.refused) // what was wrong has been mended
	}
	maps.Copy(t.accepted, t.last.hashes)
	for _, name := range t.last.removed {
		delete(t.accepted, name)
		delete(t.refused, name)
	}
}

// subscribe takes in the names of a request. A proxy that never named any
// wants all; "*" says so as well.
func (t *typeTrack) subscribe(r request) {
	add := r.names
	if t.delta {
		add = r.subscribe
	}
	if t.legacy && len(add) == 0 {
		return
	}
	if !t.delta {
		t.wildcard = false
		clear(t.names)
	}
	t.legacy = false
	for _, name := range add {
		if name == "*" {
			t.wildcard = true
		} else {
			t.names[name] = true
		}
	}
	for _, name := range r.unsubscribe {
		if name == "*" {
			t.wildcard = false
		}
		delete(t.names, name)
		delete(t.refused, name)
		if !t.wildcard {
			delete(t.accepted, name)
		}
	}
}

// sent takes in a response.
func (t *typeTrack) sent(r response) {
	if t.delta && t.open {
		all := maps.Clone(t.last.hashes)
		maps.Copy(all, r.hashes)
		for _, name := range r.removed {
			delete(all, name)
		}
		r.removed = append(r.removed, t.last.removed...)
		for name := range r.hashes {
			r.removed = without(r.removed, name)
		}
		r.hashes = all
	}
	t.last, t.nonce, t.open, t.Sent = r, r.nonce, true, r.version
}

func without(list []string, s string) []string {
	out := list[:0:0]
	for _, e := range list {
		if e != s {
			out = append(out, e)
		}
	}
	return out
}

func (t *typeTrack) subscribes(name string) bool { return t.wildcard || t.names[name] }

// got reports whether a resource of that name has been accepted.
func (t *typeTrack) got(name string) bool {
	_, ok := t.accepted[name]
	return ok || t.allNames
}

// stands reports how the stream stands to a set of resources.
func (t *typeTrack) stands(want *typeSet) verdict {
	switch {
	case !t.wildcard && len(t.names) == 0:
		return accepted // it uses none any more, and is sent none
	case t.Nacked != "" && t.Nacked == want.version, t.refuses(want):
		return refused
	case t.Acked == want.version && t.Nacked == "":
		return accepted
	case t.delta && t.Nacked == "" && t.covers(want):
		return accepted // what changed was nothing that it subscribes to
	}
	return pending
}

// brings reports whether the newest response has one of the resources given.
func (t *typeTrack) brings(resources map[string]string) bool {
	for name := range t.last.hashes {
		if _, ok := resources[name]; ok {
			return true
		}
	}
	return false
}

// refuses reports whether something is in a set that was refused, and that a
// delta stream is not sent again, whatever else changes.
func (t *typeTrack) refuses(want *typeSet) bool {
	for name, hash := range t.refused {
		if t.subscribes(name) && want.hashes[name] == hash {
			return true
		}
	}
	return false
}

// covers reports whether what was accepted is what the subscription has of a
// set.
func (t *typeTrack) covers(want *typeSet) bool {
	n := 0
	for name, hash := range want.hashes {
		if !t.subscribes(name) {
			continue
		}
		if t.accepted[name] != hash {
			return false
		}
		n++
	}
	return n == len(t.accepted)
}

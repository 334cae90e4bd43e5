package grpcproxy

import (
	"sync"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// xdsSlots names the calls that a Director or a Filter may resume. As with a
// worker, the slot of a call that has ended is used again, with another
// generation: whoever keeps something by slot keeps no more than there were
// calls at once.
type xdsSlots struct {
	mu    sync.Mutex // guards all below
	slots []xdsSlot
	free  []uint32
}

type xdsSlot struct {
	call *xdsCall // nil: free
	gen  uint32
}

// add gives x a handle.
func (s *xdsSlots) add(x *xdsCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		s.free = append(s.free, uint32(len(s.slots)))
		s.slots = append(s.slots, xdsSlot{})
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.slots[i].call = x
	x.call.Handle = call.Handle{Owner: s, Slot: i, Gen: s.slots[i].gen}
}

// remove makes h stale.
func (s *xdsSlots) remove(h call.Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := &s.slots[h.Slot]; e.call != nil && e.gen == h.Gen {
		e.call = nil
		e.gen++
		s.free = append(s.free, h.Slot)
	}
}

// Resume implements call.Resumer.
func (s *xdsSlots) Resume(h call.Handle, err error) {
	s.mu.Lock()
	var x *xdsCall
	if e := &s.slots[h.Slot]; e.gen == h.Gen {
		x = e.call
	}
	s.mu.Unlock()
	if x != nil {
		x.resume(err)
	}
}

package clock

import (
	"math/bits"
	"time"
)

// Tick is the wheel's resolution. Expiries are rounded up to it: a timer is
// never early.
const Tick = time.Millisecond

const (
	levels    = 4
	slotBits  = 8
	slots     = 1 << slotBits
	slotMask  = slots - 1
	rangeBits = levels * slotBits
	far       = levels // the list of timers beyond the wheel's range
)

// Expirer is told when one of its timers expires.
type Expirer interface {
	// Expire is called once per expiry. t is not set then: it may be set
	// again, and any other timer may be set or stopped.
	Expire(t *Timer, now Nanos)
}

// Timer is a node that its owner embeds. Owner and Kind are set once, before
// the first Set; the rest belongs to the wheel. A set timer must not be moved
// or reused: stop it first.
type Timer struct {
	Owner Expirer
	Kind  uint8 // for owners with several timers

	level, slot uint8 // where it is linked, if it is
	tick        uint64
	next, prev  *Timer // circular list of the slot; nil: not set
}

// Active reports that t is set.
func (t *Timer) Active() bool { return t.next != nil }

// Wheel is a hierarchical timer wheel: four levels of 256 slots, 1 ms ticks,
// and a list for what lies beyond 2^32 ticks. Set and Stop take constant time
// and never allocate. The zero Wheel starts at instant 0. A wheel belongs to
// one worker.
//
// A timer that expires at tick e is linked at the level of the highest byte
// in which e and the current tick differ, in the slot that is e's byte there.
// So all slots in use at a level lie ahead of the current tick's byte, the
// first one in use at the lowest level in use is next, and no slot wraps.
type Wheel struct {
	cur  uint64 // the last tick that was handled
	n    int
	used [levels][slots / 64]uint64
	list [levels][slots]*Timer
	far  *Timer
}

// Len is the number of timers that are set.
func (w *Wheel) Len() int { return w.n }

// Set makes t expire at instant at, or at the next tick if that has passed.
// If t was set before, it moves.
func (w *Wheel) Set(t *Timer, at Nanos) {
	if t.next != nil {
		w.unlink(t)
	}
	e := uint64(0)
	if at > 0 {
		e = uint64(at / Nanos(Tick))
		if at%Nanos(Tick) != 0 {
			e++
		}
	}
	t.tick = max(e, w.cur+1)
	w.link(t)
}

// Stop makes sure that t does not expire. Stopping a timer that is not set
// does nothing.
func (w *Wheel) Stop(t *Timer) {
	if t.next != nil {
		w.unlink(t)
	}
}

// Advance moves the wheel to now and expires what is due: earlier ticks
// first, within a tick in the order of the Set calls, with the exception that
// timers that were set farther ahead come first.
func (w *Wheel) Advance(now Nanos) {
	target := uint64(max(now, 0) / Nanos(Tick))
	for w.cur < target {
		tick, level, ok := w.nextTick()
		if !ok || tick > target {
			w.cur = target
			return
		}
		w.cur = tick
		head := &w.far
		if level != far {
			head = &w.list[level][tick>>(slotBits*level)&slotMask]
		}
		if level > 0 {
			w.cascade(head)
			// What belongs to this very tick went to level 0, to the slot
			// of the current tick: it is due.
			head = &w.list[0][tick&slotMask]
		}
		for *head != nil {
			t := *head
			w.unlink(t)
			t.Owner.Expire(t, now)
		}
	}
}

// Next is the instant at which Advance has something to do, 0 if never. It may
// be earlier than the first expiry, when timers far ahead must be sorted finer.
func (w *Wheel) Next() Nanos {
	tick, _, ok := w.nextTick()
	if !ok {
		return 0
	}
	return Nanos(tick) * Nanos(Tick)
}

// nextTick finds the first slot in use after the current tick.
func (w *Wheel) nextTick() (tick uint64, level int, ok bool) {
	if w.n == 0 {
		return 0, 0, false
	}
	for level := range levels {
		shift := slotBits * level
		if s := w.firstUsed(level, int(w.cur>>shift&slotMask)+1); s >= 0 {
			return (w.cur>>(shift+slotBits)<<slotBits | uint64(s)) << shift, level, true
		}
	}
	return (w.cur>>rangeBits + 1) << rangeBits, far, true
}

// firstUsed returns the first slot in use from s on, -1 if there is none.
func (w *Wheel) firstUsed(level, s int) int {
	if s >= slots {
		return -1
	}
	u := &w.used[level]
	i := s / 64
	word := u[i] &^ (1<<(s%64) - 1)
	for word == 0 {
		if i++; i == len(u) {
			return -1
		}
		word = u[i]
	}
	return i*64 + bits.TrailingZeros64(word)
}

// cascade distributes a slot of a higher level over the lower ones.
func (w *Wheel) cascade(head **Timer) {
	// Timers beyond the range come back to the same list: the first of them
	// ends the walk.
	var again *Timer
	for *head != nil && *head != again {
		t := *head
		w.unlink(t)
		w.link(t)
		if again == nil && t.level == far && head == &w.far {
			again = t
		}
	}
}

// link puts t, whose tick is not before the current one, where it belongs.
func (w *Wheel) link(t *Timer) {
	level := 0
	if d := t.tick ^ w.cur; d != 0 {
		level = min((bits.Len64(d)-1)/slotBits, far)
	}
	head := &w.far
	t.level = uint8(level)
	if level != far {
		s := t.tick >> (slotBits * level) & slotMask
		t.slot = uint8(s)
		head = &w.list[level][s]
		w.used[level][s/64] |= 1 << (s % 64)
	}
	if h := *head; h == nil {
		t.next, t.prev = t, t
		*head = t
	} else {
		t.next, t.prev = h, h.prev
		h.prev.next, h.prev = t, t
	}
	w.n++
}

func (w *Wheel) unlink(t *Timer) {
	head := &w.far
	if t.level != far {
		head = &w.list[t.level][t.slot]
	}
	if t.next == t {
		*head = nil
		if t.level != far {
			w.used[t.level][t.slot/64] &^= 1 << (t.slot % 64)
		}
	} else {
		t.prev.next, t.next.prev = t.next, t.prev
		if *head == t {
			*head = t.next
		}
	}
	t.next, t.prev = nil, nil
	w.n--
}

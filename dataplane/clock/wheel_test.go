package clock

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// recorder notes which timers expire, and when.
type recorder struct {
	got  []expiry
	hook func(t *Timer, now Nanos)
}

type expiry struct {
	id  uint8
	now Nanos
}

func (r *recorder) Expire(t *Timer, now Nanos) {
	r.got = append(r.got, expiry{t.Kind, now})
	if r.hook != nil {
		r.hook(t, now)
	}
}

// naive is the model: a list of expiry ticks searched at every step.
type naive struct {
	cur uint64
	at  map[uint8]uint64
}

func (m *naive) set(id uint8, at Nanos) {
	e := uint64(0)
	if at > 0 {
		e = (uint64(at) + uint64(Tick) - 1) / uint64(Tick)
	}
	m.at[id] = max(e, m.cur+1)
}

// advance returns the ids that are due, earlier ticks first; ids of one tick sorted.
func (m *naive) advance(now Nanos) (due [][]uint8) {
	target := uint64(now) / uint64(Tick)
	byTick := map[uint64][]uint8{}
	var ticks []uint64
	for id, e := range m.at {
		if e <= target {
			if byTick[e] == nil {
				ticks = append(ticks, e)
			}
			byTick[e] = append(byTick[e], id)
			delete(m.at, id)
		}
	}
	slices.Sort(ticks)
	for _, e := range ticks {
		slices.Sort(byTick[e])
		due = append(due, byTick[e])
	}
	m.cur = max(m.cur, target)
	return due
}

// next is the model's earliest expiry, 0 if none.
func (m *naive) next() Nanos {
	first := uint64(0)
	for _, e := range m.at {
		if first == 0 || e < first {
			first = e
		}
	}
	return Nanos(first) * Nanos(Tick)
}

// TestWheelAgainstModel sets, moves, stops and expires random timers, with
// spans from below a tick to beyond the wheel's range, and compares every step
// with a naive model.
func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var w Wheel
		rec := &recorder{}
		model := &naive{at: map[uint8]uint64{}}
		timers := make([]Timer, 200)
		for i := range timers {
			timers[i].Owner, timers[i].Kind = rec, uint8(i)
		}
		now := Nanos(1)
		if seed%4 == 0 { // after more than 49 days of uptime
			now = Nanos(1)<<32*Nanos(Tick) - Nanos(rnd.Int64N(int64(time.Minute)))
		}
		w.Advance(now)
		model.advance(now)
		span := func() time.Duration {
			return time.Duration(rnd.Int64N(int64(1) << (10 + rnd.IntN(44))))
		}
		for range 500 {
			id := uint8(rnd.IntN(len(timers)))
			switch rnd.IntN(5) {
			case 0, 1, 2:
				at := now.Add(span() - time.Millisecond)
				w.Set(&timers[id], at)
				model.set(id, at)
			case 3:
				w.Stop(&timers[id])
				delete(model.at, id)
			case 4:
				if n := w.Next(); n != 0 && rnd.IntN(2) == 0 {
					now = max(now, n)
				} else {
					now = now.Add(span())
				}
				rec.got = rec.got[:0]
				w.Advance(now)
				i := 0
				for _, want := range model.advance(now) {
					if i+len(want) > len(rec.got) {
						t.Fatalf("seed %d: %d expiries, want more", seed, len(rec.got))
					}
					var got []uint8
					for _, e := range rec.got[i : i+len(want)] {
						got = append(got, e.id)
					}
					slices.Sort(got)
					if !slices.Equal(got, want) {
						t.Fatalf("seed %d: at %d expired %v, want %v", seed, now, got, want)
					}
					i += len(want)
				}
				if i != len(rec.got) {
					t.Fatalf("seed %d: %d expiries, want %d", seed, len(rec.got), i)
				}
			}
			if w.Len() != len(model.at) {
				t.Fatalf("seed %d: Len %d, want %d", seed, w.Len(), len(model.at))
			}
			next, want := w.Next(), model.next()
			if next > want || (next == 0) != (want == 0) || next != 0 && next <= Nanos(model.cur)*Nanos(Tick) {
				t.Fatalf("seed %d: Next %d, first expiry %d, now %d", seed, next, want, now)
			}
			if timers[id].Active() != (model.at[id] != 0) {
				t.Fatalf("seed %d: Active %v", seed, timers[id].Active())
			}
		}
	}
}

// TestWheelFromExpire stops and sets timers of the same tick from Expire.
func TestWheelFromExpire(t *testing.T) {
	var w Wheel
	rec := &recorder{}
	var a, b, c Timer
	for i, x := range []*Timer{&a, &b, &c} {
		x.Owner, x.Kind = rec, uint8(i)
		w.Set(x, Nanos(5*time.Millisecond))
	}
	rec.hook = func(t *Timer, now Nanos) {
		if t == &a {
			w.Stop(&b)
			w.Set(&a, now) // due at the next tick, not in this Advance again
		}
	}
	w.Advance(Nanos(5 * time.Millisecond))
	if want := []expiry{{0, 5e6}, {2, 5e6}}; !slices.Equal(rec.got, want) {
		t.Fatalf("expired %v, want %v", rec.got, want)
	}
	rec.got, rec.hook = nil, nil
	w.Advance(Nanos(6 * time.Millisecond))
	if want := []expiry{{0, 6e6}}; !slices.Equal(rec.got, want) {
		t.Fatalf("expired %v, want %v", rec.got, want)
	}
	if w.Len() != 0 || w.Next() != 0 {
		t.Fatalf("Len %d, Next %d at rest", w.Len(), w.Next())
	}
}

// TestWheelNeverEarly: an expiry is rounded up to the tick.
func TestWheelNeverEarly(t *testing.T) {
	var w Wheel
	rec := &recorder{}
	x := Timer{Owner: rec}
	w.Set(&x, Nanos(1500*time.Microsecond))
	w.Advance(Nanos(1900 * time.Microsecond))
	if len(rec.got) != 0 {
		t.Fatal("expired early")
	}
	w.Advance(Nanos(2 * time.Millisecond))
	if len(rec.got) != 1 {
		t.Fatal("did not expire")
	}
}

func TestWheelAllocs(t *testing.T) {
	var w Wheel
	x := Timer{Owner: &recorder{}}
	if n := testing.AllocsPerRun(100, func() {
		w.Set(&x, Nanos(15*time.Second))
		w.Stop(&x)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// BenchmarkWheel arms and cancels a deadline with 1,024 others live.
func BenchmarkWheel(b *testing.B) {
	var w Wheel
	timers := make([]Timer, 1024)
	for i := range timers {
		timers[i].Owner = &recorder{}
		w.Set(&timers[i], Nanos(15*time.Second)+Nanos(i)*7e5)
	}
	i := 0
	for b.Loop() {
		x := &timers[i&1023]
		w.Stop(x)
		w.Set(x, Nanos(15*time.Second)+Nanos(i&1023)*7e5)
		i++
	}
}

package transport

import "sync/atomic"

// Secret is a cell for something that contexts use and that may be replaced at
// any time: a Certificate, a Validation, TicketKeys. Values are immutable. All
// methods are safe for concurrent use.
type Secret[T any] struct{ v atomic.Pointer[T] }

// NewSecret returns a cell that holds v; nil: it waits for its first value.
func NewSecret[T any](v *T) *Secret[T] {
	s := new(Secret[T])
	s.v.Store(v)
	return s
}

// Get returns the present value, nil before the first one came. A nil Secret
// has none.
func (s *Secret[T]) Get() *T {
	if s == nil {
		return nil
	}
	return s.v.Load()
}

// Set replaces the value. Handshakes that have begun may still use the old one.
func (s *Secret[T]) Set(v *T) { s.v.Store(v) }

// missing reports that s is used but has no value yet.
func (s *Secret[T]) missing() bool { return s != nil && s.v.Load() == nil }

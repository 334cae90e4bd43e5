//go:build unix

package dataplane

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"
)

// What /drain_listeners does, as Envoy 1.40.0 does it: listeners close at once,
// or after the drain time if it is graceful, or not at all with skip_exit.
func TestDrainListeners(t *testing.T) {
	for name, tt := range map[string]struct {
		o       DrainOptions
		at, end []bool // whether the inbound and the other listener accept: soon, and after the drain time
	}{
		"at once":           {DrainOptions{}, []bool{false, false}, []bool{false, false}},
		"inbound":           {DrainOptions{InboundOnly: true}, []bool{false, true}, []bool{false, true}},
		"graceful":          {DrainOptions{Graceful: true}, []bool{true, true}, []bool{false, false}},
		"graceful, inbound": {DrainOptions{Graceful: true, InboundOnly: true}, []bool{true, true}, []bool{false, true}},
		"graceful, no exit": {DrainOptions{Graceful: true, SkipExit: true}, []bool{true, true}, []bool{true, true}},
		"no exit":           {DrainOptions{SkipExit: true}, []bool{true, true}, []bool{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// On a busy machine a second may be over before anybody has looked.
			for drainTime := time.Second; !drained(t, tt.o, drainTime, tt.at, tt.end); drainTime *= 2 {
			}
		})
	}
}

// drained drains two listeners, and reports false if the drain time was over
// before they were seen to accept in it.
func drained(t *testing.T, o DrainOptions, drainTime time.Duration, at, end []bool) (seen bool) {
	t.Helper()
	s, err := New(Options{Concurrency: 1, DrainTime: drainTime})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Shutdown(ctx)
	}()
	in, out := newListener(t, "in", freeAddress(t)), newListener(t, "out", freeAddress(t))
	in.Inbound = true
	accepts := func() []bool {
		return []bool{canConnect(in.Addresses[0].Address), canConnect(out.Addresses[0].Address)}
	}
	mustServe(t, s, in)
	mustServe(t, s, out)
	before, begin := s.Listeners(), time.Now()
	s.DrainListeners(o)
	if o.Graceful && !o.SkipExit {
		got := accepts()
		if time.Since(begin) >= drainTime {
			return false
		}
		if !slices.Equal(got, at) {
			t.Fatalf("in the drain time: %v, want %v", got, at)
		}
	}
	eventually(t, "after the drain time", func() bool { return slices.Equal(accepts(), end) })

	// A new version changes nothing about it.
	mustServe(t, s, in)
	if got := accepts(); !slices.Equal(got, end) {
		t.Errorf("after another Serve: %v", got)
	}
	if got := s.Listeners(); len(got) != 2 || got[0].Addresses[0] != before[0].Addresses[0] {
		t.Errorf("listeners: %v, before: %v", got, before)
	}
	return true
}

func canConnect(address string) bool {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	_ = nc.Close()
	return true
}

// eventually waits until ok.
func eventually(t *testing.T, when string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not as expected", when)
		}
		time.Sleep(5 * time.Millisecond) // the sockets are the system's
	}
}

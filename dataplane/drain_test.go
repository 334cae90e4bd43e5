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
	const drainTime = time.Second
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
			s, err := New(Options{Concurrency: 1, DrainTime: drainTime})
			if err != nil {
				t.Fatal(err)
			}
			in, out := newListener(t, "in", freeAddress(t)), newListener(t, "out", freeAddress(t))
			in.Inbound = true
			accepts := func() []bool {
				return []bool{canConnect(in.Addresses[0].Address), canConnect(out.Addresses[0].Address)}
			}
			if err := s.Serve(in); err != nil {
				t.Fatal(err)
			}
			if err := s.Serve(out); err != nil {
				t.Fatal(err)
			}
			before := s.Listeners()
			s.DrainListeners(tt.o)
			eventually(t, "soon", func() bool { return slices.Equal(accepts(), tt.at) })
			eventually(t, "after the drain time", func() bool { return slices.Equal(accepts(), tt.end) })

			// A new version changes nothing about it.
			if err := s.Serve(in); err != nil {
				t.Fatal(err)
			}
			if got := accepts(); !slices.Equal(got, tt.end) {
				t.Errorf("after another Serve: %v", got)
			}
			if got := s.Listeners(); len(got) != 2 || got[0].Addresses[0] != before[0].Addresses[0] {
				t.Errorf("listeners: %v, before: %v", got, before)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = s.Shutdown(ctx)
		})
	}
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
	for end := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not as expected", when)
		}
		time.Sleep(5 * time.Millisecond) // the sockets are the system's
	}
}

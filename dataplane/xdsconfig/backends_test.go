//go:build unix

package xdsconfig_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// The set of a cluster by its name follows the control plane; one that was
// asked for before its cluster came is the same.
func TestBackendsFollow(t *testing.T) {
	f, addr, stop := startFleet("127.0.0.1:1001")
	defer stop()
	d := grpcproxy.NewXDSDirector(grpcproxy.XDSOptions{})
	defer d.Close()
	m := attach(d, addr)
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	set := m.Backends("orders")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, want := range []string{"127.0.0.1:1001", "127.0.0.1:1002"} {
		f.tell(want)
		for {
			h, err := set.Pick(&call.Call{}, 0)
			if err != nil {
				t.Fatal(err)
			}
			set.Done(h, &call.Outcome{Host: h})
			if h.Target().Address == want {
				break
			}
			select {
			case <-tick.C: // there is no event for an applied update
			case <-ctx.Done():
				t.Fatalf("calls go to %s, want %s", h.Target().Address, want)
			}
		}
	}
	if _, err := m.Backends("unknown").Pick(&call.Call{}, 0); !errors.Is(err, call.ReplyNoCluster) {
		t.Errorf("an unknown cluster: %v", err)
	}
}

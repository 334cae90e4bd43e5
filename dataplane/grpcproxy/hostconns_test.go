package grpcproxy

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// retiredHost is a host that is in no cluster any more.
type retiredHost struct{ call.Host }

func (*retiredHost) Retired() bool { return true }

// TestHostConnsSwept: a call that has a host's connections from before they are
// swept keeps them open; one that comes too late gets none of them. The two
// race for two seconds.
func TestHostConnsSwept(t *testing.T) {
	h := newHostConns(nil)
	h.closed = true // who finds no connections does not make any
	host := new(retiredHost)
	var round, answered atomic.Int64
	var got *hostConn // of the round that was answered
	go func() {
		for i := int64(1); ; i++ {
			for round.Load() < i { // to be as close to the sweep as can be
				if round.Load() < 0 {
					return
				}
			}
			got, _ = h.acquire(host)
			answered.Store(i)
		}
	}()
	defer round.Store(-1)
	closed := 0
	for i, end := int64(1), time.Now().Add(2*time.Second); time.Now().Before(end); i++ {
		h.hosts.Store(host, &hostConn{host: host})
		round.Store(i)
		h.sweep()
		for answered.Load() < i {
		}
		if got == nil {
			continue
		}
		open := false
		if got.once.Do(func() { open = true }); !open {
			closed++
		}
		got.release()
	}
	if closed > 0 {
		t.Errorf("%d calls have connections that are closed", closed)
	}
}

// addressed is a host with an address.
type addressed struct{ retiredHost }

func (*addressed) Target() *call.Target { return &call.Target{Network: "tcp", Address: "127.0.0.1:1"} }

// TestHostConnsOfTheRetired: a call that has picked a host just before an update
// took that away and swept has connections for itself. They close with it:
// there may be no other update to sweep them.
func TestHostConnsOfTheRetired(t *testing.T) {
	h := newHostConns(nil)
	defer h.close()
	h.sweep()
	c, err := h.acquire(new(addressed))
	if err != nil {
		t.Fatal(err)
	}
	c.release()
	open := false
	if c.once.Do(func() { open = true }); open {
		t.Error("the connections are kept")
	}
	h.hosts.Range(func(any, any) bool {
		t.Error("the host is kept")
		return true
	})
}

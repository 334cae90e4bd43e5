package worker

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// later is a Director that answers every call from another goroutine, twice;
// one in eight with an error.
type later struct {
	fixed
	wg    *sync.WaitGroup
	asked *atomic.Int64
	seen  *sync.Map // call.Handle: the call was asked for before
}

func (d later) Direct(c *call.Call) (call.Decision, error) {
	if _, again := d.seen.LoadOrStore(c.Handle, true); again {
		return d.fixed.Direct(c)
	}
	h, n := c.Handle, d.asked.Add(1)
	d.wg.Go(func() {
		var err error
		if n%8 == 0 {
			err = errors.New("no")
		}
		h.Resume(err)
		h.Resume(err) // only the first has an effect
	})
	return call.Decision{}, call.ErrPending
}

// Calls that are paused and resumed from other goroutines, on workers that go
// on meanwhile; clients that leave before their calls resume.
func TestResumeFromElsewhere(t *testing.T) {
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // after the rig's own: until then workers ask for what clients left behind
	r := newRig(t, 2, false)
	d := later{fixed: r.chain.Manager().Director.(fixed), wg: &wg, asked: new(atomic.Int64), seen: new(sync.Map)}
	r.chain.SetManager(&call.Manager{Director: d})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			c := r.dial()
			for id := uint32(1); id < 100; id += 2 {
				n := int(id) * 100
				c.get(id, "/"+strconv.Itoa(n))
				c.send()
				if got := c.body(id); !bytes.Equal(got, pattern(n)) && len(got) != len("no") {
					t.Errorf("got %d bytes, want %d or an error's text", len(got), n)
				}
			}
			for id := uint32(101); id < 200; id += 2 {
				c.get(id, "/1")
			}
			c.send()
			_ = c.Close()
		})
	}
	clients.Wait()
}

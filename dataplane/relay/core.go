package relay

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Upstreams finds upstream connections: a worker's pools.
type Upstreams interface {
	// Open asks for a stream to a's host. Three answers are possible: an error
	// (a *call.Reply: the pool is full); a connection on which a's stream was
	// opened; or nil, when a waits in the pool's queue. In the last case
	// exactly one of a.Ready and a.Fail follows, never from inside Open,
	// unless Cancel comes first.
	Open(a *Attempt) (*Upstream, error)
	// Cancel takes a waiting attempt out of its queue.
	Cancel(a *Attempt)
}

// Core is the part of a worker that its exchanges run on: the instant of the
// batch, timers, buffers, counters, and the slab of exchanges. Everything in
// it is owned by the worker.
type Core struct {
	// Set at creation.

	Resumer   call.Resumer
	Upstreams Upstreams
	Log       *slog.Logger
	Pool      *h2.Pool
	// Record, if not nil, sees every exchange that ended.
	Record func(c *call.Call, o *call.Outcome)
	// Contain, if not nil, is deferred, and may recover, where a call of d goes
	// on outside of the events of any connection.
	Contain func(d *Downstream, event string)

	// Owned by the worker.

	Now      clock.Nanos
	Wheel    clock.Wheel
	Rand     *rand.PCG
	Counters Counters

	slab     []slot
	free     []uint32 // slots without an exchange, or with one that rests
	attempts []*Attempt
	blocks   []*hpack.Block
	chains   []*chain
	live     int
	queued   int64 // bytes in all bodies
	memory   int64 // that they take
	attLive  int

	scratch     hpack.Block  // a local reply's headers or trailers
	text        []byte       // for formatting a value
	rqTimeout   cachedFields // x-envoy-expected-rq-timeout-ms
	serviceTime cachedFields // x-envoy-upstream-service-time
	serverField hpack.Field
	appends     []hpack.Field // of the level of header mutations in progress
	overwrites  []hpack.Field
}

// slot is a place of the slab. Its generation outlives the exchanges in it.
type slot struct {
	x   *Exchange
	gen uint32
}

// Bounds on what rests for reuse: enough for a busy worker, small in bytes.
const (
	maxRestingExchanges = 4096
	maxRestingAttempts  = 4096
	maxRestingBlocks    = 256
)

// Live is the number of exchanges in progress.
func (c *Core) Live() int { return c.live }

// Queued is the number of bytes that wait for slow receivers.
func (c *Core) Queued() int64 { return c.queued }

// Memory is what those bytes and their calls take.
func (c *Core) Memory() int64 { return c.memory }

// Kept is how many of the queued bytes have left already and are kept for
// another attempt. It looks at every exchange.
func (c *Core) Kept() (n int64) {
	for i := range c.slab {
		if x := c.slab[i].x; x != nil {
			n += max(x.req.pos, x.req.credited) - x.req.base
		}
	}
	return n
}

// Attempts is the number of attempts whose streams have not ended.
func (c *Core) Attempts() int { return c.attLive }

// exchange takes an exchange from the slab.
func (c *Core) exchange() *Exchange {
	var i uint32
	if n := len(c.free); n > 0 {
		i = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		i = uint32(len(c.slab))
		c.slab = append(c.slab, slot{})
	}
	s := &c.slab[i]
	s.gen++
	if s.x == nil {
		s.x = &Exchange{core: c}
		s.x.timer.Owner = s.x
	}
	x := s.x
	x.slot, x.gen = i, s.gen
	c.live++
	return x
}

// release gives x back to the slab. Nothing may point to it any more but
// handles, which are stale from here on.
func (c *Core) release(x *Exchange) {
	if Planted != PlantTimerLeft {
		c.Wheel.Stop(&x.timer)
	}
	x.req.free(c)
	x.rsp.free(c)
	if x.flt != nil {
		c.putChain(x.flt)
	}
	x.reset()
	s := &c.slab[x.slot]
	s.gen++
	if len(c.free) >= maxRestingExchanges {
		s.x = nil
	}
	c.free = append(c.free, x.slot)
	c.live--
}

// lookup returns the exchange of h, nil if it has ended.
func (c *Core) lookup(h call.Handle) *Exchange {
	if int(h.Slot) >= len(c.slab) {
		return nil
	}
	s := &c.slab[h.Slot]
	if s.gen != h.Gen && Planted != PlantStaleHandle || s.x == nil {
		return nil
	}
	return s.x
}

// Resume continues the paused exchange of h; a stale handle does nothing.
func (c *Core) Resume(h call.Handle, err error) {
	if x := c.lookup(h); x != nil && (x.state == statePaused && !x.peeking || x.state < stateReplying && x.flt != nil && x.flt.pending()) {
		if c.Contain != nil {
			defer c.Contain(x.d, "resume")
		}
		x.resume(err)
	}
}

// Trim drops what rests for reuse beyond what keep calls at once need, and
// returns how many calls' worth is left.
func (c *Core) Trim(keep int) int {
	rest := 0
	for i := len(c.free) - 1; i >= 0; i-- { // the last one rested last
		s := &c.slab[c.free[i]]
		if s.x == nil {
			continue
		}
		if rest == keep {
			s.x = nil
			continue
		}
		rest++
	}
	c.attempts = newest(c.attempts, keep)
	c.blocks = newest(c.blocks, keep)
	c.chains = newest(c.chains, keep)
	return max(rest, len(c.attempts), len(c.blocks), len(c.chains))
}

// newest keeps the last n elements of s.
func newest[T any](s []T, n int) []T {
	if len(s) <= n {
		return s
	}
	return slices.Delete(s, 0, len(s)-n)
}

// block takes an empty header block that outlives the current event.
func (c *Core) block() *hpack.Block {
	if n := len(c.blocks); n > 0 {
		b := c.blocks[n-1]
		c.blocks = c.blocks[:n-1]
		return b
	}
	return new(hpack.Block)
}

func (c *Core) putBlock(b *hpack.Block) {
	if b != nil && len(c.blocks) < maxRestingBlocks {
		b.Reset()
		c.blocks = append(c.blocks, b)
	}
}

// Counters are plain integers by call.Scope and call.Counter. They are read
// under the worker's lock; atomics would cost more than all else counted here
// (docs/core.md, "Counters").
type Counters [][]uint64

// CountersPerScope fits every kind of scope.
const CountersPerScope = max(int(call.DownstreamCounters), int(call.UpstreamCounters))

// Add adds n to a counter. A gauge goes down by adding ^uint64(0): the sum over
// all workers is right even if one worker's part is not.
func (cs *Counters) Add(s call.Scope, c call.Counter, n uint64) {
	if s.Index == 0 {
		return
	}
	if int(s.Index) < len(*cs) {
		if a := (*cs)[s.Index]; a != nil {
			a[c] += n
			return
		}
	}
	cs.grow(s)[c] += n
}

// Inc adds one.
func (cs *Counters) Inc(s call.Scope, c call.Counter) { cs.Add(s, c, 1) }

// Dec takes one off a gauge.
func (cs *Counters) Dec(s call.Scope, c call.Counter) { cs.Add(s, c, ^uint64(0)) }

func (cs *Counters) grow(s call.Scope) []uint64 {
	for int(s.Index) >= len(*cs) {
		*cs = append(*cs, nil)
	}
	a := make([]uint64, CountersPerScope)
	(*cs)[s.Index] = a
	return a
}

// victimAge is how long a call has made no progress if it is to go before
// others of its connection; flowAge the time in which what flows was taken.
const (
	victimAge = time.Second
	flowAge   = 100 * time.Millisecond
)

// flowShare: so many bytes that flow count as one that stays. A fast call's
// window has grown to some MiB where that of others has 64 KiB.
const flowShare = 256

// Evict frees memory until what waits takes at most target bytes, and returns
// how many calls it ended. First go requests that have left and are kept for
// another attempt. Then clients' connections give way in the order of what
// they hold, so one that hoards pays before those that are only slow; there,
// calls that do not move go first. What is on its way to a client that reads
// hardly counts: such a call holds much because it is fast.
func (c *Core) Evict(target int64) (n int) {
	for i := 0; i < len(c.slab) && c.memory > target; i++ {
		if x := c.slab[i].x; x != nil && x.m != nil {
			x.req.release(c)
		}
	}
	if c.memory <= target {
		return 0
	}
	for _, h := range c.hoards() {
		if !h.flows {
			n += c.evict(h, target, victimAge)
		}
		n += c.evict(h, target, 0)
		if c.memory <= target {
			break
		}
	}
	return n
}

// hoard is what calls of a connection hold, those whose payload flows, or the
// others.
type hoard struct {
	d     *Downstream
	flows bool
}

func (h hoard) size() int64 { return *h.d.holds(h.flows) }

// evict ends calls of h that have not moved for age.
func (c *Core) evict(h hoard, target int64, age time.Duration) (n int) {
	h.d.H.Each(func(s *h2.Stream) {
		x := s.Owner.(*Exchange)
		if c.memory > target && x.state < stateFinished && x.holds() > 0 && x.flows() == h.flows && c.Now.Sub(x.active) >= age {
			x.Evict()
			n++
		}
	})
	return n
}

// hoards returns what connections' calls hold, the largest first.
func (c *Core) hoards() (out []hoard) {
	for i := range c.slab {
		if x := c.slab[i].x; x != nil && x.d != nil {
			x.d.stays, x.d.flowing = 0, 0
		}
	}
	for i := range c.slab {
		x := c.slab[i].x
		if x == nil || x.d == nil || x.state >= stateFinished {
			continue
		}
		if n := x.holds(); n > 0 {
			h := hoard{x.d, x.flows()}
			if h.flows {
				n = max(1, n/flowShare)
			}
			if h.size() == 0 {
				out = append(out, h)
			}
			*x.d.holds(h.flows) += n
		}
	}
	slices.SortStableFunc(out, func(a, b hoard) int { return cmp.Compare(b.size(), a.size()) })
	return out
}

// holds is what d's calls were found to hold that flow, or of the others.
func (d *Downstream) holds(flows bool) *int64 {
	if flows {
		return &d.flowing
	}
	return &d.stays
}

// flows reports whether what the call holds is on its way: its receivers have
// taken twice as much just now, in flowAge or two. Who has read fast once, and
// moves something now and then, does not.
func (x *Exchange) flows() bool {
	return x.core.Now.Sub(x.flowFrom) < 2*flowAge && x.flowed+x.flowedBefore >= 2*x.holds()
}

// took notes that a receiver has taken n bytes.
func (x *Exchange) took(n int) {
	now := x.core.Now
	if age := now.Sub(x.flowFrom); age >= flowAge {
		x.flowedBefore = 0
		if age < 2*flowAge {
			x.flowedBefore = x.flowed
		}
		x.flowed, x.flowFrom = 0, now
	}
	x.flowed += int64(n)
}

// holds is the memory of what waits of the call.
func (x *Exchange) holds() int64 {
	n := x.req.memory + x.rsp.memory
	if f := x.flt; f != nil {
		n += f.req.memory() + f.rsp.memory()
	}
	return n
}

package worker

import (
	"encoding/binary"
	"slices"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// simBlock is the distance of the message heads in the payload of gRPC calls:
// head, then what is left of the block or the payload.
const simBlock = 1000

// byteOf is the payload of r in a direction: what is sent, and must come.
func (w *world) byteOf(r *rpc, dir byte, i int) byte {
	if !r.grpc {
		return simPattern(r.id, dir, i)
	}
	off := i % simBlock
	if off >= 5 {
		return simPattern(r.id, dir, i)
	}
	total := r.reqLen
	if dir == 'r' {
		total = r.payload()
	}
	var head [5]byte
	binary.BigEndian.PutUint32(head[1:], uint32(max(0, min(simBlock, total-(i-off))-5)))
	return head[off]
}

// simFilters are the filters of a world: some calls have none, one sees
// headers, one messages, and each may want to be asked again.
func (w *world) simFilters() []call.FilterFactory {
	return []call.FilterFactory{
		filterFunc(func(c *call.Call) call.Filter {
			if w.rnd.IntN(4) == 0 {
				return nil
			}
			return w.newSimFilter(c)
		}),
		filterFunc(func(c *call.Call) call.Filter {
			if w.rnd.IntN(2) == 0 {
				return nil
			}
			return &simMessages{simFilter: *w.newSimFilter(c)}
		}),
	}
}

type filterFunc func(c *call.Call) call.Filter

func (f filterFunc) NewFilter(c *call.Call) call.Filter { return f(c) }

func (w *world) newSimFilter(c *call.Call) *simFilter {
	w.filters++
	return &simFilter{w: w, r: w.set.rpcOf(c), refuses: w.rnd.IntN(40)}
}

// simFilter sees headers.
type simFilter struct {
	w    *world
	r    *rpc
	wait [4]bool // by method: it said that it will answer later
	done bool

	refuses int // the method that says no, if there is one of that number
}

// later says, now and then, that the answer comes later, and sees to it.
func (f *simFilter) later(c *call.Call, method int) error {
	if f.done {
		f.w.fatalf("%v: a filter is asked after Done", f.r)
	}
	if !f.wait[method] && f.w.rnd.IntN(4) == 0 {
		f.wait[method] = true
		f.r.handle = c.Handle
		f.w.paused = append(f.w.paused, f.r)
		return call.ErrPending
	}
	f.wait[method] = false
	if f.refuses == method {
		f.r.refused++
		return replyFilter
	}
	return nil
}

// replyFilter is what filters say now and then.
var replyFilter = &call.Reply{HTTP: 403, GRPC: call.PermissionDenied, Message: "a filter says no"}

func (f *simFilter) RequestHeaders(c *call.Call, end bool) error { return f.later(c, 0) }

func (f *simFilter) ResponseHeaders(c *call.Call, h *hpack.Block, end bool) error {
	return f.later(c, 1)
}

func (f *simFilter) Done(c *call.Call, o *call.Outcome) {
	if f.done {
		f.w.fatalf("%v: second Done of a filter", f.r)
	}
	f.done = true
	f.w.filtersDone++
}

// simMessages sees messages and trailers, too.
type simMessages struct {
	simFilter
	last []byte
}

func (f *simMessages) RequestMessage(c *call.Call, m *call.Message) error { return f.see(c, 2, m) }

func (f *simMessages) ResponseMessage(c *call.Call, m *call.Message) error { return f.see(c, 3, m) }

func (f *simMessages) see(c *call.Call, method int, m *call.Message) error {
	if len(m.Data) > simBlock-5 {
		f.w.fatalf("%v: a message of %d bytes", f.r, len(m.Data))
	}
	if method == 2 && f.w.rnd.IntN(4) == 0 {
		f.last = slices.Clone(m.Data)
		m.Data = f.last
	}
	return f.later(c, method)
}

func (f *simMessages) RequestTrailers(c *call.Call, h *hpack.Block) { f.trailers() }

func (f *simMessages) ResponseTrailers(c *call.Call, h *hpack.Block) { f.trailers() }

func (f *simMessages) trailers() {
	if f.done {
		f.w.fatalf("%v: trailers after Done", f.r)
	}
}

package relay

import (
	"errors"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// chain is the filters of one exchange, and what waits for them. An exchange
// whose manager has no filters has none.
//
// Payload passes untouched unless some filter sees messages. Then it comes into
// a framer, and what the filters leave of it goes on to the exchange's body.
type chain struct {
	all  []call.Filter        // those that were asked, in order
	msgs []call.MessageFilter // of them
	tail []call.TrailerFilter

	at     int  // the factory whose filter is asked about the request's headers
	asked  bool // its filter is the last of all
	end    bool // the request has headers only
	passed bool // the request's headers are through

	trailers bool // the request's trailers are

	// rspAt filters have yet to see the response's headers; -1: all.
	rspAt int
	// head are headers of the response that a filter holds back; owned.
	head    *hpack.Block
	headEnd bool

	req, rsp framer
}

// messages reports that payload passes message by message.
func (f *chain) messages() bool { return len(f.msgs) > 0 }

// pending reports that a filter will answer later, other than about the
// request's headers.
func (f *chain) pending() bool { return f.head != nil || f.req.paused || f.rsp.paused }

// free drops all payload that f holds.
func (f *chain) free(c *Core) {
	f.dropResponse(c)
	f.req.free(c)
}

// dropResponse forgets an upstream's response.
func (f *chain) dropResponse(c *Core) {
	c.putBlock(f.head)
	f.head = nil
	f.rsp.free(c)
}

// newChain takes a chain for an exchange whose manager has filters.
func (c *Core) newChain(end bool) *chain {
	f := &chain{}
	if n := len(c.chains); n > 0 {
		f = c.chains[n-1]
		c.chains = c.chains[:n-1]
	}
	f.end, f.rspAt = end, -1
	return f
}

const maxRestingChains = 256

// putChain takes it back.
func (c *Core) putChain(f *chain) {
	f.free(c)
	clear(f.all)
	clear(f.msgs)
	clear(f.tail)
	*f = chain{all: f.all[:0], msgs: f.msgs[:0], tail: f.tail[:0]}
	if len(c.chains) < maxRestingChains {
		c.chains = append(c.chains, f)
	}
}

// filterRequestHeaders asks the filters that have not been asked, and those
// that wanted to be asked again. True: the headers are through.
func (x *Exchange) filterRequestHeaders() bool {
	f := x.flt
	for f.at < len(x.m.Filters) {
		if !f.asked {
			flt, err := x.newFilter(x.m.Filters[f.at])
			if err != nil {
				x.fail(err)
				return false
			}
			if flt == nil {
				f.at++
				continue
			}
			f.all = append(f.all, flt)
			f.asked = true
		}
		if err := x.onRequestHeaders(f.all[len(f.all)-1]); err != nil {
			if errors.Is(err, call.ErrPending) {
				x.state = statePaused
				x.limitTime()
				return false
			}
			x.fail(err)
			return false
		}
		f.at++
		f.asked = false
	}
	f.passed = true
	for _, flt := range f.all {
		if m, ok := flt.(call.MessageFilter); ok && x.call.GRPC {
			f.msgs = append(f.msgs, m)
		}
		if t, ok := flt.(call.TrailerFilter); ok {
			f.tail = append(f.tail, t)
		}
	}
	if f.messages() {
		removeName(&x.head, hdr.ContentLength)
	}
	x.readHead()
	return true
}

// removeName removes the fields called id.
func removeName(b *hpack.Block, id hdr.ID) {
	if i := b.Index(id); i >= 0 {
		f := b.Fields[i]
		removeFrom(b, i, &f)
	}
}

// readHead tells the call's fields what the filters left of the headers.
func (x *Exchange) readHead() {
	cl := &x.call
	if v, ok := x.head.Get(hdr.Path); ok {
		cl.Path = v
	}
	if v, ok := x.head.Get(hdr.Authority); ok {
		cl.Host = v
	}
	if v, ok := x.head.Get(hdr.Method); ok {
		cl.Method = v
	}
}

// filterResponseHeaders asks the filters about the headers of an upstream's
// response. False: they wait, or the call has ended.
func (x *Exchange) filterResponseHeaders(b *hpack.Block, end bool) bool {
	f := x.flt
	if f.rspAt < 0 {
		f.rspAt = len(f.all)
		if f.messages() {
			removeName(b, hdr.ContentLength)
		}
	}
	for f.rspAt > 0 {
		if err := x.onResponseHeaders(f.all[f.rspAt-1], b, end); err != nil {
			if !errors.Is(err, call.ErrPending) {
				x.fail(err)
				return false
			}
			if f.head == nil {
				f.head, f.headEnd = x.core.block(), end
				f.head.CopyFrom(b)
				f.rsp.wait(x.core, callMemory+int64(b.Size()))
			}
			return false
		}
		f.rspAt--
	}
	return true
}

// filterReply shows the filters the headers of a local reply: those that have
// not seen another response's.
func (x *Exchange) filterReply(b *hpack.Block, end bool) {
	f := x.flt
	n := f.rspAt - 1 // that one has, and waited, or answered
	if f.rspAt < 0 {
		n = len(f.all)
	}
	f.rspAt = 0
	for n--; n >= 0; n-- {
		_ = x.onResponseHeaders(f.all[n], b, end) // a reply is not replaced
	}
}

// filterTrailers shows the filters the trailers of a response.
func (x *Exchange) filterTrailers(b *hpack.Block) {
	f := x.flt
	if f == nil || len(f.tail) == 0 {
		return
	}
	for i := len(f.tail) - 1; i >= 0; i-- {
		x.onTrailers(f.tail[i].ResponseTrailers, b)
	}
	x.readStatus(b)
}

// readStatus notes the grpc-status that filters left in the block that ends a
// response.
func (x *Exchange) readStatus(b *hpack.Block) {
	if v, ok := b.Get(hdr.GRPCStatus); ok {
		x.rec.Code, x.rec.HasCode = parseStatus(v), true
	}
}

// filterDone tells the filters that the call has ended.
func (x *Exchange) filterDone() {
	f := x.flt
	for _, flt := range f.all {
		x.onDone(flt)
	}
	f.free(x.core)
	clear(f.all)
	f.all = f.all[:0]
}

// The calls of foreign code. A panic costs the call.

func (x *Exchange) newFilter(ff call.FilterFactory) (f call.Filter, err error) {
	defer x.recovered("filter", &err)
	return ff.NewFilter(&x.call), nil
}

func (x *Exchange) onRequestHeaders(f call.Filter) (err error) {
	defer x.recovered("filter", &err)
	x.call.Now = x.core.Now
	return f.RequestHeaders(&x.call, x.flt.end)
}

func (x *Exchange) onResponseHeaders(f call.Filter, b *hpack.Block, end bool) (err error) {
	defer x.recovered("filter", &err)
	x.call.Now = x.core.Now
	return f.ResponseHeaders(&x.call, b, end)
}

func (x *Exchange) onTrailers(hook func(*call.Call, *hpack.Block), b *hpack.Block) {
	var err error
	defer x.recovered("filter", &err)
	x.call.Now = x.core.Now
	hook(&x.call, b)
}

func (x *Exchange) onMessage(hook func(*call.Call, *call.Message) error, m *call.Message) (err error) {
	defer x.recovered("filter", &err)
	x.call.Now = x.core.Now
	return hook(&x.call, m)
}

func (x *Exchange) onDone(f call.Filter) {
	var err error
	defer x.recovered("filter", &err)
	x.call.Now = x.core.Now
	f.Done(&x.call, &x.rec)
}

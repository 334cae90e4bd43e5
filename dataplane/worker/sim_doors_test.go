package worker

import (
	"github.com/sluice-proxy/sluice/dataplane/call"
	"strconv"
	"strings"
)

// simHost is a call.Host.
type simHost struct {
	target  *call.Target
	retired bool
	lost    int // connections that were cut, dials that failed

	retries, maxRetries int // in progress, and at most; 0: no bound
}

func (h *simHost) AcquireRetry() bool {
	if h.maxRetries > 0 && h.retries >= h.maxRetries {
		return false
	}
	h.retries++
	return true
}

func (h *simHost) ReleaseRetry() { h.retries-- }

func (h *simHost) Target() *call.Target { return h.target }
func (h *simHost) Retired() bool        { return h.retired }

// simSet is the call.BackendSet, round robin, and the Director.
type simSet struct {
	w    *world
	next int
}

func (s *simSet) byAddress(a string) *simHost {
	for _, h := range s.w.hosts {
		if h.target.Address == a {
			return h
		}
	}
	s.w.fatalf("dial to unknown host %s", a)
	return nil
}

func (s *simSet) rpcOf(c *call.Call) *rpc {
	id, _ := strconv.ParseUint(strings.TrimPrefix(c.Path, "/sim/"), 10, 64)
	if id == 0 || id > uint64(len(s.w.rpcs)) {
		s.w.fatalf("call with path %q", c.Path)
	}
	return s.w.rpcs[id-1]
}

func (s *simSet) Scope() call.Scope { return call.Scope{Index: 2} }

func (s *simSet) Pick(c *call.Call, attempt int) (call.Host, error) {
	r := s.rpcOf(c)
	if r.headers {
		s.w.fatalf("%v: another attempt after response headers were released", r)
	}
	for range len(s.w.hosts) {
		h := s.w.hosts[s.next%len(s.w.hosts)]
		s.next++
		if !h.retired {
			r.picks++
			r.picked = append(r.picked, pickedHost{h, s.w.lostBefore(h)})
			return h, nil
		}
	}
	return nil, call.ReplyNoHealthy
}

// lostBefore is h.lost without the connections that are cut and the worker does
// not know it yet: it may still use them.
func (w *world) lostBefore(h *simHost) int {
	n := h.lost
	for _, l := range w.links {
		if l.host == h && l.peer != nil && l.peer.gone && !l.k.dead {
			n--
		}
	}
	return n
}

func (s *simSet) Done(h call.Host, o *call.Outcome) {
	if o.Host != h {
		s.w.fatalf("Done(%v) with the outcome of %v", h, o.Host)
	}
	s.w.doneCount++
}

// replyStale is what a stale handle is resumed with: no client may see it.
var replyStale = &call.Reply{HTTP: 599, GRPC: call.DataLoss, Message: "a stale handle was resumed"}

func (s *simSet) Direct(c *call.Call) (call.Decision, error) {
	w := s.w
	r := s.rpcOf(c)
	if r.done && r.result == "served" {
		w.fatalf("%v: directed after its end", r)
	}
	r.directed++
	pause := r.pause && !r.wasPaused
	if (!pause || r.id%3 != 0) && s.peek(c, r) {
		return call.Decision{}, call.ErrPeek
	}
	if pause {
		r.wasPaused = true
		r.handle = c.Handle
		w.paused = append(w.paused, r)
		return call.Decision{}, call.ErrPending
	}
	dec := call.Decision{Backends: s, Route: w.route}
	switch r.route {
	case routeNone:
		return dec, call.ReplyNoRoute
	case routePanic:
		panic("sim: the director panics")
	case routeReply:
		dec.Reply = &call.Reply{HTTP: 418, GRPC: call.FailedPrecondition, Message: "teapot 100%", Body: []byte("short and stout")}
	case routeTimeout:
		dec.Route = &call.Route{Timeout: r.timeout}
	case routeGRPC:
		dec.Route = &call.Route{UseGRPCTimeout: true}
	case routeRetry:
		dec.Route = &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, On: call.RetryReset | call.RetryRefusedStream, Max: 2, PerTry: w.opt.perTry, BufferLimit: 64 << 10}}
	}
	return dec, nil
}

func (w *world) record(c *call.Call, o *call.Outcome) {
	r := w.set.rpcOf(c)
	r.records++
	if r.records > 1 {
		w.fatalf("%v: recorded twice", r)
	}
	if o.End < o.Start || o.Start == 0 {
		w.fatalf("%v: outcome from %d to %d", r, o.Start, o.End)
	}
}

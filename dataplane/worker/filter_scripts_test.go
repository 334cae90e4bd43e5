package worker

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// scriptFilter is a filter whose methods a test writes; nil ones say nothing.
type scriptFilter struct {
	request  func(c *call.Call) error
	response func(h *hpack.Block) error
	trailers func(h *hpack.Block)
	done     int
}

func (f *scriptFilter) RequestHeaders(c *call.Call, _ bool) error {
	if f.request == nil {
		return nil
	}
	return f.request(c)
}

func (f *scriptFilter) ResponseHeaders(_ *call.Call, h *hpack.Block, _ bool) error {
	if f.response == nil {
		return nil
	}
	return f.response(h)
}

func (f *scriptFilter) RequestTrailers(_ *call.Call, h *hpack.Block) {
	if f.trailers != nil {
		f.trailers(h)
	}
}

func (f *scriptFilter) ResponseTrailers(_ *call.Call, h *hpack.Block) {
	if f.trailers != nil {
		f.trailers(h)
	}
}

func (f *scriptFilter) Done(*call.Call, *call.Outcome) { f.done++ }

// newFilteredScript is newScript with one filter for all calls.
func newFilteredScript(t *testing.T, rt *call.Route, f *scriptFilter) *script {
	return newScript(t, rt, func(m *call.Manager, _ *call.UpstreamOptions) {
		m.Filters = []call.FilterFactory{filterFunc(func(*call.Call) call.Filter { return f })}
	})
}

// TestHeldHeadersRefused: response headers that waited for a retriable status
// and are then refused by a filter end the call once, with the filter's answer,
// whatever it was that released them.
func TestHeldHeadersRefused(t *testing.T) {
	rt := &call.Route{Retry: &call.RetryPolicy{GRPCCodes: 1 << 14, Max: 1}}
	for name, release := range map[string]func(s *script, r *rpc){
		"trailers": func(s *script, r *rpc) { s.reply(r, 0, true, "grpc-status", "0") },
		"data":     func(s *script, r *rpc) { p, st := s.server(r, 0); s.data(p, st, 100, false) },
		"last data": func(s *script, r *rpc) {
			p, st := s.server(r, 0)
			r.respLen = 100
			s.data(p, st, 100, true)
		},
		"time": func(s *script, _ *rpc) { s.pass(200e6) },
	} {
		t.Run(name, func(t *testing.T) {
			late := 0
			f := &scriptFilter{
				response: func(h *hpack.Block) error {
					if _, ok := h.GetName("x-id"); !ok {
						return nil // the reply to what it refused
					}
					return &call.Reply{HTTP: 403, GRPC: call.PermissionDenied, Message: "no"}
				},
				trailers: func(*hpack.Block) { late++ },
			}
			s := newFilteredScript(t, rt, f)
			r := s.call(&rpc{grpc: true})
			s.reply(r, 0, false, headersOf(r)...)
			release(s, r)
			s.expect(r, "200 grpc 7")
			if f.done != 1 || late != 0 {
				t.Errorf("the filter had Done %d times, trailers %d times", f.done, late)
			}
			s.finish()
		})
	}
}

// TestTrailersWaitForTheirFilters: trailers of a request that came while a
// filter held its headers pass the filters before they leave.
func TestTrailersWaitForTheirFilters(t *testing.T) {
	f := &scriptFilter{trailers: func(h *hpack.Block) { h.Append(hpack.NewField("x-seen", "yes")) }}
	s := newFilteredScript(t, nil, f)
	warm := s.call(&rpc{grpc: true}) // for a connection that takes the next call at once
	s.reply(warm, 0, true, trailersOnly(warm, "0")...)
	var handle call.Handle
	f.request = func(c *call.Call) error {
		if handle == c.Handle {
			return nil
		}
		handle = c.Handle
		return call.ErrPending
	}
	r := s.call(&rpc{grpc: true, reqTrailers: true})
	handle.Resume(nil)
	s.settleNow()
	_, st := s.server(r, 0)
	if n := len(st.trailers); n != 2 || st.trailers[1].Name != "x-seen" {
		t.Errorf("the server got the trailers %v", st.trailers)
	}
	s.reply(r, 0, true, trailersOnly(r, "0")...)
	s.expect(r, "200 grpc 0")
	s.finish()
}

// scriptMessages is a scriptFilter that sees messages; it never lets one go.
type scriptMessages struct{ scriptFilter }

func (*scriptMessages) RequestMessage(*call.Call, *call.Message) error { return call.ErrPending }

func (*scriptMessages) ResponseMessage(*call.Call, *call.Message) error { return call.ErrPending }

// TestEvictMessages: messages for which a filter will answer later are memory
// like all that waits. Beyond the budget calls end.
func TestEvictMessages(t *testing.T) {
	s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) {
		m.Filters = []call.FilterFactory{filterFunc(func(*call.Call) call.Filter { return &scriptMessages{} })}
	})
	const size = simBlock // one message
	most := int64(0)
	for range 90 {
		s.call(&rpc{grpc: true, reqLen: size})
		most = max(most, s.wk.core.Memory())
		if m := s.wk.core.Memory(); m > s.wk.budget() {
			t.Fatalf("%d bytes of memory, budget %d", m, s.wk.budget())
		}
	}
	if most < s.wk.budget()*3/4 || s.wk.downH2.HeldOverflow == 0 {
		t.Errorf("90 messages that wait took at most %d bytes of memory, budget %d", most, s.wk.budget())
	}
	s.cancelAll()
	s.settleNow()
	if m := s.wk.core.Memory(); m != 0 {
		t.Errorf("%d bytes of memory when all calls have ended", m)
	}
	s.finish()
}

// passMessages is a scriptFilter that sees messages and lets them go.
type passMessages struct{ scriptFilter }

func (*passMessages) RequestMessage(*call.Call, *call.Message) error { return nil }

func (*passMessages) ResponseMessage(*call.Call, *call.Message) error { return nil }

// TestAnsweredRequestIsDropped: once an upstream has answered in full and left,
// nothing of the request is kept, and its client may send on: it may want to
// have sent all before it takes the answer.
func TestAnsweredRequestIsDropped(t *testing.T) {
	for name, filters := range map[string][]call.FilterFactory{
		"":         nil,
		"filtered": {filterFunc(func(*call.Call) call.Filter { return &passMessages{} })},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.Filters = filters })
			s.g.opt.MemoryBudget = 4 << 20
			warm := s.call(&rpc{grpc: true})
			s.reply(warm, 0, true, trailersOnly(warm, "0")...)
			p, _ := s.server(warm, 0)
			p.deaf, s.client.deaf = true, true
			r := s.call(&rpc{grpc: true, reqLen: 300_500, respLen: 100_000})
			if r.s.sent == r.reqLen {
				t.Fatal("the request should wait for the server")
			}
			s.reply(r, 0, false, headersOf(r)...)
			p, st := s.server(r, 0)
			s.data(p, st, r.respLen, true)
			p.rst(st, http2.ErrCodeNo)
			s.settleNow()
			if r.s.sent != r.reqLen || r.done {
				t.Errorf("the client has sent %d bytes of %d, its call has ended: %v", r.s.sent, r.reqLen, r.done)
			}
			if got, want := s.wk.core.Queued(), int64(r.respLen-r.s.got); got != want {
				t.Errorf("%d bytes are queued, want %d of the response", got, want)
			}
			s.client.deaf = false
			s.settleNow()
			if r.s.got != r.respLen {
				t.Errorf("the client has %d bytes of %d", r.s.got, r.respLen)
			}
			s.finish()
		})
	}
}

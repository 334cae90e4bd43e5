package worker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// mode is what the server does with a call.
type mode int

const (
	modeUnary        mode = iota // answers after the request's end
	modeBidi                     // answers while the request comes
	modeTrailersOnly             // one HEADERS frame
	modeEarly                    // a whole response before the request's end
	modeReset                    // RST_STREAM somewhere
	modeHTTPError                // :status 503, END_STREAM
	modeHang                     // no answer at all
	modeNoTrailers               // the last DATA frame ends the response
	modeInfo                     // 103, then as unary
	modes
)

// routeKind is what the Director decides.
type routeKind int

const (
	routePlain   routeKind = iota
	routeTimeout           // Route.Timeout
	routeGRPC              // UseGRPCTimeout
	routeRetry             // a RetryPolicy
	routeReply             // a direct response
	routeNone              // no route
	routePanic             // the Director panics
)

// checkMode says which payload the client expects.
type checkMode int

const (
	checkServer checkMode = iota
	checkReply            // the proxy's own
)

// rpc is one call of the simulation: its plan, and what happened to it.
type rpc struct {
	// The plan.

	id          uint64
	mode        mode
	route       routeKind
	grpc        bool
	reqLen      int
	respLen     int
	reqTrailers bool
	status      int
	timeout     time.Duration
	resetCode   http2.ErrCode
	resetAfter  int // payload bytes
	cancelAfter int // payload bytes of either direction; -1: never
	pause       bool
	failFirst   int // routeRetry: attempts that fail with status 14

	// What happened.

	client   *peer
	s        *pstream
	started  bool
	done     bool
	result   string
	check    checkMode
	headers  bool // the final response's headers came
	code     string
	http     string
	served   []*served
	picks    int
	dones    int
	records  int
	directed int
	handle   call.Handle
}

// served is one attempt as a server saw it.
type served struct {
	p       *peer
	refused bool // REFUSED_STREAM, or above GOAWAY's last id
	cut     bool
	ended   bool // the response is complete, or reset
	reset   bool // by the server
	info    bool
	fail    bool // answers status 14, for the retry
}

func (r *rpc) String() string {
	return fmt.Sprintf("call %d {mode %d route %d grpc %v req %d resp %d status %d timeout %v cancel %d trailers %v pause %v; stream %v started %v done %v result %q code %q http %q headers %v served %d picks %d records %d}",
		r.id, r.mode, r.route, r.grpc, r.reqLen, r.respLen, r.status, r.timeout, r.cancelAfter, r.reqTrailers, r.pause,
		r.s, r.started, r.done, r.result, r.code, r.http, r.headers, len(r.served), r.picks, r.records)
}

func (s *pstream) String() string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%d(sent %d got %d sendWin %d recvWin %d sendEnd %v recvEnd %v reset %v)", s.id, s.sent, s.got, s.sendWin, s.recvWin, s.sendEnd, s.recvEnd, s.reset)
}

// size draws a payload length: mostly small, now and then large.
func (w *world) size() int {
	switch w.rnd.IntN(8) {
	case 0:
		return 0
	case 1, 2:
		return w.rnd.IntN(20_000)
	case 3:
		return w.rnd.IntN(150_000)
	}
	return w.rnd.IntN(200)
}

func (w *world) planRPCs() {
	for i := range w.opt.rpcs {
		r := &rpc{id: uint64(i + 1), grpc: w.rnd.IntN(5) != 0, reqLen: w.size(), respLen: w.size(), cancelAfter: -1}
		r.mode = []mode{modeUnary, modeUnary, modeUnary, modeBidi, modeBidi, modeTrailersOnly, modeEarly, modeHTTPError, modeNoTrailers, modeInfo}[w.rnd.IntN(10)]
		r.reqTrailers = w.rnd.IntN(10) == 0
		r.status = []int{0, 0, 0, 5, 14, 16}[w.rnd.IntN(6)]
		if w.opt.resets && w.rnd.IntN(6) == 0 {
			r.mode = modeReset
			r.resetCode = []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeRefusedStream, http2.ErrCodeEnhanceYourCalm, http2.ErrCodeNo}[w.rnd.IntN(5)]
			r.resetAfter = w.rnd.IntN(r.respLen + 1)
		}
		if w.opt.cancels && w.rnd.IntN(5) == 0 {
			r.cancelAfter = w.rnd.IntN(r.reqLen + r.respLen + 1)
		}
		if w.opt.deadlines && w.rnd.IntN(4) == 0 {
			r.timeout = time.Duration(1+w.rnd.IntN(300)) * time.Millisecond
			r.route = routeTimeout
			if r.grpc && w.rnd.IntN(2) == 0 {
				r.route = routeGRPC
			}
			if w.rnd.IntN(2) == 0 {
				r.mode = modeHang
			}
		}
		if r.route == routePlain {
			switch w.rnd.IntN(30) {
			case 0:
				r.route = routeReply
			case 1:
				r.route = routeNone
			case 2:
				r.route = routePanic
			}
		}
		if w.opt.retries && r.route == routePlain && r.grpc && w.rnd.IntN(2) == 0 {
			r.route = routeRetry
			r.failFirst = w.rnd.IntN(3)
			if w.opt.perTry > 0 && w.rnd.IntN(4) == 0 {
				r.mode = modeHang
			}
		}
		if r.mode == modeHang && r.route == routePlain {
			r.cancelAfter = 0
		}
		r.pause = w.opt.pauses && w.rnd.IntN(3) == 0
		w.rpcs = append(w.rpcs, r)
	}
}

// startRPC begins the next call on a client that may.
func (w *world) startRPC() {
	for _, r := range w.rpcs {
		if r.started {
			continue
		}
		for range 4 {
			p := w.clients[w.rnd.IntN(len(w.clients))]
			if p.gone || p.sawEnd || p.finSent || p.goawaySeen || p.active() >= p.maxPeer {
				continue
			}
			p.start(r)
			return
		}
		if w.usableClients() == 0 {
			w.connect()
		}
		return
	}
}

func (w *world) usableClients() (n int) {
	for _, p := range w.clients {
		if !p.gone && !p.sawEnd && !p.goawaySeen {
			n++
		}
	}
	return n
}

func (w *world) allStarted() bool {
	for _, r := range w.rpcs {
		if !r.started {
			return false
		}
	}
	return w.rnd.IntN(2000) == 0
}

func (w *world) allDone() bool {
	for _, r := range w.rpcs {
		if r.started && !r.done {
			return false
		}
	}
	return true
}

// ---- client

func (p *peer) start(r *rpc) {
	s := p.open(p.nextID)
	p.nextID += 2
	s.r, r.s, r.client, r.started = r, s, p, true
	kv := []string{":method", "POST", ":scheme", "http", ":path", "/sim/" + strconv.FormatUint(r.id, 10), ":authority", "sim.example"}
	if r.grpc {
		kv = append(kv, "content-type", "application/grpc", "te", "trailers")
	} else {
		kv = append(kv, "content-type", "application/octet-stream")
	}
	if r.route == routeGRPC {
		kv = append(kv, "grpc-timeout", strconv.Itoa(int(r.timeout.Milliseconds()))+"m")
	}
	if p.w.rnd.IntN(3) == 0 {
		kv = append(kv, "x-noise", strings.Repeat("n", p.w.rnd.IntN(300)))
	}
	p.writeHeaders(s, r.reqLen == 0 && !r.reqTrailers && p.w.rnd.IntN(2) == 0, kv...)
	p.push()
}

func (p *peer) clientAct(s *pstream, all bool) (moved bool) {
	r := s.r
	if s.recvEnd || r.done {
		return false
	}
	if r.cancelAfter >= 0 && s.sent+s.got >= r.cancelAfter && (all || p.w.rnd.IntN(4) == 0) {
		p.rst(s, http2.ErrCodeCancel)
		r.end("cancelled")
		return true
	}
	for !s.sendEnd && s.sent <= r.reqLen && !(p.stingy && s.sent >= 1000) {
		if s.sent == r.reqLen && r.reqTrailers {
			p.writeHeaders(s, true, "x-request-end", "yes")
			return true
		}
		n := 1 + p.w.rnd.IntN(1+min(r.reqLen, 20_000))
		if p.stingy {
			n = 1000 - s.sent
		}
		if !p.sendData(s, n, r.reqLen, !r.reqTrailers) {
			return moved
		}
		moved = true
		if !all && p.w.rnd.IntN(2) == 0 {
			return true
		}
	}
	return moved
}

func (p *peer) clientHeaders(s *pstream, fields []hpack.HeaderField, end bool) {
	r := s.r
	get := func(name string) string {
		for _, f := range fields {
			if f.Name == name {
				return f.Value
			}
		}
		return ""
	}
	if !r.headers {
		status := get(":status")
		if status == "" {
			p.w.fatalf("%v: no :status: %v", r, fields)
		}
		if status[0] == '1' {
			if r.mode != modeInfo || end {
				p.w.fatalf("%v: unexpected informational response %s", r, status)
			}
			return
		}
		r.headers, r.http = true, status
		if id := get("x-id"); id == "" {
			r.check = checkReply
		} else if id != strconv.FormatUint(r.id, 10) {
			p.w.fatalf("%v: got the response of call %s", r, id)
		}
	} else if !end {
		p.w.fatalf("%v: a second header block without END_STREAM", r)
	}
	if end {
		s.recvEnd = true
		p.clientEnd(s, get)
	}
}

// clientEnd judges a response that ended with END_STREAM.
func (p *peer) clientEnd(s *pstream, get func(string) string) {
	r, w := s.r, p.w
	var code, mark string
	if get != nil {
		code, mark = get("grpc-status"), get("x-t")
	}
	r.code = code
	if w.scripted {
		r.end("replied")
		return
	}
	w.note("end "+code, int(r.id), s.got)
	if r.check == checkServer && (mark != "" || r.mode == modeNoTrailers && get == nil) {
		// The server's own end: everything must be as it sent it.
		want := strconv.Itoa(r.status)
		if r.mode == modeNoTrailers {
			want = ""
		}
		if len(r.served) == 0 {
			w.fatalf("%v: a response, but no server saw the call", r)
		}
		if r.served[len(r.served)-1].fail {
			want = "14" // the retries were used up, or could not be made
		}
		if code != want {
			w.fatalf("%v: status %q, want %q", r, code, want)
		}
		if a := r.served[len(r.served)-1]; !a.fail {
			if n := r.payload(); s.got != n {
				w.fatalf("%v: %d bytes, want %d", r, s.got, n)
			}
		}
		r.end("served")
		return
	}
	if r.check == checkServer && r.mode == modeHTTPError && r.http == "503" {
		r.end("served")
		return
	}
	r.end("replied")
	if !r.grpc && r.check == checkServer {
		w.fatalf("%v: a cut response ended without an error", r)
	}
	if r.grpc && code == "" {
		w.fatalf("%v: no grpc-status in a local reply", r)
	}
	if err := w.explain(r, code, r.http); err != nil {
		w.fatalf("%v: %v", r, err)
	}
}

// payload is what a server sends of r.
func (r *rpc) payload() int {
	switch r.mode {
	case modeTrailersOnly, modeHTTPError:
		return 0
	}
	return r.respLen
}

func (r *rpc) end(result string) {
	r.done = true
	r.result = result
}

// resetBy is RST_STREAM from the worker.
func (p *peer) resetBy(s *pstream, code http2.ErrCode) {
	if !p.client {
		s.reset = true
		if s.attempt != nil {
			s.attempt.ended = true
		}
		return
	}
	r := s.r
	if s.reset {
		return
	}
	s.reset = true
	if r.done {
		if code != http2.ErrCodeNo {
			p.w.fatalf("%v: RST_STREAM %v after the end", r, code)
		}
		return
	}
	if code == http2.ErrCodeRefusedStream && !r.headers && r.mode != modeReset {
		p.w.rpcRefused(r)
		return
	}
	r.end("reset " + code.String())
	if err := p.w.explainReset(r, code); err != nil {
		p.w.fatalf("%v: %v", r, err)
	}
}

func (w *world) rpcRefused(r *rpc) {
	if r.done {
		return
	}
	if len(r.served) > 0 {
		w.fatalf("%v: refused, but a server has seen it", r)
	}
	if w.faults["drain"] == 0 && w.opt.maxRequests == 0 && w.opt.age == 0 {
		w.fatalf("%v: refused without a reason", r)
	}
	r.end("refused")
}

// clientLost: the connection ended under the stream.
func (p *peer) clientLost(s *pstream) {
	if s.r.done {
		return
	}
	if !p.w.scripted && p.w.faults["cut"] == 0 && p.w.faults["drain"] == 0 && p.w.opt.age == 0 && p.w.opt.maxRequests == 0 {
		p.w.fatalf("%v: connection lost without a reason", s.r)
	}
	s.reset = true
	s.r.end("lost")
}

// ---- server

func (p *peer) serverRequest(s *pstream, fields []hpack.HeaderField, end bool) {
	w := p.w
	var id uint64
	for _, f := range fields {
		switch f.Name {
		case ":path":
			id, _ = strconv.ParseUint(strings.TrimPrefix(f.Value, "/sim/"), 10, 64)
		case "connection", "keep-alive":
			w.fatalf("hop-by-hop header %s at the server", f.Name)
		}
	}
	if id == 0 || id > uint64(len(w.rpcs)) {
		w.fatalf("%v: request for no call: %v", p, fields)
	}
	r := w.rpcs[id-1]
	s.r = r
	a := &served{p: p}
	s.attempt = a
	if p.goawaySent && s.id > p.goawayLast {
		s.reset, a.refused = true, true // never processed
		return
	}
	if p.maxActive > 0 && p.active() > int(p.maxActive) {
		w.fault("refused")
		a.refused = true
		p.rst(s, http2.ErrCodeRefusedStream)
		return
	}
	a.fail = r.route == routeRetry && len(r.served) < r.failFirst
	r.served = append(r.served, a)
	w.checkServed(r)
	s.recvEnd = end
}

func (p *peer) serverTrailers(s *pstream, fields []hpack.HeaderField, end bool) {
	r := s.r
	if !end || !r.reqTrailers || s.recvEnd || s.got != r.reqLen {
		p.w.fatalf("%v: %v: bad trailers %v after %d bytes", p, r, fields, s.got)
	}
	s.recvEnd = true
}

func (p *peer) serverAct(s *pstream, all bool) (moved bool) {
	r, a := s.r, s.attempt
	if a == nil || a.refused || a.ended || s.sendEnd {
		return false
	}
	if s.recvEnd && s.got != r.reqLen {
		p.w.fatalf("%v: %v: request ended after %d bytes", p, r, s.got)
	}
	if r.mode == modeHang && !a.fail {
		return false
	}
	if r.mode == modeReset && !a.fail && s.sent >= r.resetAfter && (s.recvEnd || r.resetAfter > 0) {
		p.w.fault("serverReset")
		a.ended, a.reset = true, true
		a.refused = r.resetCode == http2.ErrCodeRefusedStream
		p.rst(s, r.resetCode)
		return true
	}
	if !s.recvEnd && r.mode != modeBidi && r.mode != modeEarly {
		return false
	}
	if !all && p.w.rnd.IntN(2) == 0 {
		return false
	}
	id := strconv.FormatUint(r.id, 10)
	if a.fail {
		if p.w.rnd.IntN(2) == 0 && !s.headSent {
			p.writeHeaders(s, false, ":status", "200", "content-type", "application/grpc", "x-id", id)
			s.headSent = true
			return true
		}
		if !s.recvEnd {
			return false
		}
		if s.headSent {
			p.writeHeaders(s, true, "grpc-status", "14", "x-t", id)
		} else {
			p.writeHeaders(s, true, ":status", "200", "content-type", "application/grpc", "x-id", id, "grpc-status", "14", "x-t", id)
		}
		a.ended = true
		return true
	}
	status := strconv.Itoa(r.status)
	switch r.mode {
	case modeTrailersOnly:
		p.writeHeaders(s, true, ":status", "200", "content-type", "application/grpc", "x-id", id, "grpc-status", status, "x-t", id)
		a.ended = true
		return true
	case modeHTTPError:
		p.writeHeaders(s, true, ":status", "503", "x-id", id)
		a.ended = true
		return true
	case modeInfo:
		if !a.info {
			a.info = true
			p.writeHeaders(s, false, ":status", "103", "link", "</x>")
			return true
		}
	}
	if !s.headSent {
		s.headSent = true
		p.writeHeaders(s, false, ":status", "200", "content-type", "application/grpc", "x-id", id)
		moved = true
	}
	for s.sent < r.respLen {
		if r.mode == modeReset && s.sent >= r.resetAfter {
			return moved
		}
		if !p.sendData(s, 1+p.w.rnd.IntN(20_000), r.respLen, r.mode == modeNoTrailers) {
			return moved
		}
		moved = true
		if !all {
			return true
		}
	}
	if r.mode == modeBidi && !s.recvEnd {
		return moved
	}
	switch {
	case r.mode == modeReset:
		return moved
	case r.mode != modeNoTrailers:
		p.writeHeaders(s, true, "grpc-status", status, "x-t", id)
	case !s.sendEnd:
		if !p.sendData(s, 0, r.respLen, true) {
			return moved
		}
	}
	a.ended = true
	return true
}

// ---- the doors to the configuration

// simHost is a call.Host.
type simHost struct {
	target  *call.Target
	retired bool
	r       map[uint64]int
}

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
			return h, nil
		}
	}
	return nil, call.ReplyNoHealthy
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
	if r.pause && r.directed == 1 {
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

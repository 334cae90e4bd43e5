package worker

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
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
	told        time.Duration // x-envoy-expected-rq-timeout-ms
	resetCode   http2.ErrCode
	resetAfter  int // payload bytes
	cancelAfter int // payload bytes of either direction; -1: never
	pause       bool
	failFirst   int // routeRetry: attempts that fail with status 14

	// What happened.

	client    *peer
	s         *pstream
	started   bool
	done      bool
	result    string
	check     checkMode
	headers   bool        // the final response's headers came
	shortAt   clock.Nanos // when the client ended the request short; 0: it did not
	code      string
	http      string
	served    []*served
	arrived   int  // attempts that reached a server, refused or not
	refusals  int  // attempts that a server refused unseen
	hurt      bool // the connection of an attempt was cut
	picks     int
	picked    []pickedHost
	records   int
	directed  int
	refused   int // filters that said no
	wasPaused bool
	handle    call.Handle
}

// pickedHost is a host that was picked, and how often things had gone wrong
// with it then.
type pickedHost struct {
	host *simHost
	lost int
}

// served is one attempt as a server saw it.
type served struct {
	p       *peer
	refused bool // REFUSED_STREAM, or above GOAWAY's last id
	ended   bool // the response is complete, or reset
	reset   bool // by the server
	info    bool
	fail    bool // answers status 14, for the retry
}

func (r *rpc) String() string {
	return fmt.Sprintf("call %d {mode %d route %d grpc %v req %d resp %d status %d timeout %v cancel %d trailers %v pause %v; stream %v started %v done %v result %q code %q http %q headers %v served %d arrived %d refused %d picks %d records %d}",
		r.id, r.mode, r.route, r.grpc, r.reqLen, r.respLen, r.status, r.timeout, r.cancelAfter, r.reqTrailers, r.pause,
		r.s, r.started, r.done, r.result, r.code, r.http, r.headers, len(r.served), r.arrived, r.refusals, r.picks, r.records)
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

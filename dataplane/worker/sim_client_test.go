package worker

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"strconv"
	"strings"
)

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
	if r.told > 0 {
		kv = append(kv, "x-envoy-expected-rq-timeout-ms", strconv.FormatInt(r.told.Milliseconds(), 10))
	}
	if p.w.opt.odd.lengths {
		kv = append(kv, "content-length", strconv.Itoa(r.reqLen))
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
	if p.w.opt.odd.shorts && r.headers && !s.sendEnd && s.sent < r.reqLen && p.w.rnd.IntN(3) == 0 {
		s.sendEnd, r.shortAt = true, p.w.now
		if r.reqTrailers {
			p.writeHeaders(s, true, "x-request-end", "short")
		} else {
			p.fr.WriteData(s.id, true, nil)
		}
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
			if r.mode != modeInfo && !p.w.scripted || end {
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
		failed := strings.HasSuffix(mark, "f")
		if failed {
			want = "14" // the retries were used up, or could not be made
		}
		if code != want {
			w.fatalf("%v: status %q, want %q", r, code, want)
		}
		if !failed {
			if n := r.payload(); s.got != n {
				w.fatalf("%v: %d bytes, want %d", r, s.got, n)
			}
		}
		r.end("served")
		return
	}
	if r.check == checkServer && r.mode == modeHTTPError && !r.grpc && r.http == "503" {
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
		w.fatalf("%v: %v: %s", r, err, get("grpc-message"))
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
	if code == http2.ErrCodeRefusedStream && !r.headers {
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
	if r.processed() > 0 {
		w.fatalf("%v: refused, but a server has seen it", r)
	}
	if w.explain(r, "14", "503") != nil && w.faults["drain"] == 0 && w.opt.maxRequests == 0 && w.opt.age == 0 {
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

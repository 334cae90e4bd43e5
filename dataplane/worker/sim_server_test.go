package worker

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"slices"
	"strconv"
	"strings"
)

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
	r.arrived++
	if p.goawaySent && s.id > p.goawayLast {
		s.reset, a.refused = true, true // never processed
		r.refusals++
		return
	}
	if p.maxActive > 0 && p.active() > int(p.maxActive) {
		w.fault("refused")
		a.refused = true
		r.refusals++
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
	s.recvEnd, s.trailers = true, slices.Clone(fields)
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
		if a.refused = r.resetCode == http2.ErrCodeRefusedStream; a.refused {
			r.refusals++
		}
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
			p.writeHeaders(s, true, "grpc-status", "14", "x-t", id+"f")
		} else {
			p.writeHeaders(s, true, ":status", "200", "content-type", "application/grpc", "x-id", id, "grpc-status", "14", "x-t", id+"f")
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
		kv := []string{":status", "200", "content-type", "application/grpc", "x-id", id}
		if p.w.opt.odd.lengths && r.mode != modeReset {
			kv = append(kv, "content-length", strconv.Itoa(r.payload()))
		}
		p.writeHeaders(s, false, kv...)
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
	if !s.recvEnd && p.w.opt.odd.leaves && p.w.rnd.IntN(2) == 0 {
		p.rst(s, http2.ErrCodeNo)
	}
	return true
}

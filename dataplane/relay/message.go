package relay

import (
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

const (
	messageHead            = 5       // the flag and the length in front of a message
	defaultMaxMessage      = 4 << 20 // Manager.MaxMessageBytes
	defaultMaxPeek         = 64 << 10
	maxRestingMessage      = 16 << 10 // a framer's buffer that is kept
	filteredRoom           = 64 << 10 // of a body that filters write to: beyond, the sender waits
	flagCompressed    byte = 1
)

var replyPeekedTwice = &call.Reply{HTTP: 500, GRPC: call.Internal, Detail: "internal_error", Message: "the director asked for the first message twice"}

var replyMessageTooLong = &call.Reply{HTTP: 413, GRPC: call.ResourceExhausted, Detail: "message_too_long", Message: "a message is longer than filters may see"}

// framer cuts one direction's payload into messages for filters.
//
//	owed = what came and was not credited
//	memory: one message, and one window while a filter waits; waiting is what
//	of it is not in raw
type framer struct {
	raw    body         // came, and is not a message yet
	msg    call.Message // in the filters' hands, if have
	flag   byte         // as it came
	have   bool
	at     int // filters have seen msg
	paused bool
	owed   int
	buf    []byte

	waiting int64 // memory of headers or of a message for which a filter will answer later
}

// busy reports that more may come out of it.
func (f *framer) busy() bool { return f.have || !f.raw.empty() }

func (f *framer) add(c *Core, p []byte) {
	f.raw.add(c, p)
	f.owed += len(p)
}

func (f *framer) free(c *Core) {
	f.raw.free(c)
	f.wait(c, 0)
	buf := f.buf
	if cap(buf) > maxRestingMessage {
		buf = nil
	}
	*f = framer{buf: buf[:0]}
}

// next takes a message. False: none is whole, or it is longer than limit.
func (f *framer) next(c *Core, limit int) (ok, tooLong bool) {
	var head [messageHead]byte
	if f.raw.peek(0, head[:]) < messageHead {
		return false, false
	}
	n := int64(binary.BigEndian.Uint32(head[1:]))
	if n > int64(limit) {
		return false, true
	}
	if f.raw.end-f.raw.pos < messageHead+n {
		return false, false
	}
	f.buf = grow(f.buf, int(n))
	f.raw.peek(messageHead, f.buf)
	f.raw.advance(c, messageHead+int(n))
	f.flag, f.have, f.at = head[0], true, 0
	f.msg = call.Message{Compressed: head[0]&flagCompressed != 0, Data: f.buf}
	return true, false
}

// wait notes that n bytes of memory wait for a filter in place of those that did.
func (f *framer) wait(c *Core, n int64) {
	c.memory += n - f.waiting
	f.waiting = n
}

// memory is what waits of one direction's payload for filters.
func (f *framer) memory() int64 { return f.raw.memory + f.waiting }

// grow returns a slice of n bytes, b's memory if that is enough.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// pass puts the message, as filters left it, into q.
func (f *framer) pass(c *Core, q *body) {
	if !f.msg.Drop {
		head := [messageHead]byte{f.flag &^ flagCompressed}
		if f.msg.Compressed {
			head[0] |= flagCompressed
		}
		binary.BigEndian.PutUint32(head[1:], uint32(len(f.msg.Data)))
		q.add(c, head[:])
		q.add(c, f.msg.Data)
	}
	f.have, f.msg = false, call.Message{}
	f.wait(c, 0)
}

// rest moves what is left into q: what never became a message, because the
// sender ended within it, and the receiver is to see that; or what waited for
// filters that see no messages. Then it is credited as q leaves.
func (f *framer) rest(c *Core, q *body, messages bool) {
	if !messages {
		f.owed = 0
	}
	for p := f.raw.next(); p != nil; p = f.raw.next() {
		q.add(c, p)
		f.raw.advance(c, len(p))
	}
}

// maxMessage is the longest message that filters see.
func (x *Exchange) maxMessage() int {
	if n := x.m.MaxMessageBytes; n > 0 {
		return n
	}
	return defaultMaxMessage
}

// show lets the filters see the messages in f, in their order or the reverse,
// and puts what they leave into q. False: one waits, or the call has ended.
func (x *Exchange) show(f *framer, q *body, request bool) bool {
	f.paused = false
	for {
		if !f.have {
			ok, tooLong := f.next(x.core, x.maxMessage())
			if tooLong {
				x.reply(replyMessageTooLong)
				return false
			}
			if !ok {
				return true
			}
		}
		for msgs := x.flt.msgs; f.at < len(msgs); f.at++ {
			hook := msgs[f.at].RequestMessage
			if !request {
				hook = msgs[len(msgs)-1-f.at].ResponseMessage
			}
			if err := x.onMessage(hook, &f.msg); err != nil {
				if f.paused = errors.Is(err, call.ErrPending); f.paused {
					f.wait(x.core, callMemory+int64(cap(f.buf)))
				} else {
					x.fail(err)
				}
				return false
			}
		}
		f.pass(x.core, q)
	}
}

// filterRequest takes the request's payload on as far as the filters let it,
// and its trailers behind it.
func (x *Exchange) filterRequest() {
	f := x.flt
	if !f.passed || x.state >= stateReplying || f.messages() && !x.show(&f.req, &x.req, true) {
		return
	}
	if x.req.done || !f.messages() {
		f.req.rest(x.core, &x.req, f.messages())
	}
	if t := x.req.trailers; t != nil && !f.trailers {
		f.trailers = true
		for _, flt := range f.tail {
			x.onTrailers(flt.RequestTrailers, t)
		}
	}
	x.creditRequest()
	x.look()
	if x.state < stateReplying {
		x.pumpRequest()
	}
}

// requestBusy reports that filters have not let go of all of the request.
func (x *Exchange) requestBusy() bool {
	f := x.flt
	return f != nil && (f.req.busy() || x.req.trailers != nil && !f.trailers)
}

// filterResponse takes the response's payload on as far as the filters let it.
func (x *Exchange) filterResponse() {
	f := x.flt
	if f.head != nil || x.state >= stateReplying || f.messages() && !x.show(&f.rsp, &x.rsp, false) {
		return
	}
	if x.rsp.done || !f.messages() {
		f.rsp.rest(x.core, &x.rsp, f.messages())
	}
	x.creditResponse()
	x.pumpResponse()
}

// responseBusy reports that filters have not let go of all of the response.
func (x *Exchange) responseBusy() bool {
	return x.flt != nil && (x.flt.head != nil || x.flt.rsp.busy())
}

// owedFor is what may be credited of payload that passes through filters: all
// that came, unless a filter waits or the receiver does not keep up with q.
func (f *framer) owedFor(q *body) int {
	if f.paused || q.end-q.pos > filteredRoom {
		return 0
	}
	n := f.owed
	f.owed = 0
	return n
}

// look shows the Director the first message, if it asked for it and that is
// there, or will not come.
func (x *Exchange) look() {
	if !x.peeking || x.state != statePaused {
		return
	}
	limit := x.m.MaxPeekBytes
	if limit <= 0 {
		limit = defaultMaxPeek
	}
	q := &x.req
	have := int(q.end - q.base)
	var head [messageHead]byte
	pk := &x.call.Peek
	if q.peek(0, head[:]) == messageHead {
		n := int64(binary.BigEndian.Uint32(head[1:]))
		have -= messageHead
		pk.Whole = n <= int64(min(have, limit))
		have = int(min(int64(have), n, int64(limit)))
	} else {
		have = 0
	}
	ended := q.done && !x.requestBusy()
	if !pk.Whole && !ended && have < limit && x.call.GRPC {
		if n := q.end - q.credited; n > 0 && x.flt.through() {
			// The message may be longer than the window.
			q.credited = q.end
			x.d.H.Credit(&x.down, int(n))
		}
		return
	}
	x.peeking = false
	pk.Done = true
	x.peeked = grow(x.peeked, have)
	q.keepExtra(x.core, have)
	q.peek(messageHead, x.peeked)
	pk.Message = call.Message{Compressed: head[0]&flagCompressed != 0, Data: x.peeked}
	x.direct()
}

// through reports that payload goes past the filters as it comes.
func (f *chain) through() bool { return f == nil || !f.messages() }

// parseStatus reads a grpc-status.
func parseStatus(v string) call.Code {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return call.Unknown
	}
	return call.Code(n)
}

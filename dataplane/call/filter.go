package call

import "github.com/sluice-proxy/sluice/dataplane/h2/hpack"

// FilterFactory is one place in the filter chain of a Manager: it makes the
// Filter of each call. Many workers call it at once.
//
// A filter without state of its own per call may be returned again and again;
// one that has some may come from a pool, to which its Done gives it back.
type FilterFactory interface {
	// NewFilter returns the filter of the call that begins, nil if it has none.
	NewFilter(c *Call) Filter
}

// Filter sees one call and may change or answer it. Its methods run on the
// call's worker, under its lock, one at a time: they must not block. c is the
// same in all of them. A panic in one costs the call, which then fails with
// INTERNAL.
//
// An error ends the call with a local reply, as a Director's does: a *Reply as
// it says, anything else as UNAVAILABLE. ErrPending stops the part of the call
// that the method is about: payload that comes meanwhile is held, within the
// flow control windows, while deadlines and cancellation go on. Whoever has
// the answer then calls c.Handle.Resume, from any goroutine, and the same
// method is called again with the same arguments. It may also be called again
// because another part of the same call was resumed, and then returns
// ErrPending once more.
//
// Requests pass the chain from its first filter to its last and then reach the
// Director; responses, local replies included, pass it from the last to the
// first. A filter whose RequestHeaders was not called, because one before it
// answered, sees nothing of the call.
type Filter interface {
	// RequestHeaders may edit c.Headers; the Director sees what it leaves.
	// end: the request has no payload and no trailers.
	RequestHeaders(c *Call, end bool) error
	// ResponseHeaders may edit h: the headers that are about to go to the
	// client, of an upstream's response or of a local reply. end: the response
	// ends with them, as a trailers-only one does. An error replaces the
	// response by a local reply; it and ErrPending are ignored when h already
	// is one.
	ResponseHeaders(c *Call, h *hpack.Block, end bool) error
	// Done is the last call, once the response has ended or the client has
	// gone. o is valid during it.
	Done(c *Call, o *Outcome)
}

// TrailerFilter is a Filter that sees trailers.
type TrailerFilter interface {
	Filter
	// RequestTrailers may edit h. gRPC requests have none.
	RequestTrailers(c *Call, h *hpack.Block)
	// ResponseTrailers may edit h, grpc-status included, before the client
	// gets it. It is not called for local replies.
	ResponseTrailers(c *Call, h *hpack.Block)
}

// MessageFilter is a Filter that sees the messages of gRPC calls, in both
// directions. Payload then no longer passes as it comes but message by
// message: each is held until it is whole, at most Manager.MaxMessageBytes
// long; a longer one ends the call with RESOURCE_EXHAUSTED.
type MessageFilter interface {
	Filter
	// RequestMessage may change m.
	RequestMessage(c *Call, m *Message) error
	// ResponseMessage may change m.
	ResponseMessage(c *Call, m *Message) error
}

// Message is a length-prefixed message (gRPC over HTTP/2).
type Message struct {
	// Compressed is the flag in front of the message; the encoding is in
	// grpc-encoding.
	Compressed bool
	// Data is the message as it travels. It belongs to the worker and is valid
	// during the method call; between two calls for one message it stays as
	// the first left it. A filter that sets another slice must not change that
	// until the method is called for the next message or Done is.
	Data []byte
	// Drop: the message goes no further.
	Drop bool
}

// Peek is what is known of the first message of a request.
type Peek struct {
	Done    bool // the Director was asked again after ErrPeek
	Whole   bool // Message is all of Data; otherwise as much as came
	Message Message
}

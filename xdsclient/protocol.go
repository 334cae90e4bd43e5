package xdsclient

import (
	"time"

	"google.golang.org/protobuf/proto"
)

// protocol is the state of one variant of the xDS protocol: state-of-the-world
// (sotw.go) or incremental. It does no I/O, reads no clock and is guarded by
// the client's mutex.
type protocol interface {
	// method is the gRPC method of the stream.
	method() string
	// newResponse returns an empty message for the next response.
	newResponse() proto.Message

	// opened starts a new stream: all that is subscribed is asked for again.
	opened(now time.Time)
	// closed ends the stream, or marks an attempt to open one as failed.
	closed()
	// subscribe replaces what is wanted of a type.
	subscribe(typeURL string, s Subscription, now time.Time)
	// received takes in a response. It returns nil if there is nothing for the
	// handler in it, and an error if it was refused.
	received(m proto.Message, now time.Time) (*Response, error)
	// answered takes in the handler's verdict on a response, of this stream or
	// of an earlier one.
	answered(r *Response, err error, now time.Time)
	// next returns the next request that is due, or nil and how long it is
	// until one will be; negative: nothing to wait for.
	next(now time.Time) (proto.Message, time.Duration)

	// status describes all types, in the order of requests.
	status() []TypeStatus
	// server is what the control plane said of itself (ControlPlane.identifier).
	server() string
}

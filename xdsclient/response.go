package xdsclient

import (
	"sync/atomic"

	"google.golang.org/protobuf/types/known/anypb"
)

// Subscription is what is wanted of a resource type.
type Subscription struct {
	// Wildcard asks for all resources that the control plane has for this
	// node: clusters and listeners of a proxy.
	Wildcard bool
	// Names are the resources asked for by name. Without Wildcard, no names
	// mean no more interest in the type.
	Names []string
}

// Response is one response of the control plane. All fields are read-only.
type Response struct {
	TypeURL string
	Version string // version_info, or system_version_info
	Nonce   string
	// Resources as they came, of the type TypeURL. Wrappers
	// (envoy.service.discovery.v3.Resource) are taken off. In
	// state-of-the-world a wildcard type has all its resources here: what is
	// missing was deleted. A type asked for by name may have only some.
	Resources []*anypb.Any
	// Removed names deleted resources (incremental xDS only).
	Removed []string

	done     func(*Response, error) // takes the first verdict; may be nil
	stream   uint64                 // on which stream it came
	seq      uint64                 // its place among all responses
	answered atomic.Bool
}

// NewResponse returns a response that did not come by a stream: from a file, or
// in the test of a Handler. done is called with the verdict.
func NewResponse(typeURL, version string, resources []*anypb.Any, done func(error)) *Response {
	return &Response{
		TypeURL:   typeURL,
		Version:   version,
		Resources: resources,
		done:      func(_ *Response, err error) { done(err) },
	}
}

// Done answers the response: an ACK if err is nil, else a NACK that tells err's
// text. Call it when the response has been taken in; a resource that still
// waits for others (warming) is taken in. Any goroutine may call it, in any
// order; it does not block, and only the first call counts. The control plane
// sends nothing more of the type, and subscription changes of the type are held
// back, until it is called.
func (r *Response) Done(err error) {
	if !r.answered.Swap(true) && r.done != nil {
		r.done(r, err)
	}
}

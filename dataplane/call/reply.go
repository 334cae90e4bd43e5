package call

import (
	"errors"
	"strconv"

	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Reply is an answer that the proxy gives itself. It is also an error, so that
// directors and backend sets can return it. Immutable once returned.
type Reply struct {
	HTTP    int    // status for requests that are not gRPC
	GRPC    Code   // grpc-status for gRPC requests
	Message string // grpc-message or body, not yet percent-encoded
	Flag    Flags  // why, in Envoy's response flag words
	Detail  string // Envoy's RESPONSE_CODE_DETAILS word, e.g. "route_not_found"
	Headers []hpack.Field
	// Body is a direct response's body. For a gRPC request it is the message.
	Body []byte

	of *Reply // what it is a case of; nil: nothing
}

// maxQuoted bounds what of a name a reply tells: it may come from the client.
const maxQuoted = 128

// Naming returns r with the name of what it is about in its message:
// `no cluster "web"`. errors.Is takes it for r.
func (r *Reply) Naming(name string) *Reply {
	out := *r
	out.Message += " " + strconv.Quote(name[:min(len(name), maxQuoted)])
	out.of = r
	return &out
}

// Is makes errors.Is take a reply with a name for the one without.
func (r *Reply) Is(target error) bool { return r.of != nil && target == error(r.of) }

func (r *Reply) Error() string {
	return r.Flag.String() + ": " + r.Message + " (grpc-status " + strconv.Itoa(int(r.GRPC)) + ")"
}

// ErrPending is returned by a Director, or a Filter, that answers later through
// the call's Handle.
var ErrPending = errors.New("call: the director answers later")

// ErrPeek is returned by a Director that wants to see the first message of a
// gRPC request before it decides. It is asked again when that message is whole,
// or the request has ended, or Manager.MaxPeekBytes of it have come: Call.Peek
// then says what there is. A Director that returns it twice fails the call with
// INTERNAL.
var ErrPeek = errors.New("call: the director waits for the first message")

// Code is a gRPC status code.
type Code uint32

// gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html).
const (
	OK Code = iota
	Canceled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

// CodeFromHTTP maps an HTTP status without grpc-status to a gRPC code
// (gRPC's http-grpc-status-mapping).
func CodeFromHTTP(status int) Code {
	switch status {
	case 400:
		return Internal
	case 401:
		return Unauthenticated
	case 403:
		return PermissionDenied
	case 404:
		return Unimplemented
	case 429, 502, 503, 504:
		return Unavailable
	}
	return Unknown
}

// Replies of the core itself and of directors. Messages follow Envoy's where
// Envoy has one, so that people recognise them.
var (
	ReplyNoRoute      = &Reply{HTTP: 404, GRPC: Unimplemented, Flag: NoRoute, Detail: "route_not_found", Message: "no route"}
	ReplyNoCluster    = &Reply{HTTP: 503, GRPC: Unavailable, Flag: NoCluster, Detail: "cluster_not_found", Message: "no cluster"}
	ReplyNoHealthy    = &Reply{HTTP: 503, GRPC: Unavailable, Flag: NoHealthyUpstream, Detail: "no_healthy_upstream", Message: "no healthy upstream"}
	ReplyOverflow     = &Reply{HTTP: 503, GRPC: Unavailable, Flag: UpstreamOverflow, Detail: "upstream_reset_before_response_started{overflow}", Message: "upstream connect error or disconnect/reset before headers. reset reason: overflow"}
	ReplyDropOverload = &Reply{HTTP: 503, GRPC: Unavailable, Flag: DropOverload, Detail: "drop_overload", Message: "drop overload"}
	// ReplyDropAll is the ReplyDropOverload of a cluster that drops every call.
	ReplyDropAll = &Reply{HTTP: 503, GRPC: Unavailable, Flag: UnconditionalDrop, Detail: "unconditional_drop_overload", Message: "unconditional drop overload", of: ReplyDropOverload}
)

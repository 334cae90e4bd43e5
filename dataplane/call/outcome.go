package call

import (
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Side is where an error came from.
type Side uint8

// Sides of an error.
const (
	SideNone Side = iota
	SideDownstream
	SideUpstream
	SideLocal
)

// Outcome is how an attempt, or a whole exchange, ended. The same value feeds
// load balancing, outlier detection, stats, access log and trace.
type Outcome struct {
	Host    Host
	Attempt int  // 0 is the first
	Code    Code // grpc-status the client got (or the attempt gave); Unknown if there was none
	HasCode bool // a grpc-status was seen or given
	HTTP    int  // :status, 0 if none
	Flags   Flags
	Side    Side
	// MaybeSeen is false if the upstream certainly has not processed the
	// request (never written, REFUSED_STREAM, above GOAWAY's last id): it may
	// be sent again whatever its method (RFC 9113 §8.7).
	MaybeSeen bool
	// Connected is false if no connection to the host could be made.
	Connected bool

	Start    clock.Nanos // attempt: headers sent upstream; exchange: headers received
	Headers  clock.Nanos // response headers seen; 0 if none
	End      clock.Nanos
	BytesIn  uint64 // request DATA payload
	BytesOut uint64 // response DATA payload
	Detail   string // RESPONSE_CODE_DETAILS

	// Response is the response's headers as they are, for header values made of
	// them; nil but while Route.ResponseOps run.
	Response *hpack.Block
}

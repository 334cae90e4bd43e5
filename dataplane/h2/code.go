package h2

import (
	"errors"
	"fmt"
)

// ErrCode is an HTTP/2 error code (RFC 9113 §7).
type ErrCode uint32

// The error codes of RFC 9113 §7.
const (
	ErrCodeNo                 ErrCode = 0x0
	ErrCodeProtocol           ErrCode = 0x1
	ErrCodeInternal           ErrCode = 0x2
	ErrCodeFlowControl        ErrCode = 0x3
	ErrCodeSettingsTimeout    ErrCode = 0x4
	ErrCodeStreamClosed       ErrCode = 0x5
	ErrCodeFrameSize          ErrCode = 0x6
	ErrCodeRefusedStream      ErrCode = 0x7
	ErrCodeCancel             ErrCode = 0x8
	ErrCodeCompression        ErrCode = 0x9
	ErrCodeConnect            ErrCode = 0xa
	ErrCodeEnhanceYourCalm    ErrCode = 0xb
	ErrCodeInadequateSecurity ErrCode = 0xc
	ErrCodeHTTP11Required     ErrCode = 0xd
)

var errCodeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
	"SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM",
	"CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
	"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String returns the name the RFC gives the code.
func (e ErrCode) String() string {
	if int(e) < len(errCodeNames) {
		return errCodeNames[e]
	}
	return fmt.Sprintf("ERR_UNKNOWN_%d", uint32(e))
}

// ConnError is why a connection ended. Its GOAWAY, if one is due, is already
// in Output when it is returned or reported.
type ConnError struct {
	Code   ErrCode
	Peer   bool   // the peer sent it (GOAWAY); otherwise it is our verdict
	Reason string // for logs; also the GOAWAY's debug data when ours
}

// Error says code, side and reason.
func (e *ConnError) Error() string {
	side := "local"
	if e.Peer {
		side = "peer"
	}
	return fmt.Sprintf("http2: connection error %v (%s): %s", e.Code, side, e.Reason)
}

// Reasons a stream's OnEnd carries in StreamError.Err.
var (
	// ErrClosed: the connection ended below HTTP/2: FIN, reset, or Close.
	ErrClosed = errors.New("http2: connection closed")
	// ErrGoAway: the peer's GOAWAY excluded the stream; it was never processed.
	ErrGoAway = errors.New("http2: stream refused by GOAWAY")
	// ErrPeerHeaderListSize: a request was not sent, because the server says
	// that it does not take header lists of this size.
	ErrPeerHeaderListSize = errors.New("http2: header list over the peer's limit")
	// ErrHeaderListSize: the peer's header block was over our limits.
	ErrHeaderListSize = errors.New("http2: header list too large")
	// ErrMalformed: the peer's message broke RFC 9113 §8.
	ErrMalformed = errors.New("http2: malformed message")
	// ErrStreamProtocol: the peer broke a stream rule of RFC 9113 §5 or §6.
	ErrStreamProtocol = errors.New("http2: stream protocol error")
)

// EndKind says whether a stream ended with both sides' END_STREAM.
type EndKind uint8

// The ways a stream ends.
const (
	EndClean EndKind = iota // END_STREAM was sent and received
	EndReset                // anything else
)

// Side is who ended a stream.
type Side uint8

// The sides of StreamError.
const (
	SideLocal Side = iota // we sent RST_STREAM: by Conn.Reset (Err nil) or because the peer broke a rule (Err set)
	SidePeer              // the peer sent RST_STREAM
	SideConn              // the connection went: GOAWAY, error, FIN, Close
)

// StreamError is how a stream ended. Its zero value is a clean end.
type StreamError struct {
	Kind EndKind
	Side Side
	Code ErrCode
	// MaybeSeen: the peer may have processed the request. False only when it
	// certainly has not (RFC 9113 §8.7): REFUSED_STREAM, an id above GOAWAY's,
	// or not a byte of the request was written. Meaningful in the client role.
	MaybeSeen bool
	Err       error // why, if there is more to say than Code; may be nil
}

package h2

import "github.com/sluice-proxy/sluice/dataplane/h2/hpack"

// Stream is the state of one stream of a Conn. It is embedded in its owner's
// object; the zero value with Owner (and Head) set is ready for OpenStream or
// to be returned by NewStream. Between that and OnEnd it must not move.
type Stream struct {
	ID    uint32 // set by the Conn
	Owner any    // the embedding object, for the Handler
	// Head, if not nil, receives the first header block (the request; the
	// final response) and stays valid until its owner resets it.
	Head *hpack.Block

	conn *Conn // nil: not open
}

// Conn returns the connection the stream is open on, nil before and after.
func (s *Stream) Conn() *Conn { return s.conn }

// Open reports whether the stream still lives: neither ended nor reset.
func (s *Stream) Open() bool { return s.conn != nil }

// RecvEnded reports whether the peer's END_STREAM came.
func (s *Stream) RecvEnded() bool { return false }

// SendEnded reports whether our END_STREAM was sent.
func (s *Stream) SendEnded() bool { return false }

// Held returns the bytes given to OnData and not yet credited.
func (s *Stream) Held() int { return 0 }

// SendWindow returns what the peer's stream window allows now; it may be negative.
func (s *Stream) SendWindow() int64 { return 0 }

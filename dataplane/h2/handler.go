package h2

import "github.com/sluice-proxy/sluice/dataplane/h2/hpack"

// Kind is what a header block is.
type Kind uint8

// The kinds of header blocks.
const (
	Request       Kind = iota // server role: the first block of a stream
	Informational             // client role: 1xx
	Response                  // client role: the final response's head
	Trailers                  // either role: the last block; end is always true
)

// Handler receives what a Conn's input means. Calls come inline, one at a
// time, under the worker's lock, and may call any method of any Conn of the
// worker except Feed, FeedEOF, Wrote, Tick, Deliver and Close of the same Conn.
type Handler interface {
	// NewStream (server role) returns storage for a stream the peer opens, or
	// nil to refuse it (REFUSED_STREAM). Its Owner and Head may be set; the
	// rest is initialized by the Conn.
	NewStream(id uint32) *Stream
	// OnHeaders brings a valid header block. b is s.Head for a request or a
	// final response when s.Head was set; otherwise it is valid during the call.
	OnHeaders(s *Stream, k Kind, b *hpack.Block, end bool)
	// OnData brings payload. p is valid during the call; len(p) is owed to
	// Credit. p is empty only if end is true.
	OnData(s *Stream, p []byte, end bool)
	// OnWritable comes once after a short WriteData, when there is room again.
	OnWritable(s *Stream)
	// OnEnd is a stream's last call and comes exactly once for each stream
	// that NewStream returned or OpenStream accepted. It never comes from
	// inside a send call. Bytes held by the stream were credited to the
	// connection. The Stream may be reused when it returns.
	OnEnd(s *Stream, e StreamError)
	// OnConn brings what concerns the whole connection.
	OnConn(ev ConnEvent)

	// Pending says that the connection wants the driver: output went from
	// empty to not empty, or an ended stream waits for Deliver. The worker
	// marks the connection dirty and, at the end of its batch, calls Deliver
	// and writes. It may come from inside any call.
	Pending()
	// Flush asks the driver to write Output now, because WriteData met
	// HiWater, and to report with Wrote. It must not call anything else of
	// this package; a write error waits for the end of the batch.
	Flush()
}

// EventKind says what a ConnEvent is.
type EventKind uint8

// The connection events.
const (
	// EventSettings: the peer's SETTINGS were applied; PeerMaxStreams may
	// have changed. The first one says that the connection is established.
	EventSettings EventKind = iota
	// EventGoAway: the peer sent GOAWAY. Streams above its last id get their
	// OnEnd right after.
	EventGoAway
	// EventStalled: held bytes used the whole connection window up for 10 s.
	// Stream is the one with the largest held bytes × time without progress:
	// end it with RESOURCE_EXHAUSTED.
	EventStalled
	// EventIdle: IdleTimeout has passed without streams; the connection begins
	// to end.
	EventIdle
	// EventAge: the instant of DrainAt came; the connection begins to end.
	EventAge
	// EventClosed: Dead is now true. Err is nil after a complete drain.
	EventClosed
)

// ConnEvent is what OnConn brings.
type ConnEvent struct {
	Kind   EventKind
	Stream *Stream
	Err    error
}

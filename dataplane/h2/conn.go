package h2

import (
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

const frameHeaderLen = 9

// Conn is one end of an HTTP/2 connection. Everything in it is owned by the
// worker.
type Conn struct {
	out Out
}

// Out is the output of a Conn: chunks in the order of writing.
type Out struct{ n int }

// Len returns the number of unsent bytes.
func (o *Out) Len() int { return o.n }

// Buffers appends the unsent bytes to dst, at most 64 pieces; valid until the
// next call of any method of the Conn.
func (o *Out) Buffers(dst [][]byte) [][]byte { return dst }

// NewConn returns an endpoint. A client's Output has the preface and SETTINGS
// at once, a server's when the client's preface has come.
func NewConn(role Role, cfg *Config, h Handler, now clock.Nanos) *Conn { return &Conn{} }

// Feed takes bytes from the peer and calls the Handler for every whole frame.
// It returns how many bytes it consumed; the driver keeps the rest (at most
// MaxPartial) and feeds it again with more. An error is a *ConnError: GOAWAY
// is in Output, every stream had its OnEnd, Dead is true.
func (c *Conn) Feed(now clock.Nanos, b []byte) (n int, err error) { return len(b), nil }

// FeedEOF says that no more bytes will come: the peer's FIN or a read error.
// Every stream ends and the Conn is dead.
func (c *Conn) FeedEOF(now clock.Nanos) {}

// Output returns what is to be written.
func (c *Conn) Output() *Out { return &c.out }

// Wrote says that the driver's write took n bytes of Output, possibly none. It
// wakes streams that waited for room, unless it is called from Handler.Flush.
func (c *Conn) Wrote(now clock.Nanos, n int) {}

// Deliver calls OnEnd for streams that ended in send calls since the last
// event of this Conn.
func (c *Conn) Deliver(now clock.Nanos) {}

// Tick runs what is due and returns NextTick.
func (c *Conn) Tick(now clock.Nanos) (next clock.Nanos) { return 0 }

// NextTick returns when Tick is due, 0 for never. Ticking early is harmless.
func (c *Conn) NextTick() clock.Nanos { return 0 }

// TickChanged reports whether NextTick became earlier since the last call of
// NextTick or Tick: a worker's reason to move its timer.
func (c *Conn) TickChanged() bool { return false }

// OpenStream (client role) opens s with the next id. False: CanOpen is false.
// Nothing is sent before WriteHeaders, which must follow before any other
// stream is opened.
func (c *Conn) OpenStream(s *Stream) bool { return false }

// WriteHeaders sends a header block. end also sends END_STREAM. On a stream
// that is gone it does nothing. DATA queued by the caller must go first: order
// is the order of calls.
func (c *Conn) WriteHeaders(s *Stream, f []hpack.Field, end bool) {}

// WriteData sends as much of p as the stream's and the connection's windows,
// and the room below HiWater, allow, and returns how much that was. end is sent
// only with the last byte. After a short write OnWritable follows. A stream
// that is gone takes everything.
func (c *Conn) WriteData(s *Stream, p []byte, end bool) (n int) { return len(p) }

// Reset sends RST_STREAM and closes the stream; its OnEnd has SideLocal. On a
// stream that is gone it does nothing.
func (c *Conn) Reset(s *Stream, code ErrCode) {}

// Credit says that n bytes given to OnData have left: they were appended to
// another Conn's output, or dropped. Windows are updated as they need.
func (c *Conn) Credit(s *Stream, n int) {}

// The phases of Shutdown.
const (
	ShutdownGraceful = 1 // server: GOAWAY(2^31-1), a PING, then the real last id by itself
	ShutdownNow      = 2 // GOAWAY with the last processed id at once
)

// Shutdown begins to end the connection: no new streams, dead when the last
// one is gone. A client's GOAWAY has last id 0 in either phase.
func (c *Conn) Shutdown(phase int, code ErrCode) {}

// Close abandons the connection: every stream gets its OnEnd before it
// returns, Output is emptied. Idempotent.
func (c *Conn) Close() {}

// DrainAt makes the connection begin ShutdownGraceful at an instant (maximum
// age with the caller's jitter); 0 cancels.
func (c *Conn) DrainAt(at clock.Nanos) {}

// Ping sends a PING; EventPingAck follows. False if one is under way.
func (c *Conn) Ping() bool { return false }

// Linger says that n more (or fewer) attempts of streams the peer has reset
// are still running elsewhere; they count to MaxConcurrentStreams.
func (c *Conn) Linger(n int) {}

// Streams returns the number of open streams.
func (c *Conn) Streams() int { return 0 }

// CanOpen reports whether OpenStream would succeed: alive, no GOAWAY either
// way, below PeerMaxStreams and MaxConcurrentStreams, ids left, FreeWindow at
// least a quarter of ConnWindow, and output not piling up.
func (c *Conn) CanOpen() bool { return false }

// FreeWindow returns the part of the connection's receive window that held
// bytes do not block.
func (c *Conn) FreeWindow() int64 { return 0 }

// HeldBytes returns the bytes given to OnData and not yet credited, of all
// streams.
func (c *Conn) HeldBytes() int64 { return 0 }

// Victim returns the stream with the largest held bytes × time without
// progress (at least 5 s), or nil: what to end when memory is over budget.
func (c *Conn) Victim(now clock.Nanos) *Stream { return nil }

// PeerMaxStreams returns the peer's SETTINGS_MAX_CONCURRENT_STREAMS, 100 until
// its SETTINGS came.
func (c *Conn) PeerMaxStreams() uint32 { return 0 }

// Established reports whether the peer's first SETTINGS came.
func (c *Conn) Established() bool { return false }

// GoingAway reports whether a GOAWAY was sent or received.
func (c *Conn) GoingAway() bool { return false }

// Dead reports that the connection is over: Feed takes no more; what is left of
// Output is to be written once, then the socket closed.
func (c *Conn) Dead() bool { return false }

// Err returns why the connection is dead; nil while alive or after a drain.
func (c *Conn) Err() error { return nil }

// StopReading reports that the peer makes us queue control frames and does not
// read them: the driver should not read until output was written.
func (c *Conn) StopReading() bool { return false }

// LastPeerActivity returns when bytes last came.
func (c *Conn) LastPeerActivity() clock.Nanos { return 0 }

// Each calls f for every open stream in id order. f must not end streams other
// than its own.
func (c *Conn) Each(f func(s *Stream)) {}

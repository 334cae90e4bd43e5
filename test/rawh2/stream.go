package rawh2

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"
)

// Stream is one end of a stream. Safe for concurrent use.
type Stream struct {
	ID uint32
	c  *Conn

	// Guarded by c.mu.

	log              []Entry
	bytes            int // of DATA that came
	sendWin          int64
	updates          int // WINDOW_UPDATEs that came
	endIn, endOut    bool
	resetIn          bool
	resetOut         bool
	headers, informs int // header blocks that came; of them 1xx
}

// Open (client) opens the next stream with a header block.
func (c *Conn) Open(end bool, fields []Field) *Stream {
	c.mu.Lock()
	s := &Stream{ID: c.nextID, c: c, sendWin: c.peerInit, endOut: end}
	c.nextID += 2
	c.streams[s.ID] = s
	c.mu.Unlock()
	c.headers(s.ID, end, fields)
	return s
}

// Accept (server) waits for the next stream that the client opened.
func (c *Conn) Accept() (s *Stream, err error) {
	err = c.wait("a stream", func() bool {
		if len(c.accepted) == 0 {
			return false
		}
		s = c.accepted[0]
		c.accepted = c.accepted[1:]
		return true
	})
	return s, err
}

// Conn returns the connection of s.
func (s *Stream) Conn() *Conn { return s.c }

// Headers sends a header block: a response, informational or not, or trailers.
func (s *Stream) Headers(end bool, fields []Field) {
	s.sent(end)
	s.c.headers(s.ID, end, fields)
}

// Data sends one DATA frame, whatever the windows say. p is at most 16 KiB.
func (s *Stream) Data(end bool, p []byte) {
	s.c.mu.Lock()
	s.sendWin -= int64(len(p))
	s.c.sendWin -= int64(len(p))
	s.c.mu.Unlock()
	s.sent(end)
	s.c.write(func(fw *http2.Framer) error { return fw.WriteData(s.ID, end, p) })
}

// Padded sends one DATA frame with n bytes of padding.
func (s *Stream) Padded(end bool, p []byte, n int) {
	s.c.mu.Lock()
	s.sendWin -= int64(len(p) + n + 1)
	s.c.sendWin -= int64(len(p) + n + 1)
	s.c.mu.Unlock()
	s.sent(end)
	s.c.write(func(fw *http2.Framer) error { return fw.WriteDataPadded(s.ID, end, p, make([]byte, n)) })
}

// Send sends p in DATA frames as the windows allow, waiting for them.
func (s *Stream) Send(end bool, p []byte) error {
	if len(p) == 0 && end {
		s.Data(true, nil)
	}
	for len(p) > 0 {
		n := 0
		err := s.c.wait(fmt.Sprintf("window on stream %d", s.ID), func() bool {
			n = int(min(s.sendWin, s.c.sendWin, frameSize, int64(len(p))))
			return n > 0 || s.resetIn
		})
		if err != nil {
			return err
		}
		if n <= 0 {
			return fmt.Errorf("stream %d was reset with %d bytes to send", s.ID, len(p))
		}
		s.Data(end && n == len(p), p[:n])
		p = p[n:]
	}
	return nil
}

// Window is what the peer lets us send on the stream.
func (s *Stream) Window() int64 {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.sendWin
}

// Reset sends RST_STREAM.
func (s *Stream) Reset(code http2.ErrCode) {
	s.c.mu.Lock()
	s.resetOut = true
	s.c.mu.Unlock()
	s.c.write(func(fw *http2.Framer) error { return fw.WriteRSTStream(s.ID, code) })
}

// Credit lets the peer send n bytes more on the stream.
func (s *Stream) Credit(n uint32) {
	s.c.write(func(fw *http2.Framer) error { return fw.WriteWindowUpdate(s.ID, n) })
}

func (s *Stream) sent(end bool) {
	if end {
		s.c.mu.Lock()
		s.endOut = true
		s.c.mu.Unlock()
	}
}

// Wait methods return an error if what they wait for does not come.

// WaitHeaders waits for n header blocks, 1xx and trailers included.
func (s *Stream) WaitHeaders(n int) error {
	return s.wait(fmt.Sprintf("%d header blocks", n), func() bool { return s.headers >= n })
}

// WaitData waits until n bytes of DATA have come.
func (s *Stream) WaitData(n int) error {
	return s.wait(fmt.Sprintf("%d bytes", n), func() bool { return s.bytes >= n })
}

// WaitEnd waits for END_STREAM.
func (s *Stream) WaitEnd() error { return s.wait("END_STREAM", func() bool { return s.endIn }) }

// WaitReset waits for RST_STREAM.
func (s *Stream) WaitReset() error { return s.wait("RST_STREAM", func() bool { return s.resetIn }) }

// WaitOver waits for END_STREAM or RST_STREAM.
func (s *Stream) WaitOver() error {
	return s.wait("the stream's end", func() bool { return s.endIn || s.resetIn })
}

func (s *Stream) wait(what string, ok func() bool) error {
	if err := s.c.wait(what, ok); err != nil {
		return fmt.Errorf("stream %d: %w; it got %q", s.ID, err, s.Text())
	}
	return nil
}

// Bytes is how much DATA has come.
func (s *Stream) Bytes() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.bytes
}

// Log returns what has come, in order.
func (s *Stream) Log() []Entry {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return append([]Entry(nil), s.log...)
}

// add appends to the log. Consecutive DATA becomes one entry: where frames
// begin is nobody's business.
func (s *Stream) add(e Entry) {
	e.At = time.Now()
	switch e.Kind {
	case Headers:
		s.headers++
		if v := e.Get(":status"); len(v) == 3 && v[0] == '1' {
			s.informs++
		}
	case Data:
		s.bytes += e.N
		s.endIn = s.endIn || e.End
		if n := len(s.log); n > 0 && s.log[n-1].Kind == Data && !s.log[n-1].End {
			s.log[n-1].merge(e)
			return
		}
	case Reset:
		s.resetIn = true
	}
	s.endIn = s.endIn || e.End
	s.log = append(s.log, e)
}

package rawh2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Options say what a Conn announces and does by itself. The zero value is a
// cooperative peer.
type Options struct {
	// Settings go out in the first SETTINGS frame.
	Settings []http2.Setting
	// HoldStreams: no WINDOW_UPDATE for streams, only Stream.Credit gives one.
	HoldStreams bool
	// HoldConn: none for the connection either.
	HoldConn bool
	// NoSettingsAck and NoPingAck leave the peer's frames unanswered.
	NoSettingsAck, NoPingAck bool
	// NoRead: nothing is read from the socket until Conn.Read is called.
	NoRead bool
	// Patience bounds every wait and blocked write; 0: 20 s.
	Patience time.Duration
}

// connWindow is what a Conn announces for its connection at once, so that only
// stream windows limit what comes.
const connWindow = 1 << 30

// GoAway is a GOAWAY frame that came.
type GoAway struct {
	LastID uint32
	Code   http2.ErrCode
	Debug  string
}

// Conn is one end of an HTTP/2 connection. Safe for concurrent use.
type Conn struct {
	// Set at creation.

	nc     net.Conn
	opt    Options
	client bool
	done   chan struct{} // closed when the reader has ended
	read   chan struct{} // closed when reading may begin
	once   sync.Once     // for read

	wmu  sync.Mutex // guards what writes
	wbuf bytes.Buffer
	fw   *http2.Framer
	henc *hpack.Encoder
	hbuf bytes.Buffer

	mu       sync.Mutex // guards all below
	changed  chan struct{}
	err      error // why reading ended; io.EOF for a FIN
	streams  map[uint32]*Stream
	accepted []*Stream // opened by the peer, not yet taken
	nextID   uint32
	sendWin  int64
	peerInit int64 // the peer's INITIAL_WINDOW_SIZE
	settings map[http2.SettingID]uint32
	sets     int // SETTINGS frames that came, ACKs not
	acks     int // SETTINGS ACKs
	pongs    int // PING ACKs
	pings    int
	goAways  []GoAway
}

// Dial connects a client. Preface and SETTINGS are sent.
func Dial(addr string, o Options) (*Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if tc, ok := nc.(*net.TCPConn); ok && o.NoRead {
		_ = tc.SetReadBuffer(4 << 10) // what nobody reads should not get far
	}
	return newConn(nc, true, o), nil
}

func newConn(nc net.Conn, client bool, o Options) *Conn {
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	c := &Conn{
		nc: nc, opt: o, client: client, done: make(chan struct{}), read: make(chan struct{}),
		changed: make(chan struct{}), streams: map[uint32]*Stream{}, nextID: 1,
		sendWin: 65535, peerInit: 65535, settings: map[http2.SettingID]uint32{},
	}
	c.fw = http2.NewFramer(&c.wbuf, nil)
	c.fw.AllowIllegalWrites = true
	c.henc = hpack.NewEncoder(&c.hbuf)
	if client {
		c.wbuf.WriteString(http2.ClientPreface)
	}
	c.write(func(fw *http2.Framer) error {
		if err := fw.WriteSettings(o.Settings...); err != nil {
			return err
		}
		return fw.WriteWindowUpdate(0, connWindow-65535)
	})
	if !o.NoRead {
		c.Read()
	}
	go c.reader()
	return c
}

// Read starts reading for a Conn made with NoRead.
func (c *Conn) Read() { c.once.Do(func() { close(c.read) }) }

// Close closes the socket and waits for the reader.
func (c *Conn) Close() {
	_ = c.nc.Close()
	c.Read()
	<-c.done
}

// Abort closes the socket with a TCP reset.
func (c *Conn) Abort() {
	if tc, ok := c.nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	c.Close()
}

// write runs f on the framer and sends what it made. A failed write shows as
// the end of the connection in every wait.
func (c *Conn) write(f func(fw *http2.Framer) error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	err := f(c.fw)
	if err == nil {
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.opt.Patience))
		_, err = c.nc.Write(c.wbuf.Bytes())
	}
	c.wbuf.Reset()
	if err != nil {
		c.mu.Lock()
		if c.err == nil {
			c.err = fmt.Errorf("write: %w", err)
		}
		c.signalLocked()
		c.mu.Unlock()
	}
}

func (c *Conn) signalLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Settings sends a SETTINGS frame.
func (c *Conn) Settings(s ...http2.Setting) {
	c.write(func(fw *http2.Framer) error { return fw.WriteSettings(s...) })
}

// Ping sends a PING.
func (c *Conn) Ping(data [8]byte) {
	c.write(func(fw *http2.Framer) error { return fw.WritePing(false, data) })
}

// SendGoAway sends a GOAWAY.
func (c *Conn) SendGoAway(last uint32, code http2.ErrCode) {
	c.write(func(fw *http2.Framer) error { return fw.WriteGoAway(last, code, nil) })
}

// Frame sends a frame of any type as it is.
func (c *Conn) Frame(t http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	c.write(func(fw *http2.Framer) error { return fw.WriteRawFrame(t, flags, id, payload) })
}

// EncoderTable sets the size of the header compression table used for
// sending; 0 sends every field as a literal.
func (c *Conn) EncoderTable(n uint32) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.henc.SetMaxDynamicTableSize(n)
}

// frameSize is the most payload we send in one frame.
const frameSize = 16 << 10

// headers encodes and sends a header block on a stream.
func (c *Conn) headers(id uint32, end bool, fields []Field) {
	c.write(func(fw *http2.Framer) error {
		c.hbuf.Reset()
		for _, f := range fields {
			if err := c.henc.WriteField(f); err != nil {
				return err
			}
		}
		b := c.hbuf.Bytes()
		n := min(len(b), frameSize)
		if err := fw.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:n], EndStream: end, EndHeaders: n == len(b)}); err != nil {
			return err
		}
		for b = b[n:]; len(b) > 0; b = b[n:] {
			n = min(len(b), frameSize)
			if err := fw.WriteContinuation(id, n == len(b), b[:n]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Wait waits until ok, which runs under the Conn's lock and is asked again
// after every event. It fails when patience or the connection ends.
func (c *Conn) wait(what string, ok func() bool) error {
	t := time.NewTimer(c.opt.Patience)
	defer t.Stop()
	for {
		c.mu.Lock()
		good, err, changed := ok(), c.err, c.changed
		c.mu.Unlock()
		if good {
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for %s: the connection ended: %w", what, err)
		}
		select {
		case <-changed:
		case <-t.C:
			return fmt.Errorf("waiting for %s: not within %v", what, c.opt.Patience)
		}
	}
}

// WaitClosed waits for the peer's FIN or reset.
func (c *Conn) WaitClosed() error {
	select {
	case <-c.done:
		return nil
	case <-time.After(c.opt.Patience):
		return errors.New("the connection is not closed")
	}
}

// WaitSettings waits for the peer's first SETTINGS.
func (c *Conn) WaitSettings() error {
	return c.wait("SETTINGS", func() bool { return c.sets > 0 })
}

// WaitAck waits for the ACK of the nth SETTINGS frame sent.
func (c *Conn) WaitAck(n int) error {
	return c.wait("a SETTINGS ACK", func() bool { return c.acks >= n })
}

// Sync sends a PING and waits for its ACK: the peer has read all that was sent
// before. It needs a peer that answers.
func (c *Conn) Sync() error {
	c.mu.Lock()
	n := c.pongs
	c.mu.Unlock()
	c.Ping([8]byte{'s', 'y', 'n', 'c'})
	return c.wait("a PING ACK", func() bool { return c.pongs > n })
}

// WaitGoAway waits until n GOAWAY frames have come and returns all.
func (c *Conn) WaitGoAway(n int) ([]GoAway, error) {
	err := c.wait("GOAWAY", func() bool { return len(c.goAways) >= n })
	return c.GoAways(), err
}

// GoAways returns the GOAWAY frames that have come.
func (c *Conn) GoAways() []GoAway {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]GoAway(nil), c.goAways...)
}

// Err is why the connection ended, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// PeerSetting returns the last value of one of the peer's settings.
func (c *Conn) PeerSetting(id http2.SettingID) (v uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok = c.settings[id]
	return v, ok
}

// OpenStreams counts the streams that have ended in neither direction nor were
// reset.
func (c *Conn) OpenStreams() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams {
		if !s.resetIn && !s.resetOut && !(s.endIn && s.endOut) {
			n++
		}
	}
	return n
}

// reader reads frames until the connection ends.
func (c *Conn) reader() {
	defer close(c.done)
	<-c.read
	err := c.readAll()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || errors.Is(err, io.EOF) {
		c.err = err
	}
	for _, s := range c.streams {
		if !s.endIn && !s.resetIn {
			s.add(Entry{Kind: Lost})
		}
	}
	c.signalLocked()
}

package rawh2

import (
	"bufio"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block is a header block that is being read.
type block struct {
	id   uint32
	end  bool
	data []byte
}

// readAll reads until an error.
func (c *Conn) readAll() error {
	r := bufio.NewReaderSize(c.nc, 64<<10)
	if !c.client {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(r, preface); err != nil {
			return err
		}
		if string(preface) != http2.ClientPreface {
			return fmt.Errorf("not a client preface: %q", preface)
		}
	}
	fr := http2.NewFramer(nil, r)
	fr.AllowIllegalReads = true
	fr.SetMaxReadFrameSize(1<<24 - 1)
	hdec := hpack.NewDecoder(4096, nil)
	for _, s := range c.opt.Settings {
		if s.ID == http2.SettingHeaderTableSize {
			hdec.SetAllowedMaxDynamicTableSize(s.Val)
		}
	}
	var b block
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			b = block{f.StreamID, f.StreamEnded(), append([]byte(nil), f.HeaderBlockFragment()...)}
			if f.HeadersEnded() {
				err = c.gotBlock(hdec, b)
			}
		case *http2.ContinuationFrame:
			b.data = append(b.data, f.HeaderBlockFragment()...)
			if f.HeadersEnded() {
				err = c.gotBlock(hdec, b)
			}
		default:
			c.got(f)
		}
		if err != nil {
			return err
		}
	}
}

// stream returns the stream of an id; a client's new one is made.
func (c *Conn) streamLocked(id uint32) *Stream {
	s := c.streams[id]
	if s == nil && !c.client {
		s = &Stream{ID: id, c: c, sendWin: c.peerInit}
		c.streams[id] = s
		c.accepted = append(c.accepted, s)
	}
	return s
}

func (c *Conn) gotBlock(hdec *hpack.Decoder, b block) error {
	fields, err := hdec.DecodeFull(b.data)
	if err != nil {
		return fmt.Errorf("stream %d: %w", b.id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streamLocked(b.id); s != nil {
		s.add(Entry{Kind: Headers, Fields: fields, End: b.end})
	}
	c.signalLocked()
	return nil
}

// got handles every frame but header blocks.
func (c *Conn) got(f http2.Frame) {
	c.mu.Lock()
	var answer func(fw *http2.Framer) error
	switch f := f.(type) {
	case *http2.DataFrame:
		if s := c.streams[f.StreamID]; s != nil {
			s.add(dataEntry(f.Data(), f.StreamEnded()))
		}
		answer = c.credit(f)
	case *http2.RSTStreamFrame:
		if s := c.streams[f.StreamID]; s != nil {
			s.add(Entry{Kind: Reset, Code: f.ErrCode})
		}
	case *http2.SettingsFrame:
		answer = c.gotSettings(f)
	case *http2.PingFrame:
		if f.IsAck() {
			c.pongs++
		} else if c.pings++; !c.opt.NoPingAck {
			data := f.Data
			answer = func(fw *http2.Framer) error { return fw.WritePing(true, data) }
		}
	case *http2.GoAwayFrame:
		c.goAways = append(c.goAways, GoAway{f.LastStreamID, f.ErrCode, string(f.DebugData())})
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.sendWin += int64(f.Increment)
		} else if s := c.streams[f.StreamID]; s != nil {
			s.sendWin += int64(f.Increment)
			s.updates++
		}
	}
	c.signalLocked()
	c.mu.Unlock()
	if answer != nil {
		c.write(answer)
	}
}

// credit returns the WINDOW_UPDATEs for a DATA frame.
func (c *Conn) credit(f *http2.DataFrame) func(fw *http2.Framer) error {
	n, id, end := f.Length, f.StreamID, f.StreamEnded()
	if n == 0 || c.opt.HoldStreams && c.opt.HoldConn {
		return nil
	}
	return func(fw *http2.Framer) error {
		if !c.opt.HoldStreams && !end {
			if err := fw.WriteWindowUpdate(id, n); err != nil {
				return err
			}
		}
		if c.opt.HoldConn {
			return nil
		}
		return fw.WriteWindowUpdate(0, n)
	}
}

func (c *Conn) gotSettings(f *http2.SettingsFrame) func(fw *http2.Framer) error {
	if f.IsAck() {
		c.acks++
		return nil
	}
	c.sets++
	_ = f.ForeachSetting(func(s http2.Setting) error {
		c.settings[s.ID] = s.Val
		if s.ID == http2.SettingInitialWindowSize {
			for _, st := range c.streams {
				st.sendWin += int64(s.Val) - c.peerInit
			}
			c.peerInit = int64(s.Val)
		}
		return nil
	})
	if c.opt.NoSettingsAck {
		return nil
	}
	return func(fw *http2.Framer) error { return fw.WriteSettingsAck() }
}

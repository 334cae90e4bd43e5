package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/test/echo"
)

// rawClient is a bare HTTP/2 client that counts every stream it opens and
// retries nothing: what grpc-go might hide it shows.
type rawClient struct {
	addr     string
	inFlight int

	mu       sync.Mutex // guards all below
	opened   int
	ok       int
	failures []string
	goAways  int
	revs     map[string]time.Time // x-rev -> first seen
}

// run keeps inFlight calls going until stop is closed, reconnecting after a
// GOAWAY. It returns when every stream has ended.
func (c *rawClient) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := c.connection(stop); err != nil {
			c.fail("connection: " + err.Error())
			return
		}
	}
}

func (c *rawClient) fail(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, why)
}

// rawStream is what has come back on one stream.
type rawStream struct {
	status, rev string
	data        int
}

// connection makes calls on one connection until stop is closed, the server
// says GOAWAY, or something breaks.
func (c *rawClient) connection(stop <-chan struct{}) error {
	nc, err := net.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	var wbuf bytes.Buffer
	fr := http2.NewFramer(&wbuf, nc)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	flush := func() error {
		_, err := nc.Write(wbuf.Bytes())
		wbuf.Reset()
		return err
	}
	var hbuf bytes.Buffer
	henc := hpack.NewEncoder(&hbuf)
	body, err := proto.Marshal(&echo.SayRequest{Text: "raw"})
	if err != nil {
		return err
	}
	msg := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	wbuf.WriteString(http2.ClientPreface)
	if err := fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}); err != nil {
		return err
	}

	streams := map[uint32]*rawStream{}
	next, draining := uint32(1), false
	open := func() error {
		hbuf.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", echo.Echo_Say_FullMethodName}, {":authority", "raw"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
			if err := henc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				return err
			}
		}
		if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: next, BlockFragment: hbuf.Bytes(), EndHeaders: true}); err != nil {
			return err
		}
		if err := fr.WriteData(next, true, msg); err != nil {
			return err
		}
		streams[next] = &rawStream{}
		next += 2
		c.mu.Lock()
		c.opened++
		c.mu.Unlock()
		return nil
	}
	for range c.inFlight {
		if err := open(); err != nil {
			return err
		}
	}
	end := func(id uint32, s *rawStream) error {
		delete(streams, id)
		c.mu.Lock()
		if s.status == "0" && s.data > 0 {
			c.ok++
		} else {
			c.failures = append(c.failures, fmt.Sprintf("stream %d ended with grpc-status %q after %d bytes", id, s.status, s.data))
		}
		if _, seen := c.revs[s.rev]; !seen {
			c.revs[s.rev] = time.Now()
		}
		c.mu.Unlock()
		select {
		case <-stop:
			draining = true
		default:
		}
		if draining || next > 1<<30 {
			return nil
		}
		return open()
	}
	for {
		if err := flush(); err != nil {
			return fmt.Errorf("%d streams open: %w", len(streams), err)
		}
		if len(streams) == 0 {
			return nil
		}
		if err := nc.SetReadDeadline(time.Now().Add(longest)); err != nil {
			return err
		}
		f, err := fr.ReadFrame()
		if err != nil {
			return fmt.Errorf("%d streams open: %w", len(streams), err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			s := streams[f.StreamID]
			if s == nil {
				return fmt.Errorf("HEADERS on stream %d, which is not open", f.StreamID)
			}
			for _, h := range f.Fields {
				switch h.Name {
				case "grpc-status":
					s.status = h.Value
				case "x-rev":
					s.rev = h.Value
				}
			}
			if f.StreamEnded() {
				if err := end(f.StreamID, s); err != nil {
					return err
				}
			}
		case *http2.DataFrame:
			s := streams[f.StreamID]
			if s == nil {
				return fmt.Errorf("DATA on stream %d, which is not open", f.StreamID)
			}
			s.data += len(f.Data())
			if n := f.Length; n > 0 {
				if err := fr.WriteWindowUpdate(0, n); err != nil {
					return err
				}
			}
			if f.StreamEnded() {
				if err := end(f.StreamID, s); err != nil {
					return err
				}
			}
		case *http2.RSTStreamFrame:
			if s := streams[f.StreamID]; s != nil {
				s.status = "reset " + f.ErrCode.String()
				if err := end(f.StreamID, s); err != nil {
					return err
				}
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				if err := fr.WriteSettingsAck(); err != nil {
					return err
				}
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				if err := fr.WritePing(true, f.Data); err != nil {
					return err
				}
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return errors.New("GOAWAY " + f.ErrCode.String())
			}
			draining = true
			c.mu.Lock()
			c.goAways++
			c.mu.Unlock()
			for id, s := range streams {
				if id > f.LastStreamID {
					s.status = "refused by GOAWAY"
					if err := end(id, s); err != nil {
						return err
					}
				}
			}
		}
	}
}

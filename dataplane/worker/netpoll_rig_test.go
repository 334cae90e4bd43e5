//go:build unix

package worker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	ours "github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/internal/leaktest"
	"github.com/sluice-proxy/sluice/internal/tlstest"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience bounds what a test waits for on a loaded machine.
const patience = 30 * time.Second

// rig is a group on real sockets with one upstream: n bytes at /n, and at
// /held/n when release is closed.
type rig struct {
	t     *testing.T
	g     *Group
	chain *Chain
	ln    net.Listener
	up    net.Listener
	srv   *http.Server // of up
	wg    sync.WaitGroup
	acc   sync.WaitGroup // of ln, and the handshakes
	over  bool           // shutdown was called

	asked   chan string   // the path of each request that the upstream holds
	release chan struct{} // of the held answers

	cert *tls.Config // for both sides; nil: plaintext
	hs   *Handshakes
	ctx  context.Context // of the handshakes
	stop context.CancelFunc
}

// plainAndTLS runs a test over plaintext and over TLS on both sides.
func plainAndTLS(t *testing.T, f func(t *testing.T, secure bool)) {
	t.Run("plaintext", func(t *testing.T) { f(t, false) })
	t.Run("TLS", func(t *testing.T) { f(t, true) })
}

// newRig starts everything; the test's end stops it and fails if something
// stays.
func newRig(t *testing.T, workers int, secure bool) *rig {
	t.Helper()
	return newRigOn(t, workers, secure, NewNetpoll)
}

// newRigOn is newRig with another driver: a spy.
func newRigOn(t *testing.T, workers int, secure bool, driver func(*Worker) Driver) *rig {
	t.Helper()
	r := &rig{t: t, asked: make(chan string, 100), release: make(chan struct{})}
	r.ctx, r.stop = context.WithCancel(context.Background())
	opt := &call.UpstreamOptions{}
	r.up = listen(t)
	r.srv = &http.Server{Handler: http.HandlerFunc(r.upstream), Protocols: new(http.Protocols)}
	if secure {
		r.cert = testTLS(t)
		opt.TLS = trusting{}
		r.srv.TLSConfig = r.cert.Clone()
		r.srv.Protocols.SetHTTP2(true)
		r.wg.Go(func() { _ = r.srv.ServeTLS(r.up, "", "") }) // until it is closed
	} else {
		r.srv.Protocols.SetUnencryptedHTTP2(true)
		r.wg.Go(func() { _ = r.srv.Serve(r.up) }) // until it is closed
	}
	r.g = NewGroup(Options{N: workers, NewDriver: driver})
	r.hs = NewHandshakes(r.g)
	host := &fixedHost{target: call.Target{Network: "tcp", Address: r.up.Addr().String(), Options: opt}}
	r.chain = NewChain(&call.Manager{Director: fixed{host: host}})
	r.ln = listen(t)
	r.acc.Go(func() {
		for id := uint64(1); ; id++ {
			c, err := r.ln.Accept()
			if err != nil {
				return
			}
			if !secure {
				r.g.Serve(r.chain, &call.Conn{ID: id}, c)
				continue
			}
			r.acc.Go(func() {
				if tc, err := r.hs.Serve(r.ctx, c, r.cert, nil); err == nil {
					r.g.ServeTLS(r.chain, &call.Conn{ID: id}, tc)
				}
			})
		}
	})
	t.Cleanup(r.end)
	return r
}

// testTLS makes a server's config.
func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	p := tlstest.CA(t, "ca").Leaf(t, "test", tlstest.DNS("test"))
	cert, err := tls.X509KeyPair(p.Chain, p.PEM)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true}
}

// trusting is a client context that verifies nothing.
type trusting struct{}

func (trusting) Config(string) (*tls.Config, error) {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true}, nil
}

// shutdown stops accepting and shuts the group down, once.
func (r *rig) shutdown(ctx context.Context) {
	if r.over {
		return
	}
	r.over = true
	_ = r.ln.Close()
	r.stop()
	r.acc.Wait()
	_ = r.g.Shutdown(ctx)
}

// end ends everything and looks for what is left.
func (r *rig) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.shutdown(ctx)
	for i, w := range r.g.workers {
		if n := w.load.Load(); n != 0 {
			r.t.Errorf("worker %d has a load of %d after Shutdown", i, n)
		}
	}
	_ = r.srv.Close()
	r.wg.Wait()
	if err := leaktest.Find(); err != nil {
		r.t.Error(err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// upstream answers /n with n bytes of pattern.
func (r *rig) upstream(w http.ResponseWriter, req *http.Request) {
	size, held := strings.CutPrefix(req.URL.Path[1:], "held/")
	if held {
		r.asked <- req.URL.Path
		select {
		case <-r.release:
		case <-req.Context().Done():
		}
	}
	n, err := strconv.Atoi(size)
	if err != nil {
		http.Error(w, "no", http.StatusNotFound)
		return
	}
	_, _ = w.Write(pattern(n))
}

// pattern is n bytes that say where they belong.
func pattern(n int) []byte {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		b = append(b, byte(i>>16), byte(i>>8), byte(i), '.')
	}
	return b[:n]
}

// fixed is a Director and BackendSet of one host.
type fixed struct {
	host    *fixedHost
	timeout time.Duration
}

func (f fixed) Direct(*call.Call) (call.Decision, error) {
	return call.Decision{Backends: f, Route: &call.Route{Timeout: f.timeout}}, nil
}

func (f fixed) Pick(*call.Call, int) (call.Host, error) { return f.host, nil }
func (f fixed) Done(call.Host, *call.Outcome)           {}

type fixedHost struct{ target call.Target }

func (h *fixedHost) Target() *call.Target { return &h.target }
func (h *fixedHost) Retired() bool        { return false }

// client is an HTTP/2 client that says frame by frame what it does.
type client struct {
	t *testing.T
	net.Conn
	tcp *net.TCPConn // below it
	fr  *http2.Framer
	buf bytes.Buffer // frames not sent yet
	enc *hpack.Encoder
	hb  bytes.Buffer
}

const clientWindow = 1 << 24

// dial connects and sends preface, SETTINGS, and the ACK of the proxy's, which
// are the first that it does.
func (r *rig) dial() *client {
	r.t.Helper()
	c := r.connect()
	c.buf.WriteString(http2.ClientPreface)
	_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: clientWindow})
	_ = c.fr.WriteSettingsAck()
	_ = c.fr.WriteWindowUpdate(0, clientWindow)
	c.send()
	return c
}

func (r *rig) connect() *client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.ln.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	c := &client{t: r.t, tcp: nc.(*net.TCPConn)}
	if r.cert != nil {
		cfg, _ := trusting{}.Config("")
		nc = tls.Client(nc, cfg)
	}
	c.Conn = nc
	c.fr = http2.NewFramer(&c.buf, nc)
	c.enc = hpack.NewEncoder(&c.hb)
	return c
}

// halfClose says that the client sends no more.
func (c *client) halfClose() error {
	if tc, ok := c.Conn.(*tls.Conn); ok {
		if err := tc.CloseWrite(); err != nil { // close_notify
			return err
		}
	}
	return c.tcp.CloseWrite()
}

// send writes what the framer has, in one write.
func (c *client) send() {
	c.t.Helper()
	if _, err := c.Write(c.buf.Bytes()); err != nil {
		c.t.Fatal(err)
	}
	c.buf.Reset()
}

// wantAnswer reads an answer of n bytes.
func (c *client) wantAnswer(n int) {
	c.t.Helper()
	var got []byte
	for len(got) < n {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatalf("after %d of %d bytes: %v", len(got), n, err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			got = append(got, d.Data()...)
		}
	}
	if !bytes.Equal(got, pattern(n)) {
		c.t.Error("the answer is a wrong one")
	}
}

// get queues a GET; send sends it.
func (c *client) get(id uint32, path string) {
	c.hb.Reset()
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "test"}, {Name: ":path", Value: path},
	} {
		_ = c.enc.WriteField(f)
	}
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.hb.Bytes(), EndHeaders: true, EndStream: true})
}

// body reads frames until stream id ends and returns its DATA.
func (c *client) body(id uint32) []byte {
	c.t.Helper()
	var b []byte
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatalf("stream %d after %d bytes: %v", id, len(b), err)
		}
		if h := f.Header(); h.StreamID != id && h.Type != http2.FrameSettings && h.StreamID != 0 {
			continue
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			b = append(b, f.Data()...)
			if f.StreamEnded() {
				return b
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return b
			}
		case *http2.RSTStreamFrame:
			c.t.Fatalf("stream %d was reset: %v", id, f.ErrCode)
		case *http2.GoAwayFrame:
			c.t.Fatalf("GOAWAY %v %q", f.ErrCode, f.DebugData())
		}
	}
}

// closed waits until the proxy has closed the connection.
func (c *client) closed() error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c.tcp)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// settle waits until the connection is parked in the poller: a PING answered
// after everything else was.
func (c *client) settle() {
	c.t.Helper()
	_ = c.fr.WritePing(false, [8]byte{1})
	c.send()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
			return
		}
	}
}

// callUntilClosed makes calls until the proxy closes the connection.
func (c *client) callUntilClosed() {
	defer func() { _ = c.Close() }()
	for id := uint32(1); ; id += 2 {
		c.get(id, "/5000")
		if _, err := c.Write(c.buf.Bytes()); err != nil {
			return
		}
		c.buf.Reset()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.fr.ReadFrame(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.t.Error("a connection survived Shutdown")
			}
			return
		}
	}
}

// big is a Director that answers everything with 15 KiB of header.
type big struct{}

func (big) Direct(*call.Call) (call.Decision, error) {
	h := ours.NewUniqueField("x-big", strings.Repeat("x", 15<<10))
	return call.Decision{Reply: &call.Reply{HTTP: 200, Headers: []ours.Field{h}}}, nil
}

// silentHost returns a host whose accept queue is full: a SYN gets no answer.
func silentHost(t *testing.T) *fixedHost {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(sa.(*syscall.SockaddrInet4).Port))
	for range 8 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return &fixedHost{target: call.Target{Network: "tcp", Address: addr, Options: &call.UpstreamOptions{ConnectTimeout: patience}}}
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("the system's accept queue does not fill")
	return nil
}

// poll waits for something that nothing tells of.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

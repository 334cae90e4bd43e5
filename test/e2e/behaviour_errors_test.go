package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/rawh2"
)

// last returns the last header block a client got, and whether it ended the
// stream.
func last(t *testing.T, cl *rawh2.Stream) (e rawh2.Entry, blocks int) {
	t.Helper()
	for _, x := range cl.Log() {
		if x.Kind == rawh2.Headers {
			e = x
			blocks++
		}
	}
	if blocks == 0 || !e.End {
		t.Fatalf("no block ends the stream: %q", cl.Text())
	}
	return e, blocks
}

// wantTrailersOnly checks a local reply to a gRPC call that got nothing else:
// one block, well-formed, that any client understands.
func wantTrailersOnly(t *testing.T, cl *rawh2.Stream, code codes.Code, message string) {
	t.Helper()
	e, blocks := last(t, cl)
	if blocks != 1 || cl.Bytes() != 0 {
		t.Errorf("not trailers-only: %q", cl.Text())
	}
	if got := e.Get(":status"); got != "200" {
		t.Errorf(":status %q, want 200", got)
	}
	if got := e.Get("content-type"); !strings.HasPrefix(got, "application/grpc") {
		t.Errorf("content-type %q", got)
	}
	wantTrailers(t, cl, code, message)
}

// wantTrailers checks the status that ends a stream.
func wantTrailers(t *testing.T, cl *rawh2.Stream, code codes.Code, message string) {
	t.Helper()
	e, _ := last(t, cl)
	if got := e.Get("grpc-status"); got != fmt.Sprint(int(code)) {
		t.Errorf("grpc-status %q, want %d (%v)", got, code, code)
	}
	if got := e.Get("grpc-message"); !strings.Contains(got, message) || got == "" {
		t.Errorf("grpc-message %q, want something with %q", got, message)
	}
}

// TestBackendDown: nothing listens where the cluster says. The answer is
// trailers-only with the content type that was asked for, or 503.
func TestBackendDown(t *testing.T) {
	p := startFixed(t, fixedConfig{ports: []int{freePort(t)}})
	c := connect(t, p.port, rawh2.Options{})
	for _, ct := range []string{"application/grpc", "application/grpc+proto"} {
		cl := c.Open(true, withFields(request(), "content-type", ct))
		must(t, cl.WaitEnd())
		wantTrailersOnly(t, cl, codes.Unavailable, "connect")
		if got := cl.Log()[0].Get("content-type"); got != ct {
			t.Errorf("content-type %q, want %q", got, ct)
		}
	}
	// The request is still open: after the answer its rest is not wanted.
	cl := c.Open(false, request())
	must(t, cl.WaitReset())
	wantTrailersOnly(t, cl, codes.Unavailable, "connect")
	if got := cl.Text(); got[len(got)-1] != "RESET NO_ERROR" {
		t.Errorf("the client sees %q", got)
	}

	plain := c.Open(true, rawh2.Fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"))
	must(t, plain.WaitEnd())
	if e := plain.Log()[0]; e.Get(":status") != "503" || e.Get("grpc-status") != "" || plain.Bytes() == 0 {
		t.Errorf("a request that is not gRPC gets %q", plain.Text())
	}

	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	_, err := echo.NewEchoClient(dial(t, p.port)).Say(ctx, &echo.SayRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("grpc-go gets %v", err)
	}
}

// TestConnectTimeout: a backend whose host does not answer. The call fails when
// connect_timeout is over, and not before; one with a deadline of its own fails
// at that.
func TestConnectTimeout(t *testing.T) {
	const timeout = 3 * time.Second // startFixed's
	p := startFixed(t, fixedConfig{ports: []int{silentPort(t)}})
	c := connect(t, p.port, rawh2.Options{})
	start := time.Now()
	short := c.Open(true, request("grpc-timeout", "300m"))
	long := c.Open(true, request())
	must(t, short.WaitEnd())
	wantTrailersOnly(t, short, codes.DeadlineExceeded, "")
	// Later than connect_timeout its status would be another.
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("the deadline of 300 ms came after %v", d)
	}
	must(t, long.WaitEnd())
	wantTrailersOnly(t, long, codes.Unavailable, "timeout")
	// One attempt, and one more for free: the request was never seen.
	if d := time.Since(start); d < timeout*9/10 || d > longest {
		t.Errorf("connect_timeout of %v took %v", timeout, d)
	}
}

// silentPort is a port whose SYNs get no answer: its backlog is full.
func silentPort(t *testing.T) int {
	t.Helper()
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd) // not SOCK_CLOEXEC, which is Linux's
	}
	syscall.ForkLock.RUnlock()
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	port := sa.(*unix.SockaddrInet4).Port
	for range 8 {
		nc, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err != nil {
			return port
		}
		t.Cleanup(func() { _ = nc.Close() })
	}
	t.Skip("this system accepts more connections than a backlog of 0 has room for")
	return 0
}

// TestBackendDies: the backend's connection breaks at every stage of a call.
func TestBackendDies(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for name, stage := range map[string]func(x *exchange){
		"before headers": func(x *exchange) {},
		"after headers": func(x *exchange) {
			x.sv.Headers(false, response())
			x.must(x.cl.WaitHeaders(1))
		},
		"in a message": func(x *exchange) {
			x.sv.Headers(false, response())
			x.sv.Data(false, message(0, "whole"))
			x.sv.Data(false, message(0, "cut")[:6])
			x.must(x.cl.WaitData(16))
		},
	} {
		for how, kill := range map[string]func(c *rawh2.Conn){"FIN": (*rawh2.Conn).Close, "RST": (*rawh2.Conn).Abort} {
			t.Run(name+", "+how, func(t *testing.T) {
				x := &exchange{T: t, conn: connect(t, s.p.port, rawh2.Options{}), srv: s.srv}
				x.open(false, request())
				x.cl.Data(false, message(0, "a"))
				x.must(x.sv.WaitData(6))
				stage(x)
				kill(x.sv.Conn())
				x.must(x.cl.WaitEnd())
				if name == "before headers" {
					wantTrailersOnly(t, x.cl, codes.Unavailable, "connection termination")
					return
				}
				wantTrailers(t, x.cl, codes.Unavailable, "connection termination")
				e, _ := last(t, x.cl)
				if msg := e.Get("grpc-message"); strings.Contains(msg, "before headers") {
					t.Errorf("the headers were there, but the message says %q", msg)
				}
			})
		}
	}
	// Not gRPC, in the middle of a body: only a reset tells that it is cut.
	x := &exchange{T: t, conn: connect(t, s.p.port, rawh2.Options{}), srv: s.srv}
	x.open(true, rawh2.Fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"))
	x.sv.Headers(false, rawh2.Fields(":status", "200"))
	x.sv.Data(false, []byte("half"))
	x.must(x.cl.WaitData(4))
	x.sv.Conn().Close()
	x.must(x.cl.WaitReset())
	if got := x.cl.Text(); got[len(got)-1] != "RESET INTERNAL_ERROR" {
		t.Errorf("a cut response that is not gRPC ends with %q", got)
	}
}

// TestBackendResetsEarly: RST_STREAM before any header becomes the status that
// gRPC's HTTP/2 mapping gives it.
func TestBackendResetsEarly(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for code, want := range map[http2.ErrCode]codes.Code{
		http2.ErrCodeNo: codes.Internal, http2.ErrCodeProtocol: codes.Internal, http2.ErrCodeInternal: codes.Internal,
		http2.ErrCodeFlowControl: codes.Internal, http2.ErrCodeStreamClosed: codes.Internal, http2.ErrCodeCancel: codes.Canceled,
		http2.ErrCodeEnhanceYourCalm: codes.ResourceExhausted, http2.ErrCodeInadequateSecurity: codes.PermissionDenied,
		0xfe: codes.Internal,
	} {
		t.Run(code.String(), func(t *testing.T) {
			s.run(t, s.p.port, func(x *exchange) {
				x.open(true, request())
				x.sv.Reset(code)
				x.must(x.cl.WaitEnd())
				wantTrailersOnly(t, x.cl, want, "reset")
			})
		})
	}
}

// TestDeadline: at the client's grpc-timeout it gets DEADLINE_EXCEEDED and the
// backend CANCEL, whatever was sent until then.
func TestDeadline(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for name, stage := range map[string]func(x *exchange){
		"no answer": func(x *exchange) {},
		"headers":   func(x *exchange) { x.sv.Headers(false, response()) },
		"a message": func(x *exchange) {
			x.sv.Headers(false, response())
			x.sv.Data(false, message(0, "a"))
		},
	} {
		for _, end := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, request ended %v", name, end), func(t *testing.T) {
				x := &exchange{T: t, conn: connect(t, s.p.port, rawh2.Options{}), srv: s.srv}
				start := time.Now()
				x.open(end, request("grpc-timeout", "250m"))
				stage(x)
				x.must(x.cl.WaitEnd())
				client := time.Since(start)
				x.must(x.sv.WaitReset())
				server := time.Since(start)
				wantTrailers(t, x.cl, codes.DeadlineExceeded, "")
				if client < 250*time.Millisecond || client > longest || server > longest {
					t.Errorf("250 ms: the client knew after %v, the backend after %v", client, server)
				}
				if got := x.sv.Text(); got[len(got)-1] != "RESET CANCEL" {
					t.Errorf("the backend sees %q", got)
				}
				if !end {
					x.must(x.cl.WaitReset())
				}
			})
		}
	}
}

// TestClientGoes: the client's connection breaks: the backend gets CANCEL for
// each of its calls, and other clients' calls live.
func TestClientGoes(t *testing.T) {
	s := newScene(t, fixedConfig{})
	other := &exchange{T: t, conn: connect(t, s.p.port, rawh2.Options{}), srv: s.srv}
	other.open(false, request())
	c := connect(t, s.p.port, rawh2.Options{})
	var svs []*rawh2.Stream
	for range 5 {
		x := &exchange{T: t, conn: c, srv: s.srv}
		x.open(false, request())
		x.sv.Headers(false, response())
		x.must(x.cl.WaitHeaders(1))
		svs = append(svs, x.sv)
	}
	c.Close()
	for _, sv := range svs {
		must(t, sv.WaitReset())
		if got := sv.Text(); got[len(got)-1] != "RESET CANCEL" {
			t.Errorf("the backend sees %q", got)
		}
	}
	other.cl.Data(true, nil)
	other.must(other.sv.WaitEnd())
	other.sv.Headers(true, response("grpc-status", "0"))
	other.must(other.cl.WaitEnd())
}

// startRoute runs a proxy that has one route, by its flags.
func startRoute(t *testing.T, route string) *proxy {
	t.Helper()
	p := &proxy{id: "proxy", port: freePort(t), admin: freePort(t)}
	p.Process = start(t, p.id, "dataplane", "--listen", fmt.Sprintf("127.0.0.1:%d", p.port), "--route", route, "--admin", fmt.Sprintf("127.0.0.1:%d", p.admin))
	t.Cleanup(p.Kill)
	p.waitReady(t)
	return p
}

// TestNoRoute: UNIMPLEMENTED for gRPC, 404 otherwise.
func TestNoRoute(t *testing.T) {
	srv := listen(t, rawh2.Options{})
	p := startRoute(t, "acme.Other="+srv.Addr())
	c := connect(t, p.port, rawh2.Options{})
	cl := c.Open(true, request())
	must(t, cl.WaitEnd())
	wantTrailersOnly(t, cl, codes.Unimplemented, "route")
	plain := c.Open(true, rawh2.Fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"))
	must(t, plain.WaitEnd())
	if got := plain.Log()[0].Get(":status"); got != "404" {
		t.Errorf(":status %q, want 404", got)
	}
}

// TestRefusedCalls: any number of calls that are refused before their clients
// have sent all of them costs the connection, and the calls beside them, nothing.
func TestRefusedCalls(t *testing.T) {
	srv := listen(t, rawh2.Options{})
	p := startRoute(t, "acme.Shop="+srv.Addr())
	c := connect(t, p.port, rawh2.Options{})
	neighbour := &exchange{T: t, conn: c, srv: srv}
	neighbour.open(false, request())
	var last *rawh2.Stream
	for range 3000 {
		last = c.Open(false, withFields(request(), ":path", "/acme.None/Buy"))
		last.Data(false, message(0, "a"))
		last.Data(true, nil)
		last.Reset(http2.ErrCodeNo)
	}
	must(t, c.Sync())
	if got := c.GoAways(); len(got) != 0 {
		t.Fatalf("the client sees GOAWAY %+v", got)
	}
	neighbour.sv.Headers(true, response("grpc-status", "0"))
	neighbour.must(neighbour.cl.WaitEnd())
}

// TestMalformed: what RFC 9113 §8 forbids never reaches a backend, in either
// direction, and costs the stream only.
func TestMalformed(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for name, fields := range map[string][]rawh2.Field{
		"te":                      withFields(request(), "te", "gzip"),
		"te with more":            withFields(request(), "te", "trailers, deflate"),
		"connection":              request("connection", "close"),
		"keep-alive":              request("keep-alive", "1"),
		"transfer-encoding":       request("transfer-encoding", "chunked"),
		"upgrade":                 request("upgrade", "h2c"),
		"proxy-connection":        request("proxy-connection", "x"),
		"upper case":              request("X-Name", "1"),
		"blank in name":           request("x name", "1"),
		"colon in name":           request("x:name", "1"),
		"line feed":               request("x", "a\nb: c"),
		"carriage return":         request("x", "a\rb"),
		"NUL":                     request("x", "a\x00b"),
		"blank path":              withFields(request(), ":path", "/a "),
		"blank length":            request("content-length", "0 "),
		"pseudo twice":            request(":path", "/other"),
		"pseudo late":             append(rawh2.Fields(":method", "POST", ":scheme", "http", "x", "1"), rawh2.Fields(":path", "/")...),
		"unknown pseudo":          append(rawh2.Fields(":what", "1"), request()...),
		"no path":                 withFields(request(), ":path", "-"),
		"empty path":              withFields(request(), ":path", ""),
		"no slash":                withFields(request(), ":path", "a/b"),
		"host is another":         request("host", "other.example"),
		"userinfo":                withFields(request(), ":authority", "me@shop"),
		"content-length is a lie": request("content-length", "7"),
		"two content-lengths":     request("content-length", "0", "content-length", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, s.p.port, rawh2.Options{})
			neighbour := &exchange{T: t, conn: c, srv: s.srv}
			neighbour.open(false, request())
			bad := c.Open(true, fields)
			must(t, bad.WaitOver())
			if got := bad.Text(); len(got) != 1 || got[0] != "RESET PROTOCOL_ERROR" {
				t.Errorf("the client sees %q", got)
			}
			neighbour.cl.Data(true, nil)
			neighbour.must(neighbour.sv.WaitEnd())
			neighbour.sv.Headers(true, response("grpc-status", "0"))
			neighbour.must(neighbour.cl.WaitEnd())
		})
	}
	for name, fields := range map[string][]rawh2.Field{
		"connection":  response("connection", "close"),
		"upper case":  response("X-Name", "1"),
		"line feed":   response("x", "a\nb"),
		"no status":   rawh2.Fields("content-type", "application/grpc"),
		"bad status":  rawh2.Fields(":status", "2x0"),
		"status late": rawh2.Fields("x", "1", ":status", "200"),
		"request's":   response(":path", "/"),
	} {
		t.Run("response, "+name, func(t *testing.T) {
			_, server := s.run(t, s.p.port, func(x *exchange) {
				x.open(true, request())
				x.sv.Headers(false, fields)
				x.must(x.cl.WaitEnd())
				wantTrailersOnly(t, x.cl, codes.Internal, "protocol error")
			})
			if server[len(server)-1] != "RESET PROTOCOL_ERROR" {
				t.Errorf("the backend sees %q", server)
			}
		})
	}
}

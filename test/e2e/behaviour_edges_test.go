package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestQueuedTimeout: a call that waited for a stream tells the backend what is
// left of its deadline, and in a form that gRPC allows.
func TestQueuedTimeout(t *testing.T) {
	srv := listen(t, rawh2.Options{Settings: []http2.Setting{setting(http2.SettingMaxConcurrentStreams, 1)}})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}, cluster: `circuit_breakers: {thresholds: [{max_connections: 1}]}`})
	c := connect(t, p.port, rawh2.Options{})
	warm := c.Open(true, request())
	answer(acceptN(t, srv, 1)[0])
	must(t, warm.WaitEnd())

	first := c.Open(true, request("grpc-timeout", "7S"))
	held := acceptN(t, srv, 1)[0]
	if got := header(held, "grpc-timeout"); got != "7S" {
		t.Errorf("a call that did not wait has grpc-timeout %q, want 7S", got)
	}
	queued := c.Open(true, request("grpc-timeout", "60S"))
	must(t, c.Sync())
	time.Sleep(50 * time.Millisecond) // the wait that is measured
	answer(held)
	sv := acceptN(t, srv, 1)[0]
	got := header(sv, "grpc-timeout")
	var n int
	var unit string
	if k, err := fmt.Sscanf(got, "%d%s", &n, &unit); k != 2 || err != nil || len(got) > 9 {
		t.Fatalf("grpc-timeout %q", got)
	}
	left := time.Duration(n) * map[string]time.Duration{"n": 1, "u": time.Microsecond, "m": time.Millisecond, "S": time.Second}[unit]
	if left > time.Minute-50*time.Millisecond || left < time.Minute-longest {
		t.Errorf("grpc-timeout %q: want 60 s less the wait of 50 ms", got)
	}
	answer(sv)
	for _, cl := range []*rawh2.Stream{first, queued} {
		must(t, cl.WaitEnd())
		wantStatus(t, cl.Text(), "0")
	}
}

// TestDeadlineOfSlowReader: a response is complete but the client takes only a
// part of it; at the deadline it learns so, as trailers need no window.
func TestDeadlineOfSlowReader(t *testing.T) {
	s := newScene(t, fixedConfig{})
	c := connect(t, s.p.port, rawh2.Options{HoldStreams: true, Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 10)}})
	x := &exchange{T: t, conn: c, srv: s.srv}
	x.open(true, request("grpc-timeout", "3S"))
	x.sv.Headers(false, response())
	x.sv.Data(false, make([]byte, 1000))
	x.sv.Headers(true, trailers())
	x.must(x.cl.WaitEnd())
	if n := x.cl.Bytes(); n != 10 {
		t.Errorf("%d bytes came, want 10", n)
	}
	wantTrailers(t, x.cl, codes.DeadlineExceeded, "")
}

// TestBackendClosesIdle: a backend closes connections that have no calls,
// without GOAWAY. The next call finds another.
func TestBackendClosesIdle(t *testing.T) {
	s := newScene(t, fixedConfig{})
	c := connect(t, s.p.port, rawh2.Options{})
	for range 10 {
		x := &exchange{T: t, conn: c, srv: s.srv}
		x.open(true, request())
		answer(x.sv)
		x.must(x.cl.WaitEnd())
		wantStatus(t, x.cl.Text(), "0")
		x.sv.Conn().Close()
		eventually(t, "the proxy sees the end", func() error {
			if n := s.p.stat(t, "cluster.up.upstream_cx_active"); n != 0 {
				return fmt.Errorf("%v connections", n)
			}
			return nil
		})
	}
}

// TestGoAwayAndClose: GOAWAY that covers no stream, and the connection's end
// right behind it: the call goes elsewhere.
func TestGoAwayAndClose(t *testing.T) {
	s := newScene(t, fixedConfig{})
	client, server := s.run(t, s.p.port, func(x *exchange) {
		x.open(false, request())
		x.cl.Data(true, message(0, "hello"))
		x.must(x.sv.WaitEnd())
		x.sv.Conn().SendGoAway(0, http2.ErrCodeNo)
		x.sv.Conn().Close()
		sv, err := x.srv.AcceptStream()
		x.must(err)
		x.sv = sv
		x.must(sv.WaitEnd())
		answer(sv)
		x.must(x.cl.WaitEnd())
	})
	wantStatus(t, client, "0")
	if got := server[1]; got != "DATA 10 bytes, sum "+sum(message(0, "hello")) {
		t.Errorf("the second backend sees %q", server)
	}
}

// TestTooManyHeaders: more than the limits, which are those of the
// configuration: RESOURCE_EXHAUSTED or 431 for the client's, a clear status for
// the backend's. Neighbours live.
func TestTooManyHeaders(t *testing.T) {
	s := newScene(t, fixedConfig{})
	c := connect(t, s.p.port, rawh2.Options{})
	big := []string{"x-big", strings.Repeat("b", 100<<10)}
	cl := c.Open(true, request(big...))
	must(t, cl.WaitEnd())
	wantTrailersOnly(t, cl, codes.ResourceExhausted, "header")
	plain := c.Open(true, rawh2.Fields(append([]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}, big...)...))
	must(t, plain.WaitEnd())
	if got := plain.Log()[0].Get(":status"); got != "431" {
		t.Errorf(":status %q, want 431", got)
	}
	x := &exchange{T: t, conn: c, srv: s.srv}
	x.open(true, request())
	x.sv.Headers(false, response(big...))
	x.must(x.cl.WaitEnd())
	e, _ := last(t, x.cl)
	if got := e.Get("grpc-status"); got == "0" || got == "" {
		t.Errorf("the client sees %q", x.cl.Text())
	}
	y := &exchange{T: t, conn: c, srv: s.srv}
	y.open(true, request())
	answer(y.sv)
	y.must(y.cl.WaitEnd())
	wantStatus(t, y.cl.Text(), "0")
}

// TestFlagsMode: a proxy made of --listen and --backend adds x-forwarded-proto,
// as every Envoy does, and nothing else.
func TestFlagsMode(t *testing.T) {
	srv := listen(t, rawh2.Options{})
	p := &proxy{id: "proxy", port: freePort(t), admin: freePort(t)}
	p.Process = start(t, p.id, "dataplane", "--listen", fmt.Sprintf("127.0.0.1:%d", p.port), "--backend", srv.Addr(), "--admin", fmt.Sprintf("127.0.0.1:%d", p.admin))
	t.Cleanup(p.Kill)
	p.waitReady(t)
	x := &exchange{T: t, conn: connect(t, p.port, rawh2.Options{}), srv: srv}
	x.open(false, request("x-a", "1", "x-a", "", "user-agent", "me/1"))
	x.sv.Headers(false, response("x-b", "2", "x-b", ""))
	x.sv.Headers(true, trailers("x-c", "3"))
	x.must(x.cl.WaitReset())
	added := func(st *rawh2.Stream, sent []rawh2.Field) (names []string) {
		t.Helper()
		got := st.Log()[0].Fields
		if d := cmp.Diff(sent, got[:min(len(sent), len(got))]); d != "" {
			t.Errorf("the call's own fields (-sent +came):\n%s", d)
		}
		for _, f := range got[min(len(sent), len(got)):] {
			names = append(names, f.Name)
		}
		return names
	}
	if d := cmp.Diff([]string{"x-forwarded-proto"}, added(x.sv, request("x-a", "1", "x-a", "", "user-agent", "me/1"))); d != "" {
		t.Errorf("added to the request (-want +got):\n%s", d)
	}
	if got := added(x.cl, response("x-b", "2", "x-b", "")); len(got) > 0 {
		t.Errorf("added to the response: %q", got)
	}
	if got := x.cl.Text()[1]; got != `HEADERS grpc-status="0" x-c="3"` {
		t.Errorf("the trailers are %s", got)
	}
}

package e2e

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// answer completes a call whose request has ended or does not matter.
func answer(sv *rawh2.Stream) { sv.Headers(true, response("grpc-status", "0")) }

func setting(id http2.SettingID, v uint32) http2.Setting { return http2.Setting{ID: id, Val: v} }

// acceptN takes the next n streams of a server.
func acceptN(t *testing.T, srv *rawh2.Server, n int) (out []*rawh2.Stream) {
	t.Helper()
	for range n {
		sv, err := srv.AcceptStream()
		must(t, err)
		out = append(out, sv)
	}
	return out
}

// header returns a field of a stream's first block.
func header(s *rawh2.Stream, name string) string {
	e := s.Log()[0]
	return e.Get(name)
}

// TestMaxStreamsChanges: a backend changes SETTINGS_MAX_CONCURRENT_STREAMS
// under open streams: below their number, to 0, and up again.
func TestMaxStreamsChanges(t *testing.T) {
	srv := listen(t, rawh2.Options{Settings: []http2.Setting{setting(http2.SettingMaxConcurrentStreams, 100)}})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}, cluster: `circuit_breakers: {thresholds: [{max_connections: 1}]}`})
	c := connect(t, p.port, rawh2.Options{})
	open := func() *rawh2.Stream { return c.Open(true, request()) }
	cls := []*rawh2.Stream{open(), open(), open()}
	svs := acceptN(t, srv, 3)
	sc := svs[0].Conn()
	for i, limit := range []uint32{1, 0} {
		sc.Settings(setting(http2.SettingMaxConcurrentStreams, limit))
		must(t, sc.WaitAck(2+i))
	}
	cls = append(cls, open(), open())
	must(t, c.Sync())
	if n := sc.OpenStreams(); n != 3 || len(srv.Conns()) != 1 {
		t.Errorf("%d streams on %d connections, want 3 on 1", n, len(srv.Conns()))
	}
	for _, sv := range svs {
		answer(sv)
	}
	must(t, sc.Sync())
	if n := sc.OpenStreams(); n != 0 {
		t.Errorf("%d streams were opened while none is allowed", n)
	}
	sc.Settings(setting(http2.SettingMaxConcurrentStreams, 1))
	first := acceptN(t, srv, 1)[0]
	must(t, sc.Sync())
	if n := sc.OpenStreams(); n != 1 {
		t.Errorf("%d streams, want 1", n)
	}
	answer(first)
	answer(acceptN(t, srv, 1)[0])
	for _, cl := range cls {
		must(t, cl.WaitEnd())
		wantStatus(t, cl.Text(), "0")
	}
}

// TestGoAwayMovesCalls: a backend says GOAWAY with the id of the first of its
// streams. That one goes on where it is; the others, which the backend has not
// processed, go to another connection with all they had sent. None fails.
func TestGoAwayMovesCalls(t *testing.T) {
	for _, size := range []int{0, 100, 4000} {
		t.Run(fmt.Sprint(size, " bytes sent"), func(t *testing.T) {
			srv := listen(t, rawh2.Options{})
			p := startFixed(t, fixedConfig{ports: []int{srv.Port()}})
			c := connect(t, p.port, rawh2.Options{})
			var body []byte
			if size > 0 { // a whole message: its head says that it can be kept
				body = message(0, strings.Repeat("x", size-5))
			}
			var cls []*rawh2.Stream
			for i := range 5 {
				cl := c.Open(false, request("x-id", fmt.Sprint(i)))
				if size > 0 {
					cl.Data(false, body)
				}
				cls = append(cls, cl)
			}
			svs := acceptN(t, srv, 5)
			for _, sv := range svs {
				must(t, sv.WaitData(size))
			}
			old := svs[0].Conn()
			old.SendGoAway(svs[0].ID, http2.ErrCodeNo)
			moved := acceptN(t, srv, 4)
			for i, sv := range moved {
				if sv.Conn() == old {
					t.Fatal("a stream was opened after GOAWAY")
				}
				if got := header(sv, "x-id"); got != fmt.Sprint(i+1) {
					t.Errorf("moved call %d has id %s: the order changed", i, got)
				}
				must(t, sv.WaitData(size))
			}
			for _, cl := range cls {
				cl.Data(true, []byte("end"))
			}
			for _, sv := range append(moved, svs[0]) {
				must(t, sv.WaitEnd())
				if sv.Bytes() != size+3 {
					t.Errorf("a call arrived with %d bytes, want %d", sv.Bytes(), size+3)
				}
				answer(sv)
			}
			for _, cl := range cls {
				must(t, cl.WaitEnd())
				wantStatus(t, cl.Text(), "0")
			}
			// With its last stream gone the old connection is closed.
			must(t, old.WaitClosed())
		})
	}
}

// TestGoAwayMovesLongCalls: a request of any length goes elsewhere as long as
// the backend has taken no more of it than the window that streams begin with.
// Beyond that it is too long to be kept, and the client is told that nobody has
// seen it.
func TestGoAwayMovesLongCalls(t *testing.T) {
	srv := listen(t, rawh2.Options{HoldStreams: true})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}})
	c := connect(t, p.port, rawh2.Options{})
	const window = 65535
	body := message(0, strings.Repeat("0123456789abcdef", 1<<16))
	finish := func(cl, sv *rawh2.Stream, sent chan error) {
		t.Helper()
		sv.Credit(2 << 20)
		must(t, sv.WaitEnd())
		if got := sv.Bytes(); got != 1<<20+5 {
			t.Errorf("%d bytes came, want %d", got, 1<<20+5)
		}
		must(t, <-sent)
		answer(sv)
		must(t, cl.WaitEnd())
		wantStatus(t, cl.Text(), "0")
	}
	start := func() (cl, sv *rawh2.Stream, sent chan error) {
		t.Helper()
		cl, sent = c.Open(false, request()), make(chan error, 1)
		go func() { sent <- cl.Send(true, body) }()
		sv = acceptN(t, srv, 1)[0]
		must(t, sv.WaitData(window))
		return cl, sv, sent
	}

	cl, sv, sent := start()
	sv.Conn().SendGoAway(0, http2.ErrCodeNo)
	moved := acceptN(t, srv, 1)[0]
	must(t, moved.WaitData(window))
	finish(cl, moved, sent)

	cl, sv, sent = start()
	sv.Credit(1000)
	must(t, sv.WaitData(window+1000))
	sv.Conn().SendGoAway(0, http2.ErrCodeNo)
	must(t, cl.WaitReset())
	if got := cl.Text(); !slices.Equal(got, []string{"RESET REFUSED_STREAM"}) {
		t.Errorf("the client sees %q", got)
	}
	<-sent // its error is the reset that the client got
}

// TestGoAwayClientsRetry: what is too long to be kept and was seen by nobody is
// refused, and gRPC's clients send it again, whatever their retry policy.
func TestGoAwayClientsRetry(t *testing.T) {
	srv := listen(t, rawh2.Options{Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 1<<20)}})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}})
	cc := dial(t, p.port)
	got := make(chan error, 1)
	go func() {
		in := wrapperspb.Bytes(make([]byte, 200_000))
		got <- cc.Invoke(t.Context(), "/acme.Shop/Buy", in, new(wrapperspb.BytesValue))
	}()
	sv := acceptN(t, srv, 1)[0]
	must(t, sv.WaitEnd())
	sv.Conn().SendGoAway(0, http2.ErrCodeNo)
	sv = acceptN(t, srv, 1)[0]
	must(t, sv.WaitEnd())
	sv.Headers(false, response())
	sv.Data(false, message(0, ""))
	sv.Headers(true, trailers())
	must(t, <-got)
}

// TestGoAwayTwice: the graceful kind, 2^31-1 first and then the real id, with
// new calls between: they go elsewhere, those in flight end where they are.
func TestGoAwayTwice(t *testing.T) {
	srv := listen(t, rawh2.Options{})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}})
	c := connect(t, p.port, rawh2.Options{})
	a := c.Open(true, request())
	sa := acceptN(t, srv, 1)[0]
	sa.Conn().SendGoAway(1<<31-1, http2.ErrCodeNo)
	must(t, sa.Conn().Sync())
	b := c.Open(true, request())
	sb := acceptN(t, srv, 1)[0]
	if sa.Conn() == sb.Conn() {
		t.Error("a stream was opened on a connection that said GOAWAY")
	}
	sa.Conn().SendGoAway(sa.ID, http2.ErrCodeNo)
	answer(sa)
	answer(sb)
	for _, cl := range []*rawh2.Stream{a, b} {
		must(t, cl.WaitEnd())
		wantStatus(t, cl.Text(), "0")
	}
}

// TestRefusedStream: REFUSED_STREAM says that the call was not processed: it is
// sent again, whole, up to four times. The last refusal is the client's to see.
func TestRefusedStream(t *testing.T) {
	s := newScene(t, fixedConfig{})
	attempt := func(x *exchange) {
		x.must(x.sv.WaitEnd())
		if !slices.Contains(x.sv.Text(), "DATA 10 bytes, sum "+sum(message(0, "hello"))) {
			t.Errorf("an attempt arrived as %q", x.sv.Text())
		}
	}
	refuse := func(x *exchange) {
		x.open(false, request())
		x.cl.Data(true, message(0, "hello"))
		attempt(x)
		x.sv.Reset(http2.ErrCodeRefusedStream)
		sv, err := x.srv.AcceptStream()
		x.must(err)
		x.sv = sv
		attempt(x)
	}
	client, _ := s.run(t, s.p.port, func(x *exchange) {
		refuse(x)
		answer(x.sv)
		x.must(x.cl.WaitEnd())
	})
	wantStatus(t, client, "0")
	s.run(t, s.p.port, func(x *exchange) {
		refuse(x)
		for range 3 {
			x.sv.Reset(http2.ErrCodeRefusedStream)
			sv, err := x.srv.AcceptStream()
			x.must(err)
			x.sv = sv
			attempt(x)
		}
		x.sv.Reset(http2.ErrCodeRefusedStream)
		x.must(x.cl.WaitEnd())
		wantTrailersOnly(t, x.cl, codes.Unavailable, "REFUSED_STREAM")
	})
}

// sum is how a stream's text shows p's bytes.
func sum(p []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
}

// TestSettingsMidStream: both peers change their windows and tables under a
// stream that flows both ways: to nothing, which makes windows negative, and
// back. Not a byte is lost or sent too early.
func TestSettingsMidStream(t *testing.T) {
	s := newScene(t, fixedConfig{})
	const size = 1 << 20
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	c := connect(t, s.p.port, rawh2.Options{HoldStreams: true})
	x := &exchange{T: t, conn: c, srv: s.srv}
	x.open(false, request())
	sc := x.sv.Conn()

	// The client's side: 65,535 bytes come, and no more.
	x.sv.Headers(false, response())
	sent := make(chan error, 1)
	go func() { sent <- x.sv.Send(false, body) }()
	x.must(x.cl.WaitData(65535))
	c.Settings(setting(http2.SettingInitialWindowSize, 0), setting(http2.SettingHeaderTableSize, 0))
	x.must(c.WaitAck(2))
	x.cl.Credit(65535) // from -65,535 to 0: still nothing may come
	x.must(c.Sync())
	x.must(c.Sync())
	if n := x.cl.Bytes(); n != 65535 {
		t.Errorf("%d bytes came with a window of 0, want 65535", n)
	}
	c.Settings(setting(http2.SettingInitialWindowSize, 100_000), setting(http2.SettingHeaderTableSize, 4096))
	x.must(x.cl.WaitData(165_535))
	x.must(c.Sync())
	if n := x.cl.Bytes(); n != 165_535 {
		t.Errorf("%d bytes came, want 165535", n)
	}
	x.cl.Credit(size)
	x.must(x.cl.WaitData(size))
	x.must(<-sent)

	// The backend's side: it stops what comes up, and lets it go on.
	sc.Settings(setting(http2.SettingInitialWindowSize, 0), setting(http2.SettingHeaderTableSize, 0), setting(http2.SettingMaxFrameSize, 1<<20))
	x.must(sc.Sync())
	before := x.sv.Bytes()
	go func() { sent <- x.cl.Send(true, body) }()
	x.must(sc.Sync())
	grown := x.sv.Bytes() - before
	if grown > 65535 {
		t.Errorf("%d bytes came up", grown)
	}
	sc.Settings(setting(http2.SettingInitialWindowSize, 65535), setting(http2.SettingHeaderTableSize, 4096))
	x.must(x.sv.WaitEnd())
	x.must(<-sent)
	x.sv.Headers(true, trailers("x-after", "1"))
	x.must(x.cl.WaitEnd())
	for _, st := range []*rawh2.Stream{x.cl, x.sv} {
		if got := st.Text()[1]; got != fmt.Sprintf("DATA %d bytes, sum %s", size, sum(body)) {
			t.Errorf("got %s", got)
		}
	}
	// The tables went to 0 and back: blocks still decode.
	s.same(t, func(x *exchange) {
		x.open(true, request("x-after", "2"))
		x.sv.Headers(true, response("grpc-status", "0", "x-after", "3"))
		x.must(x.cl.WaitEnd())
	})
}

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestStalledStreams: clients that never open their windows hold all that a
// stream may hold of one upstream connection; their neighbours on it are not
// slowed. 60 are lent from, 127 are one less than what leaves nothing
// (docs/core.md, "Flow control").
func TestStalledStreams(t *testing.T) {
	for _, stalled := range []int{60, 127} {
		t.Run(fmt.Sprint(stalled), func(t *testing.T) {
			const perStream = 64 << 10
			s := newScene(t, fixedConfig{})
			slow := connect(t, s.p.port, rawh2.Options{Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 0)}})
			must(t, slow.Sync())
			good := &exchange{T: t, conn: connect(t, s.p.port, rawh2.Options{}), srv: s.srv}
			good.open(false, request())
			conn := good.sv.Conn()
			var held []*exchange
			for range stalled {
				x := &exchange{T: t, conn: slow, srv: s.srv}
				x.open(true, request())
				if x.sv.Conn() != conn {
					t.Fatalf("stream %d has an upstream connection of its own: nothing is shared", len(held)+1)
				}
				held = append(held, x)
			}
			chunk := bytes.Repeat([]byte("x"), 16<<10)
			for _, x := range held {
				x.sv.Headers(false, response())
				for range perStream / len(chunk) {
					// What the windows do not allow now never comes: the client
					// takes nothing.
					good.must(x.sv.Send(false, chunk))
				}
			}
			good.must(conn.Sync())
			full := 0
			for _, x := range held {
				if x.sv.Window() <= 0 {
					full++
				}
			}
			if full != stalled {
				t.Fatalf("%d of %d streams are stalled", full, stalled)
			}

			const size = 8 << 20
			start := time.Now()
			good.sv.Headers(false, response())
			good.must(good.sv.Send(false, make([]byte, size)))
			good.must(good.cl.WaitData(size))
			took := time.Since(start)
			t.Logf("8 MiB past %d stalled streams in %v", stalled, took)
			if took > longest {
				t.Errorf("8 MiB past %d stalled streams took %v", stalled, took)
			}

			// New calls find a place too, here or on another connection.
			x := &exchange{T: t, conn: good.conn, srv: s.srv}
			x.open(true, request())
			answer(x.sv)
			x.must(x.cl.WaitEnd())

			// And the stalled ones are only stalled.
			for _, x := range held {
				x.cl.Credit(perStream)
			}
			for _, x := range held {
				x.must(x.cl.WaitData(perStream))
			}
		})
	}
}

// TestStalledUploads is the same upwards: a backend that reads nothing of some
// calls, all from one client connection, does not stop the others on it.
func TestStalledUploads(t *testing.T) {
	const stalled = 60
	srv := listen(t, rawh2.Options{HoldStreams: true})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}})
	c := connect(t, p.port, rawh2.Options{})
	good := &exchange{T: t, conn: c, srv: srv}
	good.open(false, request())
	chunk := make([]byte, 16<<10)
	for range stalled {
		x := &exchange{T: t, conn: c, srv: srv}
		x.open(false, request())
		// 65,535 bytes pass to the backend, as many stay in the proxy.
		for range 7 {
			good.must(x.cl.Send(false, chunk))
		}
	}
	good.sv.Credit(16 << 20)
	const size = 8 << 20
	start := time.Now()
	good.must(good.cl.Send(true, make([]byte, size)))
	good.must(good.sv.WaitEnd())
	if took := time.Since(start); took > longest {
		t.Errorf("8 MiB past %d stalled uploads took %v", stalled, took)
	}
	answer(good.sv)
	good.must(good.cl.WaitEnd())
}

// TestStalledPeersCost: fifty clients that do not read what backends pour out,
// half of them with closed HTTP/2 windows and half with open windows and a
// socket nobody reads, and fifty uploads to a backend that takes nothing. The
// proxy grows by at most 32 MiB.
func TestStalledPeersCost(t *testing.T) {
	const peers, limit = 50, 32 << 20
	// pour sends until the proxy takes no more, which it must some day.
	pour := func(x *exchange) {
		x.sv.Headers(false, response())
		chunk := make([]byte, 16<<10)
		for range 64 << 20 / len(chunk) {
			for wait := 0; x.sv.Window() < int64(len(chunk)); wait++ {
				if wait == 10 {
					return
				}
				time.Sleep(time.Millisecond) // what would come comes in microseconds
			}
			x.sv.Data(false, chunk)
		}
		t.Fatal("the proxy took 64 MiB for a client that reads nothing")
	}
	downloads := func(t *testing.T, calls int) {
		s := newScene(t, fixedConfig{cluster: "circuit_breakers: {thresholds: [{max_requests: 200000, max_pending_requests: 200000}]}"})
		before := s.p.resident(t)
		for i := range peers {
			o := rawh2.Options{Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 1<<30)}, NoRead: true}
			if i%2 == 0 {
				o = rawh2.Options{Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 0)}}
			}
			c := connect(t, s.p.port, o)
			for range calls {
				x := &exchange{T: t, conn: c, srv: s.srv}
				x.open(true, request())
				pour(x)
			}
		}
		wantGrowth(t, s.p, before, limit)
	}
	t.Run("downloads", func(t *testing.T) { downloads(t, 1) })
	t.Run("downloads, 20 calls each", func(t *testing.T) { downloads(t, 20) })
	t.Run("uploads", func(t *testing.T) {
		srv := listen(t, rawh2.Options{HoldStreams: true, Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 0)}})
		p := startFixed(t, fixedConfig{ports: []int{srv.Port()}})
		before := p.resident(t)
		for range peers {
			x := &exchange{T: t, conn: connect(t, p.port, rawh2.Options{}), srv: srv}
			x.open(false, request())
			for range 4 {
				if x.cl.Window() >= 16<<10 {
					x.cl.Data(false, make([]byte, 16<<10))
				}
			}
			must(t, x.conn.Sync())
		}
		wantGrowth(t, p, before, limit)
	})
}

func wantGrowth(t *testing.T, p *proxy, before, limit int) {
	t.Helper()
	grown := p.peak(t) - before
	t.Logf("the proxy grew by %d KiB", grown>>10)
	if os.Getenv("SLUICE_E2E_RACE") != "" {
		t.Skip("the race detector multiplies memory")
	}
	if grown > limit {
		t.Errorf("the proxy grew by %d KiB, more than %d", grown>>10, limit>>10)
	}
}

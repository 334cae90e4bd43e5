package e2e

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestMaxConcurrentStreams: a backend that takes two streams per connection.
//  1. one call, so that the proxy knows the limit; then ten at once: it opens
//     the four connections it may have, two streams on each, and two calls
//     wait, which shows in the stats;
//  2. when one ends, the first of those that wait gets its place;
//  3. a deadline ends a wait;
//  4. no connection ever has more than two streams.
func TestMaxConcurrentStreams(t *testing.T) {
	srv := listen(t, rawh2.Options{Settings: []http2.Setting{setting(http2.SettingMaxConcurrentStreams, 2)}})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}})
	c := connect(t, p.port, rawh2.Options{})
	first := c.Open(true, request())
	answer(acceptN(t, srv, 1)[0])
	must(t, first.WaitEnd())
	var cls []*rawh2.Stream
	for i := range 10 {
		cls = append(cls, c.Open(true, request("x-id", fmt.Sprint(i))))
	}
	svs := acceptN(t, srv, 8)
	must(t, c.Sync())
	if got := len(srv.Conns()); got != 4 {
		t.Errorf("%d connections, want 4", got)
	}
	for _, sc := range srv.Conns() {
		must(t, sc.Sync())
		if n := sc.OpenStreams(); n != 2 {
			t.Errorf("a connection has %d streams, want 2", n)
		}
	}
	if v := p.stat(t, "cluster.up.upstream_rq_pending_active"); v != 2 {
		t.Errorf("upstream_rq_pending_active = %v, want 2", v)
	}
	if v := p.stat(t, "cluster.up.upstream_cx_active"); v != 4 {
		t.Errorf("upstream_cx_active = %v, want 4", v)
	}

	answer(svs[3])
	next := acceptN(t, srv, 1)[0]
	if got := header(next, "x-id"); got != "8" {
		t.Errorf("call %s got the free place, want 8, which waited longest", got)
	}

	late := c.Open(true, request("grpc-timeout", "100m"))
	must(t, late.WaitEnd())
	wantTrailersOnly(t, late, codes.DeadlineExceeded, "")

	for _, sv := range append(svs, next) {
		if sv != svs[3] {
			answer(sv)
		}
	}
	answer(acceptN(t, srv, 1)[0])
	for _, cl := range cls {
		must(t, cl.WaitEnd())
		wantStatus(t, cl.Text(), "0")
	}
	if v := p.stat(t, "cluster.up.upstream_rq_pending_active"); v != 0 {
		t.Errorf("upstream_rq_pending_active = %v at the end", v)
	}
}

// TestMaxStreamsBurst: the first calls that a proxy ever sends to a backend of
// grpc-go's that takes two streams per connection, sixty at once. The proxy
// cannot know the limit; calls that are refused for it are no failures.
func TestMaxStreamsBurst(t *testing.T) {
	b := startBackend(t, "narrow", grpc.MaxConcurrentStreams(2))
	p := startFixed(t, fixedConfig{ports: []int{b.port}})
	cl := echo.NewEchoClient(dial(t, p.port))
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	errs := make(chan error)
	const calls = 60
	for range calls {
		go func() {
			_, err := cl.Say(ctx, &echo.SayRequest{Text: "hi", DelayMs: 20})
			errs <- err
		}()
	}
	failed := 0
	for range calls {
		if err := <-errs; err != nil {
			failed++
			if failed == 1 {
				t.Errorf("the first failure: %v", err)
			}
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d calls failed", failed, calls)
	}
}

package worker

import (
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// TestLeast: the next connection goes to the worker with the least load,
// whichever that is.
func TestLeast(t *testing.T) {
	w := &world{t: t}
	g := NewGroup(Options{N: 4, NewDriver: func(*Worker) Driver { return &simDriver{w} }})
	for _, tt := range []struct {
		load [4]int64
		want int
	}{
		{[4]int64{0, 0, 0, 0}, 0},
		{[4]int64{1, 0, 1, 1}, 1},
		{[4]int64{9, 8, 4, 5}, 2},
		{[4]int64{9, 8, 7, 5}, 3},
		{[4]int64{3, 8, 4, 5}, 0},
	} {
		for i, n := range tt.load {
			g.workers[i].load.Store(n)
		}
		if got := g.Least().index; got != tt.want {
			t.Errorf("with loads %v it is worker %d, want %d", tt.load, got, tt.want)
		}
	}
}

// TestMaxRequests: a connection that has had max_requests_per_connection
// requests says goodbye, downstream and upstream; none of its calls is lost.
func TestMaxRequests(t *testing.T) {
	const limit = 3
	t.Run("downstream", func(t *testing.T) {
		s := newScript(t, nil, func(m *call.Manager, _ *call.UpstreamOptions) { m.MaxRequestsPerConn = limit })
		var calls []*rpc
		for range limit {
			if s.client.goawaySeen {
				t.Fatalf("GOAWAY after %d calls", len(calls))
			}
			calls = append(calls, s.call(&rpc{grpc: true}))
		}
		if !s.client.goawaySeen {
			t.Errorf("no GOAWAY after %d calls", limit)
		}
		for _, r := range calls {
			s.reply(r, 0, true, trailersOnly(r, "0")...)
			s.expect(r, "200 grpc 0")
		}
		s.finish()
	})
	t.Run("upstream", func(t *testing.T) {
		s := newScript(t, nil, func(_ *call.Manager, o *call.UpstreamOptions) { o.MaxRequests, o.MaxConnections = limit, 10 })
		conns := map[*peer]int{}
		for range 3 * limit {
			r := s.call(&rpc{grpc: true})
			p, _ := s.server(r, 0)
			conns[p]++
			s.reply(r, 0, true, trailersOnly(r, "0")...)
			s.expect(r, "200 grpc 0")
		}
		if len(conns) != 3 {
			t.Errorf("%d calls came over %d connections, want 3", 3*limit, len(conns))
		}
		for p, n := range conns {
			if n != limit || !p.goawaySeen {
				t.Errorf("a connection had %d calls, GOAWAY %v", n, p.goawaySeen)
			}
		}
		if got := s.wk.core.Counters[2][call.UpstreamCxMaxRequests]; got != 3 {
			t.Errorf("upstream_cx_max_requests = %d", got)
		}
		s.finish()
	})
}

// TestKeepaliveTimeout: a peer that does not answer the PING is given up after
// the timeout that is configured or 10 s, on both sides.
func TestKeepaliveTimeout(t *testing.T) {
	s := newScript(t, nil, nil)
	for _, tt := range []struct{ interval, timeout, want time.Duration }{
		{20 * time.Second, 0, 10 * time.Second},
		{20 * time.Second, 3 * time.Second, 3 * time.Second},
	} {
		o := call.HTTP2Options{KeepaliveInterval: tt.interval, KeepaliveTimeout: tt.timeout}
		if c := serverConfig(&call.Manager{HTTP2: o}); c.KeepaliveInterval != tt.interval || c.KeepaliveTimeout != tt.want {
			t.Errorf("downstream: every %v, for %v; want %v, %v", c.KeepaliveInterval, c.KeepaliveTimeout, tt.interval, tt.want)
		}
		if c := s.wk.clientConfig(&call.UpstreamOptions{HTTP2: o}); c.KeepaliveInterval != tt.interval || c.KeepaliveTimeout != tt.want {
			t.Errorf("upstream: every %v, for %v; want %v, %v", c.KeepaliveInterval, c.KeepaliveTimeout, tt.interval, tt.want)
		}
	}
	s.finish()
}

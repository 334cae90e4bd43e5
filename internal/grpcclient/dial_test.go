package grpcclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// longest bounds what a test waits for on a loaded machine.
const longest = 30 * time.Second

// backends is a BackendSet that gives its hosts in turn and keeps all outcomes.
type backends struct {
	hosts []*host

	mu    sync.Mutex
	picks int
	tried []int // how many hosts each Pick was told of
	ended chan call.Outcome
}

type host struct{ target call.Target }

func (h *host) Target() *call.Target { return &h.target }
func (h *host) Retired() bool        { return false }

func newBackends(targets ...call.Target) *backends {
	b := &backends{ended: make(chan call.Outcome, 100)}
	for _, t := range targets {
		b.hosts = append(b.hosts, &host{t})
	}
	return b
}

func (b *backends) Pick(c *call.Call, attempt int) (call.Host, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried = append(b.tried, len(c.Tried))
	if len(c.Tried) != attempt {
		return nil, errors.New("wrong attempt")
	}
	if len(b.hosts) == 0 {
		return nil, call.ReplyNoHealthy
	}
	h := b.hosts[b.picks%len(b.hosts)]
	b.picks++
	return h, nil
}

func (b *backends) Done(_ call.Host, o *call.Outcome) { b.ended <- *o }

// outcome waits for the next Done.
func (b *backends) outcome(t *testing.T) call.Outcome {
	t.Helper()
	select {
	case o := <-b.ended:
		return o
	case <-time.After(longest):
		t.Fatal("no outcome was reported")
		return call.Outcome{}
	}
}

// serve runs a gRPC server that answers health checks and keeps the metadata of
// the last one.
func serve(t *testing.T, network, address string) (call.Target, *authority) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	seen := &authority{}
	s := grpc.NewServer(grpc.UnaryInterceptor(seen.intercept))
	healthpb.RegisterHealthServer(s, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
	return call.Target{Network: network, Address: l.Addr().String()}, seen
}

type authority struct {
	mu   sync.Mutex
	last string
}

func (a *authority) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a.mu.Lock()
	a.last = strings.Join(md.Get(":authority"), ",")
	a.mu.Unlock()
	return next(ctx, req)
}

func (a *authority) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// deadTarget is an address on which nobody listens.
var deadTarget = call.Target{Network: "tcp", Address: "127.0.0.1:1"}

func check(t *testing.T, cc *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	_, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// The first host is dead: the same connection attempt goes to the next one, the
// failure is reported at once and the good connection when it ends.
func TestDeadHostFirst(t *testing.T) {
	good, seen := serve(t, "tcp", "127.0.0.1:0")
	b := newBackends(deadTarget, good)
	var tick clock.Nanos
	cc, err := Dial("xds_cluster", b, Options{Clock: func() clock.Nanos { tick++; return tick }})
	if err != nil {
		t.Fatal(err)
	}
	if err := check(t, cc); err != nil {
		t.Fatal(err)
	}
	if got := seen.String(); got != "xds_cluster" {
		t.Errorf("authority %q, want the cluster's name", got)
	}

	o := b.outcome(t)
	if o.Host != b.hosts[0] || o.Connected || o.MaybeSeen || o.Flags != call.UpstreamConnFailure || o.Side != call.SideUpstream || o.Code != call.Unavailable {
		t.Errorf("outcome of the dead host: %+v", o)
	}
	if len(b.ended) != 0 {
		t.Error("the good connection's end was reported while it lives")
	}
	cc.Close()
	o = b.outcome(t)
	if o.Host != b.hosts[1] || o.Attempt != 1 || !o.Connected || o.Flags != 0 || o.Code != call.OK || o.BytesIn == 0 || o.BytesOut == 0 || o.Start == 0 || o.End <= o.Start {
		t.Errorf("outcome of the good host: %+v", o)
	}
	if diff := cmp.Diff([]int{0, 1}, b.tried); diff != "" {
		t.Errorf("hosts told as tried (-want +got):\n%s", diff)
	}
}

func TestAuthorityAndUnixSocket(t *testing.T) {
	target, seen := serve(t, "unix", filepath.Join(t.TempDir(), "xds.sock"))
	cc, err := Dial("xds", newBackends(target), Options{Authority: "control.plane:18000"})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if err := check(t, cc); err != nil {
		t.Fatal(err)
	}
	if got := seen.String(); got != "control.plane:18000" {
		t.Errorf("authority %q", got)
	}
}

// When no host can be connected to, the RPC fails with all causes, after a
// bounded number of hosts.
func TestAllDead(t *testing.T) {
	b := newBackends(deadTarget)
	cc, err := Dial("xds", b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = check(t, cc)
	cc.Close()
	if status.Code(err) != codes.Unavailable || strings.Count(err.Error(), deadTarget.Address) < maxHosts {
		t.Errorf("got %v, want UNAVAILABLE and %d causes with %s", err, maxHosts, deadTarget.Address)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// The channel may be within its next attempt already.
	if n, most := len(b.ended), slices.Max(b.tried); n < maxHosts || most != maxHosts-1 {
		t.Errorf("%d outcomes, of hosts that came after up to %d others; want %d for a connection attempt", n, most, maxHosts)
	}
}

// A set without hosts answers itself.
func TestNoHosts(t *testing.T) {
	cc, err := Dial("xds", newBackends(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if err := check(t, cc); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), call.ReplyNoHealthy.Message) {
		t.Errorf("got %v, want UNAVAILABLE with %q", err, call.ReplyNoHealthy.Message)
	}
}

// Hosts that accept and then say nothing good are reported as bad.
func TestBadPeers(t *testing.T) {
	tests := []struct {
		name string
		say  string
		opts Options
	}{
		{"closes at once", "", Options{}},
		{"no TLS", "HTTP/1.1 400 Bad Request\r\n\r\n", Options{Credentials: credentials.NewTLS(&tls.Config{ServerName: "x"})}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write([]byte(tt.say))
					c.Close()
				}
			}()
			b := newBackends(call.Target{Network: "tcp", Address: l.Addr().String()})
			cc, err := Dial("xds", b, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := check(t, cc); status.Code(err) != codes.Unavailable {
				t.Errorf("got %v, want UNAVAILABLE", err)
			}
			if o := b.outcome(t); !o.Connected || o.Flags != call.UpstreamConnTerm || o.Code != call.Unavailable {
				t.Errorf("outcome: %+v", o)
			}
			cc.Close()
			l.Close()
			<-stopped
		})
	}
}

// connect_timeout bounds one connect, even to a host that is well.
func TestConnectTimeout(t *testing.T) {
	target, _ := serve(t, "tcp", "127.0.0.1:0")
	target.Options = &call.UpstreamOptions{ConnectTimeout: time.Nanosecond}
	cc, err := Dial("xds", newBackends(target), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if err := check(t, cc); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v, want UNAVAILABLE for a timeout", err)
	}
}

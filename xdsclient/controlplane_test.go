package xdsclient

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
)

// longest bounds what a test waits for on a loaded machine.
const longest = 30 * time.Second

// controlPlane is a go-control-plane server with a snapshot cache in ADS mode:
// it answers a type only when a request names all resources that the snapshot
// has of it.
type controlPlane struct {
	cache cachev3.SnapshotCache

	mu       sync.Mutex
	listener *bufconn.Listener
	server   *grpc.Server
	requests []*discoveryv3.DiscoveryRequest
	headers  metadata.MD
}

func newControlPlane(t *testing.T) *controlPlane {
	p := &controlPlane{cache: cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil)}
	p.start(t)
	return p
}

func (p *controlPlane) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	callbacks := serverv3.CallbackFuncs{
		StreamOpenFunc: func(ctx context.Context, _ int64, _ string) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.headers, _ = metadata.FromIncomingContext(ctx)
			return nil
		},
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.requests = append(p.requests, r)
			return nil
		},
	}
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, serverv3.NewServer(ctx, p.cache, callbacks))
	l := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	p.mu.Lock()
	p.listener, p.server = l, s
	p.mu.Unlock()
	t.Cleanup(func() {
		cancel()
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

func (p *controlPlane) dial() (*grpc.ClientConn, error) {
	opts := append(DialOptions(0, 0),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			p.mu.Lock()
			l := p.listener
			p.mu.Unlock()
			return l.DialContext(ctx)
		}))
	return grpc.NewClient("passthrough:///control-plane", opts...)
}

// set publishes clusters, each with an assignment of the same name.
func (p *controlPlane) set(t *testing.T, version string, clusters ...string) {
	t.Helper()
	var cds, eds []types.Resource
	for _, name := range clusters {
		cds = append(cds, &clusterv3.Cluster{
			Name:                 name,
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
				ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			}},
		})
		eds = append(eds, &endpointv3.ClusterLoadAssignment{ClusterName: name})
	}
	snap, err := cachev3.NewSnapshot(version, map[string][]types.Resource{ClusterType: cds, EndpointType: eds})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cache.SetSnapshot(t.Context(), "n", snap); err != nil {
		t.Fatal(err)
	}
}

// follower is a Handler that subscribes the assignments of all clusters it is
// told of, and passes on what it has taken in.
type follower struct {
	client *Client
	refuse string      // a version to refuse
	seen   chan string // "type version count", or "up", or "down"
}

func (f *follower) Malformed(typeURL, _ string, err error) { f.seen <- typeURL + " " + err.Error() }
func (f *follower) StreamUp()                              { f.seen <- "up" }
func (f *follower) StreamDown(_ error)                     { f.seen <- "down" }

func (f *follower) Response(r *Response) {
	var all []string
	for _, a := range r.Resources {
		if r.TypeURL == ClusterType {
			var c clusterv3.Cluster
			if err := a.UnmarshalTo(&c); err != nil {
				r.Done(err)
				return
			}
			all = append(all, c.Name)
		}
	}
	if r.Version == f.refuse {
		r.Done(errors.New("refused"))
		f.seen <- shortNames[r.TypeURL] + " refused"
		return
	}
	if r.TypeURL == ClusterType {
		f.client.Subscribe(EndpointType, Subscription{Names: all})
	}
	r.Done(nil)
	f.seen <- shortNames[r.TypeURL] + " " + r.Version + " " + string(rune('0'+len(r.Resources)))
}

func (f *follower) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-f.seen:
			if got != w {
				t.Fatalf("got %q, want %q", got, w)
			}
		case <-time.After(longest):
			t.Fatalf("nothing came, want %q", w)
		}
	}
}

func follow(t *testing.T, p *controlPlane, refuse string) *follower {
	f := &follower{refuse: refuse, seen: make(chan string, 100)}
	f.client = New(Config{
		Transport:                 &GRPC{Dial: p.dial, Metadata: metadata.Pairs("x-token", "secret")},
		Handler:                   f,
		Node:                      &corev3.Node{Id: "n"},
		SetNodeOnFirstMessageOnly: true,
		Backoff:                   Backoff{Base: 20 * time.Millisecond, Max: 20 * time.Millisecond},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

// A snapshot arrives type by type, so does the next; its clusters are followed
// by their endpoints, for which one request names all.
func TestSnapshotCache(t *testing.T) {
	p := newControlPlane(t)
	p.set(t, "1", "a", "b")
	f := follow(t, p, "")
	f.client.Subscribe(ClusterType, Subscription{Wildcard: true})
	f.expect(t, "up", "CDS 1 2", "EDS 1 2")
	p.set(t, "2", "a", "b", "c")
	f.expect(t, "CDS 2 3", "EDS 2 3")

	p.mu.Lock()
	defer p.mu.Unlock()
	if diff := cmp.Diff([]string{"secret"}, p.headers.Get("x-token")); diff != "" {
		t.Errorf("initial metadata (-want +got):\n%s", diff)
	}
	for i, r := range p.requests {
		// The server fills the node in where it was left out, so only the
		// first can be told apart.
		if i == 0 && r.GetNode().GetId() != "n" {
			t.Errorf("first request has node %v", r.Node)
		}
	}
}

// The server goes away and comes back: the client finds it again and, having
// all of the version, gets nothing until something changes.
func TestControlPlaneRestart(t *testing.T) {
	p := newControlPlane(t)
	p.set(t, "1", "a")
	f := follow(t, p, "")
	f.client.Subscribe(ClusterType, Subscription{Wildcard: true})
	f.expect(t, "up", "CDS 1 1", "EDS 1 1")
	p.mu.Lock()
	old := p.server
	p.mu.Unlock()
	old.Stop()
	f.expect(t, "down")
	p.start(t)
	for got := "down"; got != "up"; { // attempts fail until the new server listens
		select {
		case got = <-f.seen:
		case <-time.After(longest):
			t.Fatal("no reconnect")
		}
	}
	p.set(t, "2", "a", "b")
	// A server that has the new version when the stream opens answers for both
	// types at once; otherwise EDS is answered when it is named.
	saw := map[string]bool{}
	for !saw["CDS 2 2"] || !saw["EDS 2 2"] {
		select {
		case got := <-f.seen:
			saw[got] = true
		case <-time.After(longest):
			t.Fatalf("after the restart only %v came", saw)
		}
	}
	if s := f.client.Status(); s.Types[0].Accepted != "2" {
		t.Errorf("accepted CDS version %q, want 2", s.Types[0].Accepted)
	}
}

// A server that resends a refused snapshot at once is held back.
func TestRefusedSnapshotDoesNotSpin(t *testing.T) {
	p := newControlPlane(t)
	p.set(t, "bad", "a")
	f := follow(t, p, "bad")
	f.client.Subscribe(ClusterType, Subscription{Wildcard: true})
	f.expect(t, "up", "CDS refused")
	began := time.Now()
	f.expect(t, "CDS refused", "CDS refused", "CDS refused", "CDS refused")
	// The first of these answers the first NACK, which goes at once; each
	// further one follows a wait of 10 to 20 ms.
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("four more refusals within %v, want 30ms or more", took)
	}
	p.set(t, "good", "a")
	for {
		select {
		case got := <-f.seen:
			if got == "CDS good 1" {
				return
			}
		case <-time.After(longest):
			t.Fatal("the good version did not come")
		}
	}
}

// Responses may be larger than grpc-go's default limit of 4 MiB.
func TestLargeResponse(t *testing.T) {
	p := newControlPlane(t)
	big := &clusterv3.Cluster{Name: "a", AltStatName: strings.Repeat("x", 5<<20)}
	snap, err := cachev3.NewSnapshot("1", map[string][]types.Resource{ClusterType: {big}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cache.SetSnapshot(t.Context(), "n", snap); err != nil {
		t.Fatal(err)
	}
	f := follow(t, p, "")
	f.client.Subscribe(ClusterType, Subscription{Wildcard: true})
	f.expect(t, "up", "CDS 1 1")
}

// An attempt to connect that fails is told at once, with its cause.
func TestDialFailure(t *testing.T) {
	cause := errors.New("no such place")
	tr := &GRPC{Dial: func() (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///x",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, cause }))
	}}
	_, err := tr.Open(t.Context(), adsSotW)
	if err == nil || !strings.Contains(err.Error(), cause.Error()) {
		t.Errorf("got %v, want an error with %q", err, cause)
	}
}

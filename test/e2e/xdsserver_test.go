package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

// xdsServer is a control plane that checks nothing: it hands out what a test
// gives it, good or bad, and remembers the answers.
type xdsServer struct {
	port  int
	cache cachev3.SnapshotCache
	rev   int

	mu    sync.Mutex          // guards nacks
	nacks map[string][]string // type URL -> error details
}

func startXDSServer(t *testing.T) *xdsServer {
	t.Helper()
	s := &xdsServer{cache: cachev3.NewSnapshotCache(false, cachev3.IDHash{}, nil), nacks: map[string][]string{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = ln.Addr().(*net.TCPAddr).Port
	srv := grpc.NewServer()
	ctx, cancel := context.WithCancel(context.Background())
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(srv, serverv3.NewServer(ctx, s.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			if e := r.GetErrorDetail(); e != nil {
				s.mu.Lock()
				s.nacks[r.GetTypeUrl()] = append(s.nacks[r.GetTypeUrl()], e.GetMessage())
				s.mu.Unlock()
			}
			return nil
		},
	}))
	go srv.Serve(ln) // ends with Stop
	t.Cleanup(func() {
		cancel()
		srv.Stop()
	})
	return s
}

// set publishes resources, given as the YAML of a list, to a node.
func (s *xdsServer) set(t *testing.T, node string, resources ...string) {
	t.Helper()
	s.rev++
	by := map[resourcev3.Type][]types.Resource{
		resourcev3.ListenerType: nil, resourcev3.RouteType: nil, resourcev3.ClusterType: nil, resourcev3.EndpointType: nil,
	}
	for _, text := range resources {
		m := parse(t, text)
		url := "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
		by[url] = append(by[url], m)
	}
	snap, err := cachev3.NewSnapshot(fmt.Sprint(s.rev), by)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cache.SetSnapshot(context.Background(), node, snap); err != nil {
		t.Fatal(err)
	}
}

// nacked returns the error details of the NACKs for a type.
func (s *xdsServer) nacked(url string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.nacks[url]...)
}

// parse reads a YAML list of one resource.
func parse(t *testing.T, text string) proto.Message {
	t.Helper()
	j, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	j = []byte(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(j)), "["), "]"))
	a := &anypb.Any{}
	if err := protojson.Unmarshal(j, a); err != nil {
		t.Fatalf("%v in %s", err, j)
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// contains returns an error that names the first word that s has not.
func contains(s string, words ...string) error {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return fmt.Errorf("no %q in %q", w, s)
		}
	}
	return nil
}

package controlplane

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// deltaStream is the client's side of any incremental stream.
type deltaStream = grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// Forty nodes of one group share its states: half speak the incremental
// variant on a stream for clusters alone, half state of the world. All see each
// change, none waits for another; the race detector watches.
func TestFleetSharesStates(t *testing.T) {
	const nodes, changes = 40, 5
	dir := oneCluster().dir(t)
	s := serve(t, dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*longest)
	defer cancel()
	var reached [changes + 1]atomic.Int32
	var wg sync.WaitGroup
	sawCluster := func(name string) {
		for i := range reached {
			if name == fmt.Sprintf("c%d", i) {
				reached[i].Add(1)
			}
		}
	}
	sotw := func(n *corev3.Node) {
		st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).StreamAggregatedResources(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		req := &discoveryv3.DiscoveryRequest{Node: n, TypeUrl: cds}
		for st.Send(req) == nil {
			r, err := st.Recv()
			if err != nil {
				return
			}
			for _, a := range r.GetResources() {
				if m, err := a.UnmarshalNew(); err == nil {
					sawCluster(nameOf(m))
				}
			}
			req = &discoveryv3.DiscoveryRequest{TypeUrl: cds, VersionInfo: r.GetVersionInfo(), ResponseNonce: r.GetNonce()}
		}
	}
	delta := func(n *corev3.Node) {
		var st deltaStream
		st, err := clusterservicev3.NewClusterDiscoveryServiceClient(s.conn).DeltaClusters(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		req := &discoveryv3.DeltaDiscoveryRequest{Node: n} // no type URL: the stream has but one
		for st.Send(req) == nil {
			r, err := st.Recv()
			if err != nil {
				return
			}
			for _, res := range r.GetResources() {
				sawCluster(res.GetName())
			}
			req = &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: r.GetNonce()}
		}
	}
	for i := range nodes {
		n := &corev3.Node{Id: fmt.Sprint(i), Cluster: "edge"}
		wg.Go(func() {
			if i%2 == 0 {
				sotw(n)
			} else {
				delta(n)
			}
		})
	}
	for i := 1; i <= changes; i++ {
		files{"edge/clusters.yaml": resourcesYAML(clusterYAML("a"), clusterYAML(fmt.Sprintf("c%d", i)))}.write(t, dir)
		for reached[i].Load() < nodes && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // what all nodes see has no single event
		}
	}
	if ctx.Err() != nil {
		t.Errorf("not all nodes saw all changes: %d %d %d %d %d", reached[1].Load(), reached[2].Load(), reached[3].Load(), reached[4].Load(), reached[5].Load())
	}
	for _, n := range s.Nodes() {
		if n.Types[cds].Sent == "" {
			t.Errorf("node %s: status %+v", n.ID, n)
		}
	}
	cancel()
	wg.Wait()
}

// The cost of a change of 10,000 clusters' endpoints for 1,000 nodes: planning
// and handing to the cache, which no node must make dearer by hashing.
func BenchmarkPublish1000Nodes(b *testing.B) {
	list := func(weight int) *state {
		r := Resources{}
		for i := range 10_000 {
			name := fmt.Sprintf("c%d", i)
			for _, m := range resources(b, edsCluster(name, 1), assignment(name, weight)) {
				for _, res := range m {
					if err := r.add(res); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		return newState(r)
	}
	states := []*state{list(1), list(2)}
	p := newPublisher(&recorder{at: map[string]*state{}}, discardLogger())
	p.nodes = newNodes(func(string) {})
	for i := range 1000 {
		n := &corev3.Node{Id: fmt.Sprint(i), Cluster: "edge"}
		p.members[nodeKey(n)] = &member{node: n, at: states[1]}
	}
	i := 0
	for b.Loop() {
		g := &Group{Name: "edge", Nodes: NodeMatch{Clusters: []string{"edge"}}, state: states[i%2]}
		p.handle(b.Context(), event{groups: revisions{{Group: g}}})
		i++
	}
}

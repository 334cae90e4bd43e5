package xdsconfig

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// max_pending_requests and max_connections reach the hosts as they are: zero
// is none, not the default.
func TestConnectionLimits(t *testing.T) {
	m := &clusterv3.Cluster{Name: "a", CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
		{MaxPendingRequests: wrapperspb.UInt32(0), MaxConnections: wrapperspb.UInt32(1)},
	}}}
	compiled, err := CompileCluster(m, &Env{})
	if err != nil {
		t.Fatal(err)
	}
	cl := cluster.New(compiled.Config)
	cl.Update(&cluster.Assignment{Localities: []cluster.Locality{{Endpoints: []cluster.Endpoint{{Network: "tcp", Address: "10.0.0.1:80"}}}}})
	h, err := cl.Pick(newCall(testCall{}), 0)
	if err != nil {
		t.Fatal(err)
	}
	l := h.Target().Limits
	if l.Pending.Acquire() {
		t.Error("a request may wait")
	}
	if !l.Connections.Acquire() || l.Connections.Acquire() {
		t.Error("not one connection")
	}
	if n := cl.Counts().Connections; n != 1 {
		t.Errorf("%d connections are counted", n)
	}
}

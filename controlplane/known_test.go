package controlplane

import (
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
)

// The cache by itself, at the state "a" and with a client whose requests the
// test writes.
func knownAt(t *testing.T) (*knownCache, *state) {
	t.Helper()
	c := &knownCache{cachev3.NewSnapshotCache(false, keyHash{}, nil)}
	st := newState(resources(t, edsCluster("a", 1), assignment("a", 1), assignment("b", 1)))
	if err := c.SetSnapshot(t.Context(), nodeKey(testNode), st); err != nil {
		t.Fatal(err)
	}
	return c, st
}

func refusalOf(url, nonce string) *discoveryv3.DiscoveryRequest {
	return &discoveryv3.DiscoveryRequest{Node: testNode, TypeUrl: url, ResponseNonce: nonce, VersionInfo: "before", ErrorDetail: &status.Status{Message: "no"}}
}

// A refused version is sent again after a while, once per refusal.
func TestRefusedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, st := knownAt(t)
		value := make(chan cachev3.Response, 1)
		sub := stream.NewSotwSubscription(nil, true)
		sub.SetReturnedResources(map[string]string{"a": st.GetVersion(cds)})
		cancel, err := c.CreateWatch(refusalOf(cds, "1"), sub, value)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(refusedAgain - 1) // of the bubble
		synctest.Wait()
		if len(value) != 0 {
			t.Fatal("sent again too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if len(value) != 1 {
			t.Fatal("not sent again")
		}
		if r := <-value; r.GetResponseVersion() != st.GetVersion(cds) {
			t.Errorf("version %s, want %s", r.GetResponseVersion(), st.GetVersion(cds))
		}
		time.Sleep(10 * refusedAgain)
		synctest.Wait()
		if len(value) != 0 {
			t.Error("sent again without a refusal")
		}
		cancel()
	})
}

// A parked watch is answered when the version changes, and then no more; a
// cancelled one never.
func TestParkedWatch(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, st := knownAt(t)
			value := make(chan cachev3.Response, 1)
			sub := stream.NewSotwSubscription([]string{"a"}, true)
			sub.SetReturnedResources(map[string]string{"a": st.GetVersion(eds)})
			req := refusalOf(eds, "1")
			req.ResourceNames = []string{"a"}
			cancel, err := c.CreateWatch(req, sub, value)
			if err != nil {
				t.Fatal(err)
			}
			if cancelled {
				cancel()
			}
			next := newState(resources(t, assignment("a", 2)))
			if err := c.SetSnapshot(t.Context(), nodeKey(testNode), next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * refusedAgain) // with the answer still in the channel
			synctest.Wait()
			if want := map[bool]int{false: 1, true: 0}[cancelled]; len(value) != want {
				t.Errorf("cancelled %v: %d answers, want %d", cancelled, len(value), want)
			}
			cancel()
		})
	}
}

// What a client has is not sent on its first request if it is all there is;
// with names it is, because the version does not tell which it had.
func TestFirstRequest(t *testing.T) {
	c, st := knownAt(t)
	tests := []struct {
		name    string
		url     string
		version string
		names   []string
		want    int
	}{
		{"all, the same version", cds, st.GetVersion(cds), nil, 0},
		{"all, another version", cds, "x", nil, 1},
		{"all, explicitly", cds, st.GetVersion(cds), []string{"*"}, 0},
		{"all, explicitly, another version", cds, "x", []string{"*"}, 1},
		{"names, the same version", eds, st.GetVersion(eds), []string{"a"}, 1},
		{"names that do not exist, the same version", eds, st.GetVersion(eds), []string{"x"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			value := make(chan cachev3.Response, 1)
			req := &discoveryv3.DiscoveryRequest{Node: testNode, TypeUrl: tt.url, VersionInfo: tt.version, ResourceNames: tt.names}
			cancel, err := c.CreateWatch(req, stream.NewSotwSubscription(tt.names, true), value)
			if err != nil {
				t.Fatal(err)
			}
			defer cancel()
			if len(value) != tt.want {
				t.Errorf("%d responses, want %d", len(value), tt.want)
			}
		})
	}
}

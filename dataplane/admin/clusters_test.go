package admin

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/xdsconfig"
)

// clusterList is a Config that has clusters only.
type clusterList struct {
	Config
	all iter.Seq[xdsconfig.ClusterStatus]
}

func (c *clusterList) Clusters() iter.Seq[xdsconfig.ClusterStatus] { return c.all }

func askClusters(w http.ResponseWriter, all iter.Seq[xdsconfig.ClusterStatus], query string) {
	h := New(Options{Config: &clusterList{all: all}})
	h.ServeHTTP(w, httptest.NewRequest("GET", "/clusters?"+query, nil))
}

// TestClusters compares /clusters with the whole envoy.admin.v3.Clusters, as JSON
// and line by line.
func TestClusters(t *testing.T) {
	for seed := range uint64(50) {
		list := randomClusters(rand.New(rand.NewPCG(seed, 2)))
		whole := &adminv3.Clusters{}
		for _, c := range list {
			if c.Serving {
				whole.ClusterStatuses = append(whole.ClusterStatuses, clusterStatus(&c))
			}
		}
		want := httptest.NewRecorder()
		writeProto(want, whole)
		for query, want := range map[string]string{"format=json": want.Body.String(), "": clustersText(whole)} {
			got := httptest.NewRecorder()
			askClusters(got, slices.Values(list), query)
			if diff := cmp.Diff(want, got.Body.String()); diff != "" {
				t.Errorf("seed %d, %q: -want +got:\n%s", seed, query, diff)
			}
		}
	}
}

func randomClusters(rnd *rand.Rand) (out []xdsconfig.ClusterStatus) {
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	number := func() uint64 { return rnd.Uint64N(2) * rnd.Uint64N(1<<40) }
	limits := func() cluster.Thresholds {
		return cluster.Thresholds{MaxConnections: rnd.Uint32(), MaxPending: rnd.Uint32N(2), MaxRequests: rnd.Uint32(), MaxRetries: 3}
	}
	for i := range rnd.IntN(4) {
		c := xdsconfig.ClusterStatus{
			Unit:     xdsconfig.Unit{Name: fmt.Sprint(one("web", "<&>", "é\"\\"), i), Serving: rnd.IntN(5) > 0, Static: rnd.IntN(2) == 0},
			StatName: one("", "alt"), EDSService: one("", "ns/web"), Default: limits(), High: limits(),
		}
		for range rnd.IntN(4) {
			c.Hosts = append(c.Hosts, cluster.HostStatus{
				Address:  one("10.0.0.1:80", "[::1]:80", "[::0:1]:81", "[::ffff:1.2.3.4]:80", "[fe80::1%eth0]:80", "/run/a.sock", "@b"),
				Hostname: one("", "h"), Region: one("", "r"), Zone: one("", "z"), SubZone: one("", "s"),
				Priority: rnd.Uint32N(3), Weight: rnd.Uint32N(3), Health: cluster.Health(rnd.IntN(6)),
				Active: int64(number()) - 1, Total: number(), Errors: number(), ConnectErrors: number(), Successes: number(),
				Timeouts: number(), Connections: int64(number()) - 1, ConnectionsTotal: number(), Pending: int64(number()) - 1,
			})
		}
		out = append(out, c)
	}
	return out
}

// clustersText writes the message in Envoy's lines.
func clustersText(m *adminv3.Clusters) string {
	var b strings.Builder
	for _, c := range m.GetClusterStatuses() {
		fmt.Fprintf(&b, "%s::observability_name::%s\n", c.GetName(), c.GetObservabilityName())
		for _, t := range c.GetCircuitBreakers().GetThresholds() {
			p := strings.ToLower(t.GetPriority().String())
			fmt.Fprintf(&b, "%s::%s_priority::max_connections::%d\n", c.GetName(), p, t.GetMaxConnections().GetValue())
			fmt.Fprintf(&b, "%s::%s_priority::max_pending_requests::%d\n", c.GetName(), p, t.GetMaxPendingRequests().GetValue())
			fmt.Fprintf(&b, "%s::%s_priority::max_requests::%d\n", c.GetName(), p, t.GetMaxRequests().GetValue())
			fmt.Fprintf(&b, "%s::%s_priority::max_retries::%d\n", c.GetName(), p, t.GetMaxRetries().GetValue())
		}
		fmt.Fprintf(&b, "%s::added_via_api::%t\n", c.GetName(), c.GetAddedViaApi())
		if s := c.GetEdsServiceName(); s != "" {
			fmt.Fprintf(&b, "%s::eds_service_name::%s\n", c.GetName(), s)
		}
		for _, hs := range c.GetHostStatuses() {
			prefix := c.GetName() + "::" + protoText(hs.GetAddress()) + "::"
			for _, s := range hs.GetStats() {
				fmt.Fprintf(&b, "%s%s::%d\n", prefix, s.GetName(), s.GetValue())
			}
			fmt.Fprintf(&b, "%shostname::%s\n", prefix, hs.GetHostname())
			fmt.Fprintf(&b, "%shealth_flags::%s\n", prefix, healthFlags[hs.GetHealthStatus().GetEdsHealthStatus()])
			fmt.Fprintf(&b, "%sweight::%d\n", prefix, hs.GetWeight())
			fmt.Fprintf(&b, "%sregion::%s\n", prefix, hs.GetLocality().GetRegion())
			fmt.Fprintf(&b, "%szone::%s\n", prefix, hs.GetLocality().GetZone())
			fmt.Fprintf(&b, "%ssub_zone::%s\n", prefix, hs.GetLocality().GetSubZone())
			fmt.Fprintf(&b, "%scanary::false\n", prefix)
			fmt.Fprintf(&b, "%spriority::%d\n", prefix, hs.GetPriority())
			fmt.Fprintf(&b, "%ssuccess_rate::-1\n%slocal_origin_success_rate::-1\n", prefix, prefix)
		}
	}
	return b.String()
}

func protoText(a *corev3.Address) string {
	if p := a.GetPipe(); p != nil {
		return p.GetPath()
	}
	sa := a.GetSocketAddress()
	return net.JoinHostPort(sa.GetAddress(), strconv.FormatUint(uint64(sa.GetPortValue()), 10))
}

// TestClustersAreWrittenAsTheyCome: no more of the page is kept than is written
// at once, and nobody goes on for a client that is gone.
func TestClustersAreWrittenAsTheyCome(t *testing.T) {
	for _, query := range []string{"", "format=json"} {
		for _, gone := range []bool{false, true} {
			rec := &recorder{ResponseRecorder: httptest.NewRecorder(), gone: gone}
			seen := 0
			askClusters(rec, func(yield func(xdsconfig.ClusterStatus) bool) {
				c := xdsconfig.ClusterStatus{Unit: xdsconfig.Unit{Name: "web", Serving: true}, Hosts: make([]cluster.HostStatus, 10)}
				for range 1000 {
					if seen++; !yield(c) {
						return
					}
					if !gone && rec.Body.Len() < (seen-20)*1000 { // each is longer than that
						t.Fatalf("%q: after %d clusters %d bytes were written", query, seen, rec.Body.Len())
					}
				}
			}, query)
			if gone && seen > 100 {
				t.Errorf("%q: %d clusters for a client that is gone", query, seen)
			}
		}
	}
}

// recorder is a client that may be gone.
type recorder struct {
	*httptest.ResponseRecorder
	gone bool
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.gone {
		return 0, net.ErrClosed
	}
	return r.ResponseRecorder.Write(b)
}

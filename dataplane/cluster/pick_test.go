package cluster

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

func TestRoundRobinIsExact(t *testing.T) {
	rnd := random(1)
	for _, test := range []struct {
		weights []uint32
		want    map[string]int // of 600 picks
	}{
		{[]uint32{1, 1, 1}, map[string]int{"h0:1": 200, "h1:1": 200, "h2:1": 200}},
		{[]uint32{1, 2, 3}, map[string]int{"h0:1": 100, "h1:1": 200, "h2:1": 300}},
		{[]uint32{90, 10}, map[string]int{"h0:1": 540, "h1:1": 60}},
		{[]uint32{0, 1}, map[string]int{"h0:1": 300, "h1:1": 300}}, // no weight is 1
	} {
		c := newCluster(t, unlimited(Policy{Kind: RoundRobin}), weighted(test.weights...))
		if diff := cmp.Diff(test.want, picks(t, c, 600, rnd)); diff != "" {
			t.Errorf("weights %v (-want +got):\n%s", test.weights, diff)
		}
	}
}

// Shares by weight with no requests active, within five standard deviations.
func TestSharesByWeight(t *testing.T) {
	const n = 50_000
	for _, test := range []struct {
		policy Policy
		counts []uint32 // weights
	}{
		{Policy{Kind: Random}, []uint32{1, 1, 1, 1, 1}},
		{Policy{Kind: Random}, []uint32{1, 2, 3, 4, 90}},
		{Policy{Kind: RoundRobin}, []uint32{1, 20_000, 30_001, 7, 10_000}},
		{Policy{Kind: LeastRequest}, []uint32{1, 1}},
		{Policy{Kind: LeastRequest}, []uint32{1, 1, 1, 1, 1}},
		{Policy{Kind: LeastRequest}, []uint32{1, 3}},
		{Policy{Kind: LeastRequest}, []uint32{1, 2, 3, 4, 90}},
		{Policy{Kind: LeastRequest, ChoiceCount: 5}, []uint32{1, 2, 3, 4, 90}},
		{Policy{Kind: LeastRequest, ChoiceCount: 100}, []uint32{1, 2, 3}},
	} {
		t.Run(fmt.Sprintf("%v/%d/%v", test.policy.Kind, test.policy.ChoiceCount, test.counts), func(t *testing.T) {
			var sum float64
			for _, w := range test.counts {
				sum += float64(w)
			}
			got := picks(t, newCluster(t, unlimited(test.policy), weighted(test.counts...)), n, random(2))
			for i, w := range test.counts {
				p := float64(w) / sum
				share := float64(got[fmt.Sprintf("h%d:1", i)])
				if math.Abs(share-n*p) > 5*math.Sqrt(n*p*(1-p))+1 {
					t.Errorf("host %d of weight %d: %v picks, want %.0f", i, w, share, n*p)
				}
			}
		})
	}
}

func TestLeastRequest(t *testing.T) {
	const n = 20_000
	half := 0.5
	for _, test := range []struct {
		name    string
		policy  Policy
		weights []uint32
		active  []int64
		want    []float64 // shares
	}{
		// Three hosts, two choices with replacement: the busiest is chosen if drawn twice.
		{"the less busy of two", Policy{Kind: LeastRequest}, []uint32{1, 1, 1}, []int64{2, 1, 0}, []float64{1. / 9, 3. / 9, 5. / 9}},
		{"no more hosts than choices: all", Policy{Kind: LeastRequest, ChoiceCount: 3}, []uint32{1, 1, 1}, []int64{2, 1, 0}, []float64{0, 0, 1}},
		{"equals share", Policy{Kind: LeastRequest, ChoiceCount: 3}, []uint32{1, 1, 1}, []int64{2, 1, 1}, []float64{0, .5, .5}},
		{"weight/(active+1)", Policy{Kind: LeastRequest}, []uint32{3, 1}, []int64{2, 0}, []float64{.5, .5}},
		{"weight/(active+1)^0.5", Policy{Kind: LeastRequest, Bias: &half}, []uint32{3, 1}, []int64{8, 0}, []float64{.5, .5}},
		{"bias 0: weight alone", Policy{Kind: LeastRequest, Bias: new(float64)}, []uint32{3, 1}, []int64{99, 0}, []float64{.75, .25}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, unlimited(test.policy), weighted(test.weights...))
			for i, a := range test.active {
				c.host(fmt.Sprintf("h%d:1", i)).active.Store(a)
			}
			got := picks(t, c, n, random(3))
			for i, p := range test.want {
				if share := float64(got[fmt.Sprintf("h%d:1", i)]) / n; math.Abs(share-p) > .02 {
					t.Errorf("host %d: share %.3f, want %.3f", i, share, p)
				}
			}
		})
	}
}

// The table of Envoy's documentation, "Locality weighted load balancing": X has
// weight 1, Y weight 2 and all of its hosts.
func TestLocalityWeights(t *testing.T) {
	for _, test := range []struct {
		healthy int // of X, percent
		x       int // percent of the calls
	}{{100, 33}, {70, 33}, {69, 33}, {50, 26}, {25, 15}, {0, 0}} {
		a := &Assignment{Localities: []Locality{{Zone: "x", Weight: 1}, {Zone: "y", Weight: 2}}}
		for i := range 100 {
			health := HealthUnhealthy
			if i < test.healthy {
				health = HealthHealthy
			}
			a.Localities[0].Endpoints = append(a.Localities[0].Endpoints, ep(fmt.Sprintf("x%d", i), 1, health))
		}
		a.Localities[1].Endpoints = []Endpoint{ep("y", 1000, HealthHealthy)}
		cfg := unlimited(Policy{})
		cfg.LocalityWeighted = true
		none := uint32(0)
		cfg.PanicThreshold = &none
		c := newCluster(t, cfg, a)
		const n = 60_000
		x := n - picks(t, c, n, random(4))["y"]
		if got := 100 * float64(x) / n; math.Abs(got-float64(test.x)) > 1 {
			t.Errorf("%d %% of X healthy: %.1f %% of the calls, want %d", test.healthy, got, test.x)
		}
	}
}

// Localities without weight get nothing; if none has weight they do not count.
func TestLocalityWithoutWeight(t *testing.T) {
	a := func(x, y uint32) *Assignment {
		return &Assignment{Localities: []Locality{
			{Zone: "x", Weight: x, Endpoints: []Endpoint{ep("x", 1, HealthHealthy)}},
			{Zone: "y", Weight: y, Endpoints: []Endpoint{ep("y", 3, HealthHealthy)}},
		}}
	}
	cfg := unlimited(Policy{})
	cfg.LocalityWeighted = true
	c := newCluster(t, cfg, a(0, 1))
	if diff := cmp.Diff(map[string]int{"y": 400}, picks(t, c, 400, random(5))); diff != "" {
		t.Errorf("x has no weight (-want +got):\n%s", diff)
	}
	c.Update(a(0, 0))
	if diff := cmp.Diff(map[string]int{"x": 100, "y": 300}, picks(t, c, 400, random(5))); diff != "" {
		t.Errorf("none has weight (-want +got):\n%s", diff)
	}
}

func TestHealthDecides(t *testing.T) {
	none := uint32(0)
	all := level0(ep("unknown", 1, HealthUnknown), ep("healthy", 1, HealthHealthy), ep("unhealthy", 1, HealthUnhealthy),
		ep("draining", 1, HealthDraining), ep("timeout", 1, HealthTimeout), ep("degraded", 1, HealthDegraded), ep("odd", 1, 99))
	down := level0(ep("draining", 1, HealthDraining), ep("timeout", 1, HealthTimeout))
	for _, test := range []struct {
		name   string
		cfg    Config
		assign *Assignment
		want   []string
		err    error
	}{
		{"panic disabled", Config{PanicThreshold: &none}, all, []string{"unknown", "healthy", "degraded"}, nil},
		{"panic", Config{}, all, []string{"unknown", "healthy", "unhealthy", "draining", "timeout", "degraded", "odd"}, nil},
		{"panic fails", Config{FailTrafficOnPanic: true}, all, nil, call.ReplyNoHealthy},
		{"all down", Config{}, down, []string{"draining", "timeout"}, nil},
		{"all down, panic disabled", Config{PanicThreshold: &none}, down, nil, call.ReplyNoHealthy},
		{"empty", Config{}, &Assignment{}, nil, call.ReplyNoHealthy},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, test.cfg, test.assign)
			if test.err != nil {
				if h, err := c.Pick(&call.Call{}, 0); !errors.Is(err, test.err) || h != nil {
					t.Fatalf("Pick = %v, %v, want %v", h, err, test.err)
				}
				if n := c.Counts().Requests; n != 0 {
					t.Errorf("%d active requests after a pick that failed", n)
				}
				return
			}
			want := make(map[string]bool)
			for _, w := range test.want {
				want[w] = true
			}
			got := make(map[string]bool)
			for address := range picks(t, c, 2000, random(6)) {
				got[address] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("picked (-want +got):\n%s", diff)
			}
		})
	}
}

// A repeated attempt avoids the hosts tried, wherever the others are.
func TestRetryAvoidsTried(t *testing.T) {
	rnd := random(7)
	twoLevels := level0(ep("a", 1000, HealthHealthy), ep("b", 1, HealthDegraded), ep("c", 1, HealthUnhealthy), ep("d", 1, HealthUnhealthy))
	for _, kind := range []PolicyKind{RoundRobin, LeastRequest, Random} {
		for _, test := range []struct {
			name  string
			a     *Assignment
			tried []string
			want  string // "": any of the tried
		}{
			{"another host", weighted(1_000_000, 1), []string{"h0:1"}, "h1:1"},
			{"the last one", weighted(1, 1, 1, 1), []string{"h0:1", "h2:1", "h3:1"}, "h1:1"},
			{"a degraded one", twoLevels, []string{"a"}, "b"},
			{"no other", twoLevels, []string{"a", "b"}, ""},
			{"tried twice", weighted(1, 1), []string{"h0:1", "h0:1"}, "h1:1"},
		} {
			c := newCluster(t, unlimited(Policy{Kind: kind}), test.a)
			cl := &call.Call{}
			was := make(map[string]bool)
			for _, address := range test.tried {
				cl.Tried = append(cl.Tried, c.host(address))
				was[address] = true
			}
			for range 200 {
				cl.Draw = rnd.Uint64()
				h, err := c.Pick(cl, 1)
				if err != nil {
					t.Fatal(err)
				}
				if got := h.Target().Address; test.want != "" && got != test.want || test.want == "" && !was[got] {
					t.Fatalf("%v, %s: picked %s, want %q", kind, test.name, got, test.want)
				}
				c.Done(h, nil)
			}
		}
	}
}

// A retry that has alternatives keeps their shares: 3 to 1, but for the 3 %
// that drew the tried host each time.
func TestRetryKeepsShares(t *testing.T) {
	const n = 40_000
	c := newCluster(t, unlimited(Policy{Kind: Random}), weighted(3, 3, 1))
	rnd := random(8)
	got := make(map[string]int)
	for range n {
		h, _ := c.Pick(&call.Call{Draw: rnd.Uint64(), Tried: []call.Host{c.host("h0:1")}}, 1)
		got[h.Target().Address]++
	}
	if share := float64(got["h1:1"]) / n; math.Abs(share-.75) > .015 {
		t.Errorf("picks %v, want h1 three times as often as h2", got)
	}
}

func TestFirstAttemptIgnoresTried(t *testing.T) {
	c := newCluster(t, unlimited(Policy{}), equalHosts(2))
	tried := []call.Host{c.host("h0:1")}
	got := make(map[string]int)
	for range 100 {
		h, _ := c.Pick(&call.Call{Tried: tried}, 0)
		got[h.Target().Address]++
	}
	if got["h0:1"] != 50 {
		t.Errorf("picks %v, want both alike", got)
	}
}

func TestDropOverloads(t *testing.T) {
	a := equalHosts(1)
	a.DropOverloads = []DropOverload{{"throttle", 200_000}, {"lb", 500_000}}
	c := newCluster(t, unlimited(Policy{}), a)
	rnd := random(9)
	const n = 50_000
	dropped := 0
	for range n {
		switch _, err := c.Pick(&call.Call{Draw: rnd.Uint64()}, 0); {
		case err == nil:
		case errors.Is(err, call.ReplyDropOverload) && !errors.Is(err, call.ReplyDropAll):
			dropped++
		default:
			t.Fatal(err)
		}
		if _, err := c.Pick(&call.Call{Draw: rnd.Uint64()}, 1); err != nil {
			t.Fatalf("retry: %v", err)
		}
	}
	// 0.2, and half of the other 0.8.
	if share := float64(dropped) / n; math.Abs(share-.6) > .01 || c.Counts().Dropped != uint64(dropped) {
		t.Errorf("dropped %.3f, counted %d, want 0.6", share, c.Counts().Dropped)
	}
	a = equalHosts(1)
	a.DropOverloads = []DropOverload{{"all", 1_000_000}}
	c.Update(a)
	for range 1000 {
		if _, err := c.Pick(&call.Call{Draw: rnd.Uint64()}, 0); !errors.Is(err, call.ReplyDropOverload) || !errors.Is(err, call.ReplyDropAll) {
			t.Fatalf("all are to be dropped: %v", err)
		}
	}
}

func TestMaxRequests(t *testing.T) {
	c := newCluster(t, Config{Breakers: Breakers{Default: &Thresholds{MaxRequests: 3, MaxRetries: 1}}}, equalHosts(2))
	var hosts []call.Host
	for range 3 {
		h, err := c.Pick(&call.Call{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	for range 2 {
		if h, err := c.Pick(&call.Call{}, 0); !errors.Is(err, call.ReplyOverflow) || h != nil {
			t.Fatalf("the fourth: %v, %v", h, err)
		}
	}
	c.Done(hosts[0], &call.Outcome{})
	if _, err := c.Pick(&call.Call{}, 0); err != nil {
		t.Errorf("after one was done: %v", err)
	}
	h := hosts[0].(*Host)
	if !h.AcquireRetry() || h.AcquireRetry() {
		t.Error("of two retries not just the first was allowed")
	}
	want := Counts{Requests: 3, Overflow: 2, Retries: 1, RetryOverflow: 1}
	if diff := cmp.Diff(want, c.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	h.ReleaseRetry()
	if !h.AcquireRetry() {
		t.Error("a released retry is not free")
	}

	closed := newCluster(t, Config{Breakers: Breakers{Default: &Thresholds{}}}, equalHosts(1))
	if _, err := closed.Pick(&call.Call{}, 0); !errors.Is(err, call.ReplyOverflow) {
		t.Errorf("max_requests 0: %v", err)
	}
	if def, high := New(Config{}).Thresholds(); def != DefaultThresholds() || high != DefaultThresholds() {
		t.Errorf("defaults %+v, %+v", def, high)
	}
}

func TestDoneCounts(t *testing.T) {
	c := newCluster(t, Config{}, equalHosts(1))
	for _, test := range []struct {
		name             string
		o                *call.Outcome
		errors, connects uint64
	}{
		{"unknown", nil, 0, 0},
		{"OK", &call.Outcome{HasCode: true, HTTP: 200}, 0, 0},
		{"NotFound is an answer", &call.Outcome{HasCode: true, Code: call.NotFound, HTTP: 200}, 0, 0},
		{"Unavailable", &call.Outcome{HasCode: true, Code: call.Unavailable, HTTP: 200}, 1, 0},
		{"a code beyond all", &call.Outcome{HasCode: true, Code: 1 << 20}, 0, 0},
		{"no code", &call.Outcome{Code: call.Unknown, HTTP: 200}, 0, 0},
		{"HTTP 503", &call.Outcome{HTTP: 503}, 1, 0},
		{"reset", &call.Outcome{Flags: call.UpstreamRemoteReset, Side: call.SideUpstream}, 1, 0},
		{"not connected", &call.Outcome{Flags: call.UpstreamConnFailure, Side: call.SideUpstream}, 1, 1},
		{"the client left", &call.Outcome{Flags: call.DownstreamRemoteReset, Side: call.SideDownstream, HTTP: 503}, 0, 0},
	} {
		before := c.Hosts()[0]
		h, err := c.Pick(&call.Call{}, 0)
		if err != nil || c.Hosts()[0].Active != 1 {
			t.Fatal(err, c.Hosts())
		}
		c.Done(h, test.o)
		after := c.Hosts()[0]
		if after.Errors-before.Errors != test.errors || after.ConnectErrors-before.ConnectErrors != test.connects ||
			after.Total != before.Total+1 || after.Active != 0 {
			t.Errorf("%s: before %+v, after %+v", test.name, before, after)
		}
	}
}

package discovery

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fakeDNS answers from a table that a test changes while the Resolver runs. A
// name that is not there fails.
type fakeDNS struct {
	mu      sync.Mutex // guards all below
	answers map[string]fakeAnswer
	queries []query
}

type fakeAnswer struct {
	v4, v6 []string
	ttl    time.Duration
	err    error // of both families
	hang   bool  // until the look-up is given up
}

type query struct {
	at   time.Duration // since the test's start
	name string
	v6   bool
}

func newFakeDNS(answers map[string]fakeAnswer) *fakeDNS {
	f := &fakeDNS{answers: make(map[string]fakeAnswer)}
	maps.Copy(f.answers, answers)
	return f
}

func (f *fakeDNS) set(name string, a fakeAnswer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[name] = a
}

func (f *fakeDNS) Lookup(ctx context.Context, name string, v6 bool) (Answer, error) {
	f.mu.Lock()
	a, ok := f.answers[name]
	f.queries = append(f.queries, query{time.Since(epoch), name, v6})
	f.mu.Unlock()
	switch {
	case !ok:
		return Answer{}, errors.New("SERVFAIL")
	case a.hang:
		<-ctx.Done()
		return Answer{}, ctx.Err()
	case a.err != nil:
		return Answer{}, a.err
	}
	out := Answer{TTL: a.ttl}
	from := a.v4
	if v6 {
		from = a.v6
	}
	for _, s := range from {
		out.Addrs = append(out.Addrs, netip.MustParseAddr(s))
	}
	return out, nil
}

// times returns when name was asked for, in one family.
func (f *fakeDNS) times(name string) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var at []time.Duration
	for _, q := range f.queries {
		if q.name == name && !q.v6 {
			at = append(at, q.at)
		}
	}
	return at
}

// epoch is where the time of a synctest bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// watcher keeps what a Resolver tells. The script holds mu but while it lets
// time pass.
type watcher struct {
	mu      sync.Mutex
	updates []*cluster.Assignment
	firsts  []error
	order   []string
}

func (w *watcher) update(a *cluster.Assignment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updates = append(w.updates, a)
	w.order = append(w.order, "update")
}

func (w *watcher) first(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.firsts = append(w.firsts, err)
	w.order = append(w.order, "first")
}

// addresses returns the addresses of the last update, by locality.
func (w *watcher) addresses() [][]string {
	var out [][]string
	for _, l := range w.updates[len(w.updates)-1].Localities {
		var in []string
		for _, e := range l.Endpoints {
			in = append(in, e.Address)
		}
		out = append(out, in)
	}
	return out
}

func endpoints(addresses ...string) *cluster.Assignment {
	var l cluster.Locality
	for _, a := range addresses {
		l.Endpoints = append(l.Endpoints, cluster.Endpoint{Address: a})
	}
	return &cluster.Assignment{Localities: []cluster.Locality{l}}
}

// resolve runs a Resolver in a bubble while script sleeps through its time and
// looks; nothing of the Resolver runs while the script does.
func resolve(t *testing.T, cfg Config, dns *fakeDNS, script func(w *watcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Lookup = dns
		w := new(watcher)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(cfg, w.update, w.first).Run(ctx)
		}()
		synctest.Wait()
		w.mu.Lock()
		script(w)
		w.mu.Unlock()
		cancel()
		<-done
	})
}

// pass lets d pass in a bubble and everything settle.
func (w *watcher) pass(d time.Duration) {
	w.mu.Unlock()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
}

func TestStrictDNS(t *testing.T) {
	dns := newFakeDNS(map[string]fakeAnswer{"a.test": {v4: []string{"10.0.0.2", "10.0.0.1", "10.0.0.2"}}})
	cfg := Config{Family: V4Only, Assignment: &cluster.Assignment{
		Overprovisioning: 120,
		Localities: []cluster.Locality{{
			Zone: "z", Weight: 3,
			Endpoints: []cluster.Endpoint{{Address: "a.test:80", Weight: 7}, {Address: "a.test:81", Hostname: "own"}},
		}, {
			Priority:  1,
			Endpoints: []cluster.Endpoint{{Address: "192.0.2.1:82"}, {Network: "unix", Address: "/run/x"}},
		}},
	}}
	resolve(t, cfg, dns, func(w *watcher) {
		// The numeric ones first, then all; each host takes after its endpoint.
		want := &cluster.Assignment{
			Overprovisioning: 120,
			Localities: []cluster.Locality{{
				Zone: "z", Weight: 3,
				Endpoints: []cluster.Endpoint{
					{Address: "10.0.0.1:80", Hostname: "a.test", Weight: 7},
					{Address: "10.0.0.2:80", Hostname: "a.test", Weight: 7},
					{Address: "10.0.0.1:81", Hostname: "own"},
					{Address: "10.0.0.2:81", Hostname: "own"},
				},
			}, {
				Priority:  1,
				Endpoints: []cluster.Endpoint{{Address: "192.0.2.1:82"}, {Network: "unix", Address: "/run/x"}},
			}},
		}
		if diff := cmp.Diff(want, w.updates[len(w.updates)-1]); diff != "" {
			t.Errorf("assignment (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"update", "update", "first"}, w.order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if w.firsts[0] != nil {
			t.Errorf("first: %v", w.firsts[0])
		}
		// The name is asked for once although two endpoints have it, and again
		// after the default of 5 s. Another order of the same answer is no news.
		dns.set("a.test", fakeAnswer{v4: []string{"10.0.0.1", "10.0.0.2"}})
		w.pass(12 * time.Second)
		if diff := cmp.Diff([]time.Duration{0, 5 * time.Second, 10 * time.Second}, dns.times("a.test")); diff != "" {
			t.Errorf("look-ups (-want +got):\n%s", diff)
		}
		if len(w.updates) != 2 {
			t.Errorf("%d updates, want 2", len(w.updates))
		}
		dns.set("a.test", fakeAnswer{v4: []string{"10.0.0.3"}})
		w.pass(5 * time.Second)
		if diff := cmp.Diff([][]string{{"10.0.0.3:80", "10.0.0.3:81"}, {"192.0.2.1:82", "/run/x"}}, w.addresses()); diff != "" {
			t.Errorf("after a change (-want +got):\n%s", diff)
		}
	})
}

// A failure keeps the addresses; an answer that there are none takes them.
func TestFailureKeepsLastGood(t *testing.T) {
	dns := newFakeDNS(map[string]fakeAnswer{"a.test": {v4: []string{"10.0.0.1"}}})
	resolve(t, Config{Assignment: endpoints("a.test:80")}, dns, func(w *watcher) {
		dns.set("a.test", fakeAnswer{err: errors.New("SERVFAIL")})
		w.pass(time.Minute)
		if len(w.updates) != 1 {
			t.Fatalf("%d updates, want 1: a failure is none", len(w.updates))
		}
		dns.set("a.test", fakeAnswer{})
		w.pass(5 * time.Second)
		if diff := cmp.Diff([][]string{nil}, w.addresses()); diff != "" {
			t.Errorf("after an empty answer (-want +got):\n%s", diff)
		}
		dns.set("a.test", fakeAnswer{v4: []string{"10.0.0.1"}})
		w.pass(5 * time.Second)
		if diff := cmp.Diff([][]string{{"10.0.0.1:80"}}, w.addresses()); diff != "" {
			t.Errorf("after it came back (-want +got):\n%s", diff)
		}
		if len(w.firsts) != 1 {
			t.Errorf("first was called %d times", len(w.firsts))
		}
	})
}

// That there is no host is told once: as soon as every name says so, and not
// while one of them fails. LOGICAL_DNS waits for an address.
func TestNoHosts(t *testing.T) {
	for _, logical := range []bool{false, true} {
		dns := newFakeDNS(nil)
		resolve(t, Config{Logical: logical, Assignment: endpoints("a.test:80")}, dns, func(w *watcher) {
			if len(w.updates) != 0 || len(w.firsts) != 1 {
				t.Fatalf("after a failure: %d updates, %d ends of warming", len(w.updates), len(w.firsts))
			}
			dns.set("a.test", fakeAnswer{})
			w.pass(time.Minute)
			want := []string{"first", "update"}
			if logical {
				want = want[:1]
			}
			if diff := cmp.Diff(want, w.order); diff != "" {
				t.Fatalf("logical %v (-want +got):\n%s", logical, diff)
			}
			if !logical && w.addresses()[0] != nil {
				t.Errorf("addresses %v", w.addresses())
			}
		})
	}
}

// Warming ends when the last name has had its answer or failure.
func TestFirst(t *testing.T) {
	dns := newFakeDNS(map[string]fakeAnswer{
		"good.test": {v4: []string{"10.0.0.1"}},
		"slow.test": {hang: true},
	})
	cfg := Config{Family: V4Only, Assignment: endpoints("good.test:80", "bad.test:80", "slow.test:80", "nonsense")}
	resolve(t, cfg, dns, func(w *watcher) {
		if diff := cmp.Diff([][]string{{"10.0.0.1:80"}}, w.addresses()); diff != "" {
			t.Errorf("while one name hangs (-want +got):\n%s", diff)
		}
		if len(w.firsts) != 0 {
			t.Fatal("first was called while a name had no answer")
		}
		w.pass(lookupTimeout)
		if len(w.firsts) != 1 {
			t.Fatalf("first was called %d times", len(w.firsts))
		}
		for _, want := range []string{`"bad.test"`, `"slow.test"`, `"nonsense"`} {
			if got := w.firsts[0].Error(); !strings.Contains(got, want) || strings.Contains(got, "good.test") {
				t.Errorf("first(%q), want the failures, %s among them", got, want)
			}
		}
	})
}

func TestNothingToResolve(t *testing.T) {
	w := new(watcher)
	New(Config{Assignment: endpoints("127.0.0.1:80", "[::1]:81"), Lookup: newFakeDNS(nil)}, w.update, w.first).Run(t.Context())
	if diff := cmp.Diff([][]string{{"127.0.0.1:80", "[::1]:81"}}, w.addresses()); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if len(w.firsts) != 1 || w.firsts[0] != nil {
		t.Errorf("first: %v", w.firsts)
	}
	New(Config{}, nil, nil).Run(t.Context()) // an empty cluster
}

func TestLogicalDNS(t *testing.T) {
	dns := newFakeDNS(map[string]fakeAnswer{"a.test": {v4: []string{"10.0.0.2", "10.0.0.1"}}})
	cfg := Config{Logical: true, Family: V4Only, Assignment: endpoints("a.test:80", "never.test:80")}
	resolve(t, cfg, dns, func(w *watcher) {
		steps := []struct {
			answer  fakeAnswer
			want    string
			updates int
		}{
			{fakeAnswer{v4: []string{"10.0.0.2", "10.0.0.1"}}, "10.0.0.2:80", 1}, // the first, not the smallest
			{fakeAnswer{v4: []string{"10.0.0.1", "10.0.0.2"}}, "10.0.0.2:80", 1}, // still there: stays
			{fakeAnswer{}, "10.0.0.2:80", 1},                                     // none: stays
			{fakeAnswer{err: errors.New("no")}, "10.0.0.2:80", 1},
			{fakeAnswer{v4: []string{"10.0.0.9", "10.0.0.1"}}, "10.0.0.9:80", 2},
		}
		for i, s := range steps {
			dns.set("a.test", s.answer)
			w.pass(5 * time.Second)
			if diff := cmp.Diff([][]string{{s.want}}, w.addresses()); diff != "" || len(w.updates) != s.updates {
				t.Errorf("step %d: %d updates, want %d (-want +got):\n%s", i, len(w.updates), s.updates, diff)
			}
		}
		if at := dns.times("never.test"); at != nil {
			t.Errorf("LOGICAL_DNS looked for a second endpoint at %v", at)
		}
	})
}

func TestFamilies(t *testing.T) {
	both := fakeAnswer{v4: []string{"10.0.0.1"}, v6: []string{"2001:db8::1"}}
	only4 := fakeAnswer{v4: []string{"10.0.0.1"}}
	only6 := fakeAnswer{v6: []string{"2001:db8::1"}}
	mapped := fakeAnswer{v6: []string{"::ffff:10.0.0.1"}}
	const v4, v6 = "10.0.0.1:80", "[2001:db8::1]:80"
	for _, test := range []struct {
		name   string
		family Family
		answer fakeAnswer
		want   []string
	}{
		{"AUTO prefers IPv6", Auto, both, []string{v6}},
		{"AUTO falls back", Auto, only4, []string{v4}},
		{"V4_ONLY", V4Only, both, []string{v4}},
		{"V4_ONLY has none", V4Only, only6, nil},
		{"V6_ONLY", V6Only, both, []string{v6}},
		{"V6_ONLY has none", V6Only, only4, nil},
		{"V4_PREFERRED", V4Preferred, both, []string{v4}},
		{"V4_PREFERRED falls back", V4Preferred, only6, []string{v6}},
		{"ALL", All, both, []string{v4, v6}},
		{"ALL with one", All, only6, []string{v6}},
		{"a mapped address is IPv4", V6Only, mapped, []string{v4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dns := newFakeDNS(map[string]fakeAnswer{"a.test": test.answer})
			resolve(t, Config{Family: test.family, Assignment: endpoints("a.test:80", "192.0.2.1:1")}, dns, func(w *watcher) {
				want := [][]string{append(slices.Clone(test.want), "192.0.2.1:1")}
				if diff := cmp.Diff(want, w.addresses()); diff != "" {
					t.Errorf("addresses (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// The look-ups' instants, for each rule that moves them.
func TestSchedule(t *testing.T) {
	ok := fakeAnswer{v4: []string{"10.0.0.1"}, ttl: 30 * time.Second}
	bad := fakeAnswer{err: errors.New("SERVFAIL")}
	half := func() uint64 { return uint64(250 * time.Millisecond) }
	for _, test := range []struct {
		name   string
		cfg    Config
		answer fakeAnswer
		want   []time.Duration
	}{
		{"refresh rate", Config{RefreshRate: 40 * time.Second}, ok, seconds(0, 40, 80)},
		{"TTL", Config{RespectTTL: true}, ok, seconds(0, 30, 60, 90)},
		{"TTL below the minimum", Config{RespectTTL: true, MinRefreshRate: 45 * time.Second}, ok, seconds(0, 45, 90)},
		{"TTL unknown", Config{RespectTTL: true, RefreshRate: 50 * time.Second}, fakeAnswer{v4: ok.v4}, seconds(0, 50)},
		{"TTL of nothing", Config{RespectTTL: true, RefreshRate: 50 * time.Second}, fakeAnswer{ttl: time.Second}, seconds(0, 50)},
		{"jitter", Config{RefreshRate: 50 * time.Second, Jitter: time.Second, Rand: half}, ok, seconds(0, 50.25)},
		{"failures at the refresh rate", Config{RefreshRate: 40 * time.Second}, bad, seconds(0, 40, 80)},
		{
			"failures back off, from half of each interval, here plus 0.25 s", // 4, 8, 16, then 20
			Config{FailureBase: 4 * time.Second, FailureMax: 20 * time.Second, Rand: half}, bad,
			seconds(0, 2.25, 6.5, 14.75, 25, 35.25, 45.5, 55.75, 66, 76.25, 86.5, 96.75),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Family = V4Only
			test.cfg.Assignment = endpoints("a.test:80")
			dns := newFakeDNS(map[string]fakeAnswer{"a.test": test.answer})
			resolve(t, test.cfg, dns, func(w *watcher) {
				w.pass(99 * time.Second)
				if diff := cmp.Diff(test.want, dns.times("a.test")); diff != "" {
					t.Errorf("look-ups (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func seconds(at ...float64) []time.Duration {
	out := make([]time.Duration, len(at))
	for i, s := range at {
		out[i] = time.Duration(s * float64(time.Second))
	}
	return out
}

// A success ends the back-off: the next failure begins it again.
func TestBackoffStartsAgain(t *testing.T) {
	dns := newFakeDNS(nil)
	cfg := Config{
		Family: V4Only, Assignment: endpoints("a.test:80"), RefreshRate: 10 * time.Second,
		FailureBase: 4 * time.Second, FailureMax: time.Hour, Rand: func() uint64 { return 0 },
	}
	resolve(t, cfg, dns, func(w *watcher) {
		w.pass(5 * time.Second) // failed at 0 and 2; next at 6
		dns.set("a.test", fakeAnswer{v4: []string{"10.0.0.1"}})
		w.pass(2 * time.Second) // next at 16
		dns.set("a.test", fakeAnswer{err: errors.New("SERVFAIL")})
		w.pass(12 * time.Second) // failed at 16 and 18; next at 22
		if diff := cmp.Diff(seconds(0, 2, 6, 16, 18), dns.times("a.test")); diff != "" {
			t.Errorf("look-ups (-want +got):\n%s", diff)
		}
	})
}

package controlplane

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// recorder is a cache that only notes what was published last.
type recorder struct {
	cachev3.SnapshotCache
	mu sync.Mutex
	at map[string]*state
}

func (r *recorder) of(key string) *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[key]
}

func (r *recorder) SetSnapshot(_ context.Context, key string, s cachev3.ResourceSnapshot) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[key] = s.(*state)
	return nil
}

func (r *recorder) ClearSnapshot(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.at, key)
}

// fleet is a publisher with proxies whose every answer the test gives.
type fleet struct {
	t     *testing.T
	p     *publisher
	cache *recorder
	store *Store
	nonce int
}

// inFleet runs a test in a bubble, with the publisher running.
func inFleet(t *testing.T, test func(f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{t: t, cache: &recorder{at: map[string]*state{}}, store: NewStore()}
		f.p = newPublisher(f.cache, discardLogger())
		f.p.nodes = newNodes(f.p.kick)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.p.run(ctx) }()
		defer func() { cancel(); <-done }()
		test(f)
	})
}

func (f *fleet) publish(list ...proto.Message) {
	g := &Group{Name: "edge", Nodes: NodeMatch{Clusters: []string{"edge"}}, Resources: resources(f.t, list...)}
	g.state = newState(g.Resources)
	f.store.Apply(map[string]*Group{"edge": g}, nil)
	f.p.post(event{groups: f.store.present()})
	synctest.Wait()
}

func (f *fleet) open(id int64) *corev3.Node {
	n := &corev3.Node{Id: "n", Cluster: "edge"}
	f.p.nodes.open(streamID{false, id}, n, "edge")
	f.p.connected(n)
	return n
}

const theNode = "edge\x00n"

// at returns the names that are published, and of routes their clusters.
func (f *fleet) at() string {
	st := f.cache.of(theNode)
	if st == nil {
		return "nothing"
	}
	return strings.Join(slices.Sorted(maps.Keys((*st)[resourcev3.ClusterType].byName)), " ") +
		" | " + strings.Join(slices.Sorted(maps.Keys(uses(st))), " ")
}

func (f *fleet) want(what, at string) {
	f.t.Helper()
	if got := f.at(); got != at {
		f.t.Errorf("%s: published %q, want %q", what, got, at)
	}
}

// answer sends the proxy what is published of a type and has it answered; names
// are those it asks for, none for all.
func (f *fleet) answer(id int64, url, nack string, names ...string) {
	f.nonce++
	nonce := strconv.Itoa(f.nonce)
	sid := streamID{false, id}
	f.p.nodes.sent(sid, url, response{nonce: nonce, version: f.cache.of(theNode).GetVersion(url), names: names})
	f.p.nodes.request(sid, request{url: url, nonce: nonce, nack: nack, names: names})
	synctest.Wait()
}

func (f *fleet) ask(id int64, url string, names ...string) {
	f.p.nodes.request(streamID{false, id}, request{url: url, names: names})
	synctest.Wait()
}

const (
	cds = resourcev3.ClusterType
	eds = resourcev3.EndpointType
	lds = resourcev3.ListenerType
	rds = resourcev3.RouteType
)

// connected opens stream 1 with the state "a | a" and everything accepted.
func (f *fleet) connected() {
	f.publish(edsCluster("a", 1), assignment("a", 1), routeTo("r", "a"))
	f.open(1)
	f.ask(1, cds)
	f.ask(1, eds, "a")
	f.ask(1, rds, "r")
	f.answer(1, cds, "")
	f.answer(1, eds, "", "a")
	f.answer(1, rds, "", "r")
	f.want("connected", "a | a")
}

func (f *fleet) moveToB() {
	f.publish(edsCluster("b", 1), assignment("b", 1), routeTo("r", "b"))
}

// A cluster replaces another: it comes, its endpoints are accepted, the route
// moves, the old one goes.
func TestMakeSwapBreak(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.moveToB()
		f.want("make", "a b | a")
		f.answer(1, eds, "", "a")
		f.want("endpoints that it had", "a b | a")
		f.answer(1, cds, "")
		f.want("its endpoints are not there", "a b | a")
		f.answer(1, eds, "", "a", "b")
		f.want("swap", "a b | b")
		f.answer(1, rds, "", "r")
		f.want("break", "b | b")
	})
}

// A proxy that does not answer is waited for once in each step, and after that
// no more until it answers.
func TestSilentProxy(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.moveToB()
		f.p.nodes.sent(streamID{false, 1}, cds, response{nonce: "x", version: "new"})
		time.Sleep(stepTimeout - time.Millisecond) // of the bubble
		synctest.Wait()
		f.want("waits", "a b | a")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		f.want("goes on", "a b | b")
		time.Sleep(stepTimeout)
		synctest.Wait()
		f.want("to the end", "b | b")
	})
}

// A proxy that has taken back all routes is not waited for when they change.
func TestUnsubscribedRoutes(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.p.nodes.request(streamID{false, 1}, request{url: rds, nonce: strconv.Itoa(f.nonce)})
		f.moveToB()
		f.answer(1, cds, "")
		f.answer(1, eds, "", "b")
		f.want("no routes are used", "b | b")
	})
}

// What comes while a change is under way does not make it forget what it waits
// for.
func TestChangeDuringChange(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.moveToB()
		f.publish(edsCluster("b", 1), assignment("b", 1), routeTo("r", "b", "b"), listener("l"))
		f.want("the first change is not confirmed", "a b | a")
		f.publish(edsCluster("a", 1), assignment("a", 1), edsCluster("b", 1), assignment("b", 2), edsCluster("c", 1), assignment("c", 1), routeTo("r", "c"))
		f.want("more comes at once", "a b c | a")
		f.answer(1, cds, "")
		f.answer(1, eds, "", "a", "b")
		f.want("c's endpoints are missing", "a b c | a")
		f.answer(1, eds, "", "a", "b", "c")
		f.want("swap", "a b c | c")
		f.publish(edsCluster("c", 1), assignment("c", 1), routeTo("r", "c"))
		f.want("the swap is not confirmed", "a b c | c")
		f.answer(1, rds, "", "r")
		f.want("break", "c | c")
	})
}

// A proxy that refuses a new cluster keeps the routes that it has; a new
// revision frees it.
func TestRefusedCluster(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.moveToB()
		f.answer(1, cds, "no")
		time.Sleep(10 * stepTimeout)
		synctest.Wait()
		f.want("held", "a b | a")
		f.publish(edsCluster("a", 2), assignment("a", 1), routeTo("r", "a", "a"))
		f.answer(1, cds, "")
		f.want("confirmed", "a b | a") // r moves, b goes when it has
		f.answer(1, rds, "", "r")
		f.want("freed", "a | a")
	})
}

// A proxy that refuses a changed cluster has the former one: routes go on.
func TestRefusedChangeOfCluster(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.publish(edsCluster("a", 2), assignment("a", 1), routeTo("r", "a", "a"))
		before := f.cache.of(theNode).GetVersion(rds)
		f.answer(1, cds, "no")
		if f.cache.of(theNode).GetVersion(rds) == before {
			t.Error("the route is held back")
		}
	})
}

// A proxy that refuses a route keeps the former one, and the clusters which
// that needs, until it accepts one.
func TestRefusedRoute(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.moveToB()
		f.answer(1, cds, "")
		f.answer(1, eds, "", "a", "b")
		f.answer(1, rds, "no", "r")
		time.Sleep(10 * stepTimeout)
		synctest.Wait()
		f.want("held", "a b | b")
		f.answer(1, rds, "", "r")
		f.want("accepted when sent again", "b | b")
	})
}

// A node with a stream for each type, as Contour's Envoys have, and one with
// two streams: all that asked for the type must have answered.
func TestSeveralStreams(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.publish(edsCluster("a", 1), assignment("a", 1), routeTo("r", "a"))
		for i, url := range []string{cds, eds, rds} {
			f.open(int64(i + 1))
			f.ask(int64(i+1), url, map[string][]string{eds: {"a"}, rds: {"r"}}[url]...)
		}
		f.answer(1, cds, "")
		f.answer(2, eds, "", "a")
		f.answer(3, rds, "", "r")
		f.open(4)
		f.ask(4, cds)
		f.answer(4, cds, "")
		f.moveToB()
		f.answer(1, cds, "")
		f.answer(2, eds, "", "a", "b")
		f.want("one of two", "a b | a")
		f.p.nodes.close(streamID{false, 4})
		synctest.Wait()
		f.want("the other left", "a b | b")
		for i := range 3 {
			f.p.nodes.close(streamID{false, int64(i + 1)})
		}
		synctest.Wait()
		if diff := cmp.Diff(map[string]*state{}, f.cache.at, cmp.Comparer(func(a, b *state) bool { return a == b })); diff != "" || len(f.p.members) > 0 {
			t.Errorf("all left, but kept: %d members, cache %s", len(f.p.members), diff)
		}
	})
}

// A proxy that asks for some clusters only is not expected to ask for the
// endpoints of others (gRPC clients do so).
func TestProxyWithSomeClusters(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.publish(edsCluster("a", 1), assignment("a", 1), routeTo("r", "a"))
		f.open(1)
		f.ask(1, cds, "a")
		f.ask(1, eds, "a")
		f.answer(1, cds, "", "a")
		f.answer(1, eds, "", "a")
		f.moveToB()
		f.answer(1, cds, "", "a")
		f.want("swap", "b | b")
	})
}

// A node whose group goes keeps what it has, and follows its group when that
// returns.
func TestGroupGoesAndComes(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		f.p.post(event{groups: revisions{}})
		synctest.Wait()
		f.want("gone", "a | a")
		if got := f.p.nodes.list()[0].Group; got != "" {
			t.Errorf("group %q", got)
		}
		f.publish(edsCluster("a", 1), assignment("a", 1), routeTo("r", "a"), routeTo("r2", "a"), edsCluster("b", 1))
		f.want("back", "a b | a")
	})
}

// The incremental variant: a change that a stream does not subscribe to brings
// no response, and none is waited for.
func TestDeltaStream(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.publish(edsCluster("a", 1), assignment("a", 1), routeTo("r", "a"))
		id := streamID{true, 1}
		n := &corev3.Node{Id: "n", Cluster: "edge"}
		f.p.nodes.open(id, n, "edge")
		f.p.connected(n)
		st := f.cache.of(theNode)
		// It comes back and has all that there is: nothing is sent.
		f.p.nodes.request(id, request{url: cds, initial: maps.Clone(st.GetVersionMap(cds))})
		f.p.nodes.request(id, request{url: eds, subscribe: []string{"a"}, initial: maps.Clone(st.GetVersionMap(eds))})
		f.p.nodes.request(id, request{url: rds, subscribe: []string{"r"}, initial: maps.Clone(st.GetVersionMap(rds))})
		f.moveToB()
		f.want("make", "a b | a")
		st = f.cache.of(theNode)
		f.p.nodes.sent(id, cds, response{nonce: "1", version: st.GetVersion(cds), hashes: map[string]string{"b": st.GetVersionMap(cds)["b"]}})
		f.p.nodes.request(id, request{url: eds, subscribe: []string{"b"}})
		f.p.nodes.sent(id, eds, response{nonce: "2", version: st.GetVersion(eds), hashes: map[string]string{"b": st.GetVersionMap(eds)["b"]}})
		f.p.nodes.request(id, request{url: cds, nonce: "1"})
		synctest.Wait()
		f.want("endpoints are not confirmed", "a b | a")
		f.p.nodes.request(id, request{url: eds, nonce: "2"})
		synctest.Wait()
		f.want("swap", "a b | b")
		st = f.cache.of(theNode)
		f.p.nodes.sent(id, rds, response{nonce: "3", version: st.GetVersion(rds), hashes: maps.Clone(st.GetVersionMap(rds))})
		f.p.nodes.request(id, request{url: rds, nonce: "3"})
		synctest.Wait()
		f.want("break", "b | b")
		// A route that it does not subscribe to comes, and a cluster with it.
		f.publish(edsCluster("b", 1), assignment("b", 1), routeTo("r", "b"), routeTo("other", "b"))
		f.publish(edsCluster("b", 1), assignment("b", 1), routeTo("r", "b"))
		f.want("at once", "b | b")
		if m := f.p.members[theNode]; m.at != m.to {
			t.Error("waits for an answer to what is not sent")
		}
	})
}

// A route that a delta stream refused stays refused when others change: it is
// not sent again, and the clusters of the former one stay until it changes.
func TestDeltaStreamRefuses(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.publish(edsCluster("a", 1), edsCluster("b", 1), routeTo("r", "a"), routeTo("r2", "b"))
		id := streamID{true, 1}
		n := &corev3.Node{Id: "n", Cluster: "edge"}
		f.p.nodes.open(id, n, "edge")
		f.p.connected(n)
		st := f.cache.of(theNode)
		f.p.nodes.request(id, request{url: cds, initial: maps.Clone(st.GetVersionMap(cds))})
		f.p.nodes.request(id, request{url: rds, subscribe: []string{"r", "r2"}, initial: maps.Clone(st.GetVersionMap(rds))})
		answer := func(url, name, nack string) {
			t.Helper()
			f.nonce++
			nonce, st := strconv.Itoa(f.nonce), f.cache.of(theNode)
			f.p.nodes.sent(id, url, response{nonce: nonce, version: st.GetVersion(url), hashes: map[string]string{name: st.GetVersionMap(url)[name]}})
			f.p.nodes.request(id, request{url: url, nonce: nonce, nack: nack})
			synctest.Wait()
		}
		f.publish(edsCluster("b", 1), routeTo("r", "b"), routeTo("r2", "b"))
		answer(rds, "r", "no")
		held := func(what string) {
			t.Helper()
			time.Sleep(10 * stepTimeout)
			synctest.Wait()
			f.want(what, "a b | b")
		}
		held("refused")
		f.publish(edsCluster("b", 1), routeTo("r", "b"), routeTo("r2", "b"), routeTo("other", "b"))
		held("a route that it does not have comes")
		f.publish(edsCluster("b", 1), routeTo("r", "b"), routeTo("r2", "b", "b"))
		answer(rds, "r2", "")
		held("another route changes")
		f.publish(edsCluster("b", 1), routeTo("r", "b", "b"), routeTo("r2", "b", "b"))
		answer(rds, "r", "")
		time.Sleep(10 * stepTimeout)
		synctest.Wait()
		f.want("the route changes", "b | b")
	})
}

// A node that comes to belong to another group is led there in steps.
func TestNodeChangesGroup(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.connected()
		canary := group(t, "canary", NodeMatch{IDs: []string{"n"}}, edsCluster("b", 1), assignment("b", 1), routeTo("r", "b"))
		f.p.post(event{groups: append(revisions{{Group: canary}}, f.store.present()...)})
		synctest.Wait()
		f.want("make", "a b | a")
		if got := f.p.nodes.list()[0].Group; got != "canary" {
			t.Errorf("group %q", got)
		}
		f.answer(1, cds, "")
		f.answer(1, eds, "", "a", "b")
		f.answer(1, rds, "", "r")
		f.want("break", "b | b")
	})
}

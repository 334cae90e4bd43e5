package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/proc"
)

// load makes unary and streaming calls through one proxy with grpc-go, which
// may neither retry nor wait, and with a raw client beside it.
type load struct {
	port  int
	raw   *rawClient
	stop  chan struct{}
	wg    sync.WaitGroup
	calls atomic.Int64

	mu       sync.Mutex // guards all below
	failures []string
	revs     map[int]time.Time // revision -> first seen by a call
}

func startLoad(t *testing.T, port int) *load {
	t.Helper()
	l := &load{port: port, stop: make(chan struct{}), revs: map[int]time.Time{},
		raw: &rawClient{addr: fmt.Sprintf("127.0.0.1:%d", port), inFlight: 4, revs: map[string]time.Time{}}}
	for range 2 {
		cl := echo.NewEchoClient(dial(t, port))
		for range 4 {
			l.wg.Go(func() { l.repeat(func() error { return l.unary(cl) }) })
		}
		l.wg.Go(func() { l.repeat(func() error { return l.shortStream(cl) }) })
		l.wg.Go(func() { l.longStream(cl) })
	}
	l.wg.Go(func() { l.raw.run(l.stop) })
	return l
}

// finish stops the load, waits for the calls in progress and reports every
// failed one.
func (l *load) finish(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	for _, f := range l.failures[:min(len(l.failures), 10)] {
		t.Errorf("port %d: grpc-go: %s", l.port, f)
	}
	for _, f := range l.raw.failures[:min(len(l.raw.failures), 10)] {
		t.Errorf("port %d: raw client: %s", l.port, f)
	}
	if l.raw.opened != l.raw.ok {
		t.Errorf("port %d: the raw client opened %d streams and %d succeeded", l.port, l.raw.opened, l.raw.ok)
	}
	if l.calls.Load() == 0 || l.raw.ok == 0 {
		t.Errorf("port %d: no load: %d calls, %d raw streams", l.port, l.calls.Load(), l.raw.ok)
	}
	t.Logf("port %d: %d calls (grpc-go), %d of %d streams (raw), failed: %d", l.port, l.calls.Load(), l.raw.ok, l.raw.opened, len(l.failures)+len(l.raw.failures))
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *load) repeat(one func() error) {
	for !l.stopped() {
		if err := one(); err != nil {
			l.fail(err)
		}
		l.calls.Add(1)
		time.Sleep(2 * time.Millisecond) // the rate of the load; two cores serve everything
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf("%s %v", time.Now().Format("05.000"), err))
}

// saw notes the revision that answered.
func (l *load) saw(md metadata.MD) {
	v := md.Get("x-rev")
	if len(v) == 0 {
		return
	}
	rev, err := strconv.Atoi(v[len(v)-1])
	if err != nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.revs[rev]; !ok {
		l.revs[rev] = now
	}
}

func (l *load) unary(cl echo.EchoClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	var md metadata.MD
	_, err := cl.Say(ctx, &echo.SayRequest{Text: "u"}, grpc.Header(&md))
	l.saw(md)
	return err
}

func (l *load) shortStream(cl echo.EchoClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	st, err := cl.Chat(ctx)
	if err != nil {
		return err
	}
	for range 5 {
		_ = st.Send(&echo.SayRequest{Text: "s"}) // Recv has the status
		if _, err := st.Recv(); err != nil {
			return fmt.Errorf("short stream: %w", err)
		}
	}
	if err := st.CloseSend(); err != nil {
		return err
	}
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("short stream's end: %w", err)
	}
	return nil
}

// longStream is open for the whole test and must answer all along.
func (l *load) longStream(cl echo.EchoClient) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st, err := cl.Chat(ctx)
	if err != nil {
		l.fail(err)
		return
	}
	for !l.stopped() {
		_ = st.Send(&echo.SayRequest{Text: "l"}) // Recv has the status
		if _, err := st.Recv(); err != nil {
			l.fail(fmt.Errorf("long stream: %w", err))
			return
		}
		l.calls.Add(1)
		time.Sleep(10 * time.Millisecond) // the rate of the load
	}
	_ = st.CloseSend()
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		l.fail(fmt.Errorf("long stream's end: %w", err))
	}
}

// TestUpdatesLoseNoCall:
//  1. two proxies under unary and streaming load, clients without retry;
//  2. 200 route updates (weight and x-rev) and 50 endpoint updates in 20 s,
//     through the control plane's files;
//  3. no call fails; every revision goes live, and how soon is logged.
func TestUpdatesLoseNoCall(t *testing.T) {
	blue := []*backend{startBackend(t, "blue-1"), startBackend(t, "blue-2"), startBackend(t, "blue-3")}
	green := startBackend(t, "green-1")
	dir := newConfigDir(t, "edge")
	port := map[string]int{"edge": freePort(t), "edge2": freePort(t)}
	write(t, dir.root+"/edge/listeners.yaml", "resources:\n"+listener("in", port["edge"], "r"))
	write(t, dir.root+"/_shared/clusters.yaml", "resources:\n"+cluster("blue")+cluster("green"))
	shared := &configDir{root: dir.root, group: "_shared"}
	putEndpoints := func(n int) {
		// Two of the three: each update adds one host and takes one away.
		shared.put(t, "endpoints.yaml", endpoints("blue", blue[n%3], blue[(n+1)%3]), endpoints("green", green))
	}
	write(t, dir.root+"/edge/group.yaml", "include: [_shared]\n")
	write(t, dir.root+"/edge2/group.yaml", "include: [_shared]\n")
	write(t, dir.root+"/edge2/listeners.yaml", "resources:\n"+listener("in", port["edge2"], "r"))
	putEndpoints(0)
	shared.put(t, "routes.yaml", revision("r", 0, 50))

	cp := freePort(t)
	start(t, "controlplane", "controlplane", "serve", "--config", dir.root, "--listen", fmt.Sprintf("127.0.0.1:%d", cp))
	startProxy(t, "edge", "edge-1", cp)
	startProxy(t, "edge2", "edge2-1", cp)
	loads := []*load{}
	for _, g := range []string{"edge", "edge2"} {
		waitServing(t, port[g])
		loads = append(loads, startLoad(t, port[g]))
	}

	const routeUpdates, endpointUpdates = 200, 50
	length := 20 * time.Second
	written := map[int]time.Time{}
	tick := time.NewTicker(length / routeUpdates)
	defer tick.Stop()
	for n := 1; n <= routeUpdates; n++ {
		<-tick.C
		shared.put(t, "routes.yaml", revision("r", n, n%101))
		written[n] = time.Now()
		if n%(routeUpdates/endpointUpdates) == 0 {
			putEndpoints(n / (routeUpdates / endpointUpdates))
		}
	}
	last := routeUpdates
	eventually(t, "the last revision is live everywhere", func() error {
		for _, l := range loads {
			l.mu.Lock()
			_, ok := l.revs[last]
			l.mu.Unlock()
			if !ok {
				return fmt.Errorf("port %d has not seen revision %d", l.port, last)
			}
		}
		return nil
	})
	for _, l := range loads {
		l.finish(t)
	}
	for _, l := range loads {
		reportLatency(t, l, written)
	}
}

// reportLatency logs how long each revision took from the file to the first
// call that saw it, or a later one, and holds the slowest to a bound that only
// a defect exceeds.
func reportLatency(t *testing.T, l *load, written map[int]time.Time) {
	t.Helper()
	var took []time.Duration
	skipped := 0
	seen := slices.Sorted(maps.Keys(l.revs))
	for n, at := range written {
		i, exact := slices.BinarySearch(seen, n)
		if i == len(seen) {
			t.Errorf("port %d: revision %d never went live", l.port, n)
			continue
		}
		if !exact {
			skipped++
		}
		took = append(took, l.revs[seen[i]].Sub(at))
	}
	slices.Sort(took)
	q := func(p float64) time.Duration { return took[int(p*float64(len(took)-1))].Round(time.Millisecond) }
	t.Logf("port %d: %d revisions live after p50 %v, p90 %v, p99 %v, max %v; %d went live as part of the next", l.port, len(took), q(.5), q(.9), q(.99), q(1), skipped)
	if q(1) > 5*time.Second {
		if share := proc.Share(); share < 0.5 {
			t.Logf("not judged with %.0f%% of the processors", 100*share)
			return
		}
		t.Errorf("port %d: a revision took %v to go live", l.port, q(1))
	}
}

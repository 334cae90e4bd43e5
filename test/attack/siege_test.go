package attack

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/test/proc"
)

// attack is one way to hurt.
type attack struct {
	name string
	// limits are the fields of h2.Limits and h2.Config that stop it.
	limits []string
	// stat must have moved afterwards.
	stat string
	// reaction is what an attacker must have seen, as peer.read notes it.
	reaction string
	// atLeast is how long it takes to reach its extent.
	atLeast time.Duration
	// tls says that it is the listener with TLS that is attacked. The
	// well-behaved clients are there then, and new ones come all the time.
	tls bool
	// run attacks s.addr from several goroutines until s.done.
	run func(s *siege)
	// backend, for attacks from upstream, takes the connections to the cluster
	// bad; run then only makes calls there.
	backend func(p *peer)
	// toBackend is the reaction that the backend must have seen.
	toBackend string
}

// siege is one run of an attack.
type siege struct {
	addr string
	done chan struct{} // closed by end
	wg   sync.WaitGroup

	mu    sync.Mutex // guards all below
	seen  map[string]int
	first map[string]time.Time
	sent  int        // batches of frames
	conns []net.Conn // all that were made
	over  bool
}

func newSiege(addr string) *siege {
	return &siege{addr: addr, done: make(chan struct{}), seen: map[string]int{}, first: map[string]time.Time{}}
}

// end ends s: nothing is sent any more, and nobody waits to send.
func (s *siege) end() {
	close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, nc := range s.conns {
		_ = nc.SetWriteDeadline(time.Now())
	}
}

// add makes nc one of s.
func (s *siege) add(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, nc)
	if s.over {
		_ = nc.SetWriteDeadline(time.Now())
	}
}

func (s *siege) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[what]++; s.seen[what] == 1 {
		s.first[what] = time.Now()
	}
}

// starved reports that connections timed out before the kernel had them: the
// machine had other things to do, and there was no attack to speak of.
func (s *siege) starved() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what := range s.seen {
		if strings.HasPrefix(what, "connect: ") && strings.HasSuffix(what, "i/o timeout") {
			return true
		}
	}
	return false
}

// began is when what was seen first.
func (s *siege) began(what string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first[what]
}

func (s *siege) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[what]
}

// pause waits for d or the end; false: it is the end.
func (s *siege) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.done:
		return false
	case <-t.C:
		return true
	}
}

// patience is how much longer than it should an attack may take to have its
// effect: the machine may have other things to do.
const patience = 30 * time.Second

// lay runs a against addr for d, and on until it has had its effect.
func lay(a *attack, addr string, d time.Duration, effect func(s *siege) bool) *siege {
	s := newSiege(addr)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		a.run(s)
	}()
	time.Sleep(d)
	for end := time.Now().Add(patience); !effect(s) && time.Now().Before(end); {
		time.Sleep(patience / 100)
	}
	s.end()
	s.wg.Wait()
	return s
}

func (s *siege) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d connections, %d batches", len(s.conns), s.sent)
	for _, k := range slices.Sorted(maps.Keys(s.seen)) {
		fmt.Fprintf(&b, ", %d x %s", s.seen[k], k)
	}
	return b.String()
}

// The rate of floods, for each of attackers connections: a batch every
// batchEvery, a new connection at most every reconnectEvery.
const (
	attackers      = 2
	batchEvery     = 10 * time.Millisecond
	reconnectEvery = 20 * time.Millisecond
)

// flood returns a run that sends batches, on a new connection whenever one is
// ended. batch appends the bytes of the next batch to b.
func flood(o peerOptions, batch func(p *peer, b []byte) []byte) func(s *siege) {
	return func(s *siege) {
		for range attackers {
			s.wg.Add(1)
			go s.flood(o, batch)
		}
	}
}

func (s *siege) flood(o peerOptions, batch func(p *peer, b []byte) []byte) {
	defer s.wg.Done()
	var b []byte
	for {
		p := s.connect(o)
		if p != nil {
			b = batch(p, b[:0])
			for p.write(b) {
				s.mu.Lock()
				s.sent++
				s.mu.Unlock()
				if !s.pause(batchEvery) {
					break
				}
				b = batch(p, b[:0])
			}
			p.close(o.lastWords())
		}
		if !s.pause(reconnectEvery) {
			return
		}
	}
}

// lastWords is how long to wait for what the other end says about the end.
func (o peerOptions) lastWords() time.Duration {
	if o.noRead {
		return 0
	}
	return 20 * time.Millisecond
}

// result is what a run showed.
type result struct {
	p99       time.Duration
	calls     int
	failures  []string
	heap, rss int // growth in bytes: after two collections; at its highest
	moved     map[string]float64
	siege     *siege
}

// What an attack may cost.
const (
	fast      = 50 * time.Millisecond
	times     = 3                // times the latency beside the same attack on the dummy
	maxRSS    = 64 << 20         // resident memory
	maxHeap   = 6 << 20          // heap in use, once the workers have seen that they are quiet
	heapRetry = 10 * time.Second // and then the heap is what it is
)

// measure runs a against the proxy, or against dummy if that is not "". The
// proxy is attacked until the counter has moved and the attackers, or hostile,
// the attack's backend, have seen what they must.
func measure(t *testing.T, p *proxy, a *attack, dummy string, hostile *siege) result {
	t.Helper()
	st := connectSteady(t, p, a.tls)
	st.start()
	time.Sleep(200 * time.Millisecond) // until pools have their usual size
	st.end()
	heap, rss, before := p.heap(t), p.rss(), p.stats(t)

	stop, peak := make(chan struct{}), make(chan int)
	go watchRSS(p, stop, peak)
	st.start()
	addr := dummy
	if addr == "" {
		addr = p.under(a)
	}
	s := lay(a, addr, max(*attackTime, a.atLeast), func(s *siege) bool {
		return dummy != "" || (a.stat == "" || p.stats(t)[a.stat] > before[a.stat]) &&
			(a.reaction == "" || s.count(a.reaction) > 0) &&
			(a.toBackend == "" || hostile.count(a.toBackend) > 0)
	})
	r := result{p99: st.end(), calls: len(st.times), failures: st.failures, siege: s}
	proc.Eventually(t, patience, "the attackers' connections are gone", func() error {
		if n := p.stats(t)["http.in.downstream_cx_active"]; n > steadyConns {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	})
	for end := time.Now().Add(heapRetry); ; time.Sleep(heapRetry / 10) { // workers drop what rests after a while
		if r.heap = p.heap(t) - heap; r.heap < maxHeap || time.Now().After(end) {
			break
		}
	}
	close(stop)
	r.rss = <-peak - rss
	r.moved = p.stats(t)
	for k, v := range before {
		r.moved[k] -= v
	}
	for _, cc := range st.ccs {
		_ = cc.Close()
	}
	return r
}

// watchRSS sends the highest resident memory seen until stop.
func watchRSS(p *proxy, stop <-chan struct{}, peak chan<- int) {
	most := 0
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		most = max(most, p.rss())
		select {
		case <-stop:
			peak <- most
			return
		case <-tick.C:
		}
	}
}

// dummy is a listener that reads and forgets, to attack for comparison.
func dummy(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go acceptAll(ln, &wg, forget)
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func forget(nc net.Conn) {
	b := make([]byte, 32<<10)
	for {
		if _, err := nc.Read(b); err != nil {
			return
		}
	}
}

// acceptAll runs serve for each connection until ln is closed; then it closes
// the connections.
func acceptAll(ln net.Listener, wg *sync.WaitGroup, serve func(nc net.Conn)) {
	defer wg.Done()
	var conns []net.Conn
	for {
		nc, err := ln.Accept()
		if err != nil {
			break
		}
		conns = append(conns, nc)
		wg.Add(1)
		go func() {
			defer wg.Done()
			serve(nc)
			_ = nc.Close()
		}()
	}
	for _, nc := range conns {
		_ = nc.Close()
	}
}

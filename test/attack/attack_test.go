package attack

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/test/proc"
)

// TestAttacks runs every attack against a proxy of its own:
//  1. well-behaved clients make calls on the listener, the attack begins;
//  2. when it has ended, all calls have succeeded with a p99 of at most 50 ms,
//     or three times the p99 beside the same attack on a dummy listener;
//  3. resident memory never grew by 64 MiB, and two collections later the heap
//     is back;
//  4. the limit's counter has moved, the attacker has seen the reaction.
func TestAttacks(t *testing.T) {
	t.Parallel()
	var tb table
	for _, a := range allAttacks() {
		t.Run(a.name, func(t *testing.T) { try(t, a, &tb) })
	}
	if *page != "" {
		tb.write(t, *page)
	}
}

func allAttacks() []*attack {
	return slices.Concat(downstreamAttacks(), headerAttacks(), stallAttacks(), tlsAttacks(), heldAttacks(), upstreamAttacks())
}

// under is the address of the listener that a attacks.
func (p *proxy) under(a *attack) string {
	if a.tls {
		return p.tls
	}
	return p.addr
}

func try(t *testing.T, a *attack, tb *table) {
	target := dummy(t)
	bad, hostile := 1, newSiege("") // nobody listens
	if a.backend != nil {
		bad, hostile = startBad(t, a.backend)
		target = loopback(bad)
	}
	p := startProxy(t, startGood(t), bad)
	r := measure(t, p, a, "", hostile)
	report(t, "proxy", &r)
	for again := 0; again < 2 && r.siege.starved(); again++ {
		r = measure(t, p, a, "", hostile)
		report(t, "proxy, again", &r)
	}
	if len(r.failures) > 0 {
		t.Errorf("%d of %d calls beside the attack failed, the first: %s", len(r.failures), r.calls, r.failures[0])
	}
	if r.rss > maxRSS {
		t.Errorf("resident memory grew by %d MiB, want at most %d", r.rss>>20, maxRSS>>20)
	}
	if r.heap > maxHeap {
		t.Errorf("after two collections the heap is %d KiB larger, want at most %d", r.heap>>10, maxHeap>>10)
	}
	if a.stat != "" && r.moved[a.stat] == 0 {
		t.Errorf("%s has not moved; these have:%s", a.stat, moved(r.moved))
	}
	if a.reaction != "" && r.siege.seen[a.reaction] == 0 {
		t.Errorf("the attacker saw no %q: %v", a.reaction, r.siege)
	}
	if a.toBackend != "" && hostile.count(a.toBackend) == 0 {
		t.Errorf("the backend saw no %q: %v", a.toBackend, hostile)
	}
	tb.add(a, &r, checkLatency(t, p, a, target, hostile, r.p99))
}

// latency is what checkLatency settled on.
type latency struct {
	proxy, dummy time.Duration // p99; dummy is 0 if it was not asked for
	tries        int
}

// checkLatency compares with the dummy if it must, and up to three times. A try
// for which the machine gave us less than half of its processors proves
// nothing; after three of those nothing is judged.
func checkLatency(t *testing.T, p *proxy, a *attack, target string, hostile *siege, p99 time.Duration) latency {
	t.Helper()
	l := latency{proxy: p99, tries: 1}
	if raceEnabled {
		return l
	}
	judged, busy := 0, 0
	for l.proxy > fast || *baseline {
		share := proc.Share()
		b := measure(t, p, a, target, hostile)
		report(t, "dummy", &b)
		if l.dummy = b.p99; l.proxy <= max(fast, times*l.dummy) {
			break
		}
		if share = min(share, proc.Share()); share >= 0.5 {
			judged++
		} else {
			busy++
		}
		if judged == 3 {
			t.Errorf("p99 beside the attack is %v, beside the same on a dummy listener %v", l.proxy, l.dummy)
			break
		}
		if busy == 3 {
			t.Logf("p99 beside the attack is %v, beside the same on a dummy listener %v: not judged, with %.0f %% of the processors", l.proxy, l.dummy, share*100)
			break
		}
		l.tries++
		r := measure(t, p, a, "", hostile)
		report(t, "proxy", &r)
		l.proxy, l.dummy = r.p99, 0
	}
	return l
}

func report(t *testing.T, what string, r *result) {
	t.Logf("%s: p99 %v of %d calls, %d failed; heap %+d KiB, peak RSS %+d KiB; %v;%s", what,
		r.p99.Round(100*time.Microsecond), r.calls, len(r.failures), r.heap>>10, r.rss>>10, r.siege, moved(r.moved))
}

// moved lists the HTTP/2 stats that moved.
func moved(stats map[string]float64) string {
	var out []string
	for k, v := range stats {
		if v != 0 && strings.Contains(k, "http2.") {
			out = append(out, fmt.Sprintf(" %s %+v", k, v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// startBad runs a backend whose connections serve handles, until the test ends.
func startBad(t *testing.T, serve func(p *peer)) (port int, s *siege) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = newSiege("")
	var wg sync.WaitGroup
	wg.Add(1)
	go acceptAll(ln, &wg, func(nc net.Conn) { serve(&peer{nc: nc, s: s, over: make(chan struct{}), next: 2}) })
	t.Cleanup(func() {
		close(s.done)
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().(*net.TCPAddr).Port, s
}

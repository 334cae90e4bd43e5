package xdsclient

import (
	"errors"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// After a reconnect the nonces are gone, the versions stay, the node is sent
// again, all names are in the first requests, and these are in order.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.client.Subscribe(EndpointType, names("a"))
		h.requests("CDS node", "EDS a")
		h.respond(ClusterType, "1", "x").Done(nil)
		h.respond(EndpointType, "7", "y").Done(nil)
		h.requests("CDS version=1 nonce=x", "EDS a version=7 nonce=y")
		late := h.respond(EndpointType, "8", "z") // in flight when the stream ends

		h.server.end(io.EOF)
		synctest.Wait()
		h.client.Subscribe(EndpointType, names("a", "b"))
		h.client.Subscribe(ListenerType, wildcard())
		time.Sleep(time.Second)
		h.requests("CDS version=1 node", "EDS a,b version=7", "LDS")

		// The verdict on the old stream's response moves the version, and is
		// not told on the new stream.
		late.Done(nil)
		h.requests()
		h.client.Subscribe(EndpointType, names("a"))
		h.requests("EDS a version=8")
	})
}

// What is no longer wanted is not asked for on the next stream: its empty list
// would be a wildcard there. A wildcard is one again.
func TestReconnectAfterUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, Subscription{Wildcard: true, Names: []string{"a"}})
		h.client.Subscribe(EndpointType, names("a"))
		h.requests("CDS *,a node", "EDS a")
		h.client.Subscribe(EndpointType, names())
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS *", "EDS")
		h.server.end(errors.New("gone"))
		time.Sleep(time.Second)
		h.requests("CDS node")
	})
}

// Attempts to open a stream are spaced exponentially with jitter, up to the
// maximum, and back at the base after a stream on which something came.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tries = 9
		h := start(t, func(c *Config) { c.Backoff = Backoff{Base: 100 * time.Millisecond, Max: 2 * time.Second} })
		defer h.stop()
		synctest.Wait()
		h.server.setRefuse(errors.New("refused"))
		h.server.end(io.EOF) // the first stream came up before; nothing was received on it
		for len(h.server.attempts()) < tries {
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
		opens := h.server.attempts()
		for i := 1; i < len(opens); i++ {
			most := min(100*time.Millisecond<<(i-1), 2*time.Second)
			if d := opens[i].Sub(opens[i-1]); d < most/2 || d > most {
				t.Errorf("wait %d was %v, want %v to %v", i, d, most/2, most)
			}
		}
		wantDowns := []string{"EOF"}
		for range tries - 1 {
			wantDowns = append(wantDowns, "refused")
		}
		if diff := cmp.Diff(wantDowns, h.handler.downs); diff != "" {
			t.Errorf("StreamDown calls (-want +got):\n%s", diff)
		}
		if h.handler.ups != 1 {
			t.Errorf("%d StreamUp calls, want 1", h.handler.ups)
		}

		h.server.setRefuse(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")
		h.respond(ClusterType, "1", "a").Done(nil)
		h.server.end(errors.New("later"))
		synctest.Wait()
		n := len(h.server.attempts())
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := len(h.server.attempts()); got != n+1 {
			t.Errorf("%d attempts within the base interval after a healthy stream, want 1", got-n)
		}
	})
}

func TestBackoffDefaults(t *testing.T) {
	tests := []struct{ in, want Backoff }{
		{Backoff{}, Backoff{500 * time.Millisecond, 30 * time.Second}},
		{Backoff{Base: time.Second}, Backoff{time.Second, 30 * time.Second}},
		{Backoff{Base: 10 * time.Second}, Backoff{10 * time.Second, 100 * time.Second}},
		{Backoff{Max: time.Millisecond}, Backoff{time.Millisecond, time.Millisecond}},
		{Backoff{Base: 2 * time.Second, Max: time.Second}, Backoff{2 * time.Second, 2 * time.Second}},
	}
	for _, tt := range tests {
		if got := tt.in.withDefaults(); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.in, got, tt.want)
		}
	}
	b := Backoff{}.withDefaults()
	for _, n := range []int{6, 31, 32, 63, 64, 1 << 40} { // no overflow
		if d := b.delay(n); d < 15*time.Second || d > 30*time.Second {
			t.Errorf("delay(%d) = %v, want 15s to 30s", n, d)
		}
	}
}

// The same content refused again: the first NACK goes at once, the next ones
// wait longer and longer, and an accepted response ends that, or a server that
// takes its time.
func TestRefusedAgain(t *testing.T) {
	tests := []struct {
		name    string
		version func(i int) string
		err     func(i int) string
		most    int // the exponent of the longest wait
	}{
		{"the same version", func(int) string { return "1" }, func(i int) string { return string(rune('a' + i)) }, sameVersion},
		{"the same error under new versions", func(i int) string { return string(rune('1' + i)) }, func(int) string { return "bad" }, newVersions},
	}
	for _, tt := range tests {
		t.Run(tt.name, bubble(func(t *testing.T) {
			h := start(t, onceNode)
			defer h.stop()
			h.client.Subscribe(ClusterType, wildcard())
			h.requests("CDS node")
			for i := range 6 {
				nonce := string(rune('a' + i))
				sent := time.Now()
				h.respond(ClusterType, tt.version(i), nonce).Done(errors.New(tt.err(i)))
				var got []string
				for len(got) == 0 {
					time.Sleep(time.Millisecond)
					synctest.Wait()
					got = h.server.takeRequests()
				}
				if diff := cmp.Diff([]string{"CDS nonce=" + nonce + " error=" + tt.err(i)}, got); diff != "" {
					t.Fatalf("requests (-want +got):\n%s", diff)
				}
				took := time.Since(sent)
				least, most := time.Duration(0), time.Millisecond
				if i > 0 {
					most = 500*time.Millisecond<<min(i-1, tt.most) + time.Millisecond
					least = most / 2
				}
				if took < least || took > most {
					t.Errorf("NACK %d came after %v, want %v to %v", i, took, least, most)
				}
			}
			for i := range 6 {
				time.Sleep(time.Minute)
				h.respond(ClusterType, tt.version(i), "again").Done(errors.New(tt.err(i)))
				h.requests("CDS nonce=again error=" + tt.err(i))
			}
			h.respond(ClusterType, "good", "x").Done(nil)
			h.requests("CDS version=good nonce=x")
			h.respond(ClusterType, "1", "y").Done(errors.New("a"))
			h.requests("CDS version=good nonce=y error=a")
		}))
	}
}

// A server that resends at once what was refused, under a new version and so that
// the reason is a new one, is not told so in a loop; one that takes its time is
// told at once, also what comes after a refusal that waits.
func TestRefusedForNewReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")
		n := 0
		refuse := func() string {
			n++
			s := strconv.Itoa(n)
			h.respond(ClusterType, s, s).Done(errors.New("bad " + s))
			return "CDS nonce=" + s + " error=bad " + s
		}
		h.requests(refuse())
		told := 0
		refuse()
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			synctest.Wait()
			if got := h.server.takeRequests(); len(got) > 0 {
				told++
				refuse()
			}
		}
		if told != 19 && told != 20 {
			t.Errorf("%d NACKs in a second, want 20 or 19", told)
		}
		for range 3 {
			time.Sleep(time.Second)
			h.server.takeRequests()
			h.requests(refuse())
		}
		for range 9 { // the last one waits for seconds
			h.respond(ClusterType, "same", "w").Done(errors.New("same"))
			time.Sleep(time.Second)
		}
		h.server.takeRequests()
		want := refuse()
		time.Sleep(100 * time.Millisecond)
		h.requests(want)
	})
}

// A server that resends without waiting for the NACK does not put it off.
func TestRefusedWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")
		h.respond(ClusterType, "1", "n").Done(errors.New("bad"))
		h.requests("CDS nonce=n error=bad")
		for range 60 { // the first wait is over after 500 ms
			h.respond(ClusterType, "1", "n").Done(errors.New("bad"))
			time.Sleep(10 * time.Millisecond)
		}
		if got := h.server.takeRequests(); len(got) != 1 && len(got) != 2 {
			t.Errorf("%d NACKs in 600 ms: %v", len(got), got)
		}
	})
}

// While a NACK waits, other types are answered, a change of the subscription
// takes it along, and a newer response makes it void.
func TestWaitingRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.client.Subscribe(EndpointType, names("a"))
		h.requests("CDS node", "EDS a")
		refuse := func(nonce string) {
			h.respond(EndpointType, "1", nonce).Done(errors.New("bad"))
		}
		refuse("n1")
		h.requests("EDS a nonce=n1 error=bad")
		refuse("n2")
		h.requests()
		h.respond(ClusterType, "1", "c").Done(nil)
		h.requests("CDS version=1 nonce=c")
		h.client.Subscribe(EndpointType, names("a", "b"))
		h.requests("EDS a,b nonce=n2 error=bad")

		refuse("n3")
		h.requests()
		h.respond(EndpointType, "2", "n4").Done(nil)
		h.requests("EDS a,b version=2 nonce=n4")
		time.Sleep(time.Minute)
		h.requests()

		// A change that comes before the verdict does not wait for it either.
		refuse("n5")
		h.requests("EDS a,b version=2 nonce=n5 error=bad")
		r := h.respond(EndpointType, "1", "n6")
		h.client.Subscribe(EndpointType, names("a", "b", "c"))
		h.requests()
		r.Done(errors.New("bad"))
		h.requests("EDS a,b,c version=2 nonce=n6 error=bad")
	})
}

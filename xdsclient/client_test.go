package xdsclient

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A handler that keeps a response, or does not even return, delays no answer to
// other responses and no change of subscriptions.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.client.Subscribe(EndpointType, names("a"))
		h.requests("CDS node", "EDS a")
		kept := h.respond(ClusterType, "1", "c")
		h.respond(EndpointType, "1", "e1").Done(nil)
		h.requests("EDS a version=1 nonce=e1")

		block := make(chan struct{})
		h.handler.mu.Lock()
		h.handler.block = block
		h.handler.mu.Unlock()
		stuck := h.respond(EndpointType, "2", "e2")
		kept.Done(nil)
		h.client.Subscribe(RouteType, names("r"))
		h.requests("CDS version=1 nonce=c", "RDS r")
		stuck.Done(nil)
		h.requests("EDS a version=2 nonce=e2")
		close(block)
	})
}

// A server that does not read blocks the sender; what it sends is still taken
// in and may be answered, and the client ends when told to.
func TestServerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")
		h.server.setStalled(true)
		h.client.Subscribe(EndpointType, names("a"))
		h.settle()
		r := h.respond(ClusterType, "1", "a")
		if r == nil {
			t.Fatal("no response while the sender is blocked")
		}
		r.Done(nil)
		h.client.Subscribe(EndpointType, names("b"))
		if got := h.client.Status().Types[0].Accepted; got != "1" {
			t.Errorf("accepted version %q, want 1", got)
		}
	})
}

// Status tells the verdicts, their times, the counters and the stream's state.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		began := time.Now()
		h.client.Subscribe(ClusterType, wildcard())
		h.client.Subscribe(EndpointType, names("b", "a"))
		h.requests("CDS node", "EDS a,b")
		time.Sleep(time.Second)
		accepted := time.Now()
		h.respond(ClusterType, "1", "a").Done(nil)
		time.Sleep(time.Second)
		rejected := time.Now()
		h.respond(ClusterType, "2", "b").Done(errors.New("bad"))
		h.respond(ClusterType, "3", "c")
		want := Status{
			Connected: true, Since: began, Attempts: 1, ControlPlane: "scripted",
			Types: []TypeStatus{{
				TypeURL: ClusterType, Subscription: wildcard(), InFlight: true,
				Accepted: "1", AcceptedAt: accepted, Rejected: "2", RejectedAt: rejected, RejectReason: "bad",
				Attempts: 3, Successes: 1, Rejections: 1,
			}, {
				TypeURL: EndpointType, Subscription: names("a", "b"), Waiting: true, Attempts: 1,
			}},
		}
		if diff := cmp.Diff(want, h.client.Status()); diff != "" {
			t.Errorf("connected (-want +got):\n%s", diff)
		}

		h.server.setRefuse(errors.New("no route to host"))
		h.server.end(io.EOF)
		synctest.Wait()
		lost := time.Now()
		time.Sleep(600 * time.Millisecond) // one more attempt, after 250 to 500 ms; the next after 500 more
		synctest.Wait()
		got := h.client.Status()
		want.Connected, want.Since, want.LastError, want.Attempts, want.Failures = false, lost, "no route to host", 2, 2
		want.Types[0].InFlight, want.Types[1].Waiting = false, false
		for i := range want.Types {
			want.Types[i].Failures += 2
			want.Types[i].Attempts += 2
			want.Types[i].Subscription = got.Types[i].Subscription
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("disconnected (-want +got):\n%s", diff)
		}
	})
}

// Status hands out copies: changing them changes nothing.
func TestStatusIsACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		mine := []string{"b", "a"}
		h.client.Subscribe(EndpointType, names(mine...))
		mine[0] = "changed"
		h.client.Status().Types[0].Subscription.Names[0] = "changed"
		h.requests("EDS a,b node")
	})
}

// A response from elsewhere tells its verdict once, to whoever made it.
func TestNewResponse(t *testing.T) {
	var got []error
	r := NewResponse(ClusterType, "1", nil, func(err error) { got = append(got, err) })
	bad := errors.New("bad")
	r.Done(bad)
	r.Done(nil)
	if len(got) != 1 || !errors.Is(got[0], bad) {
		t.Errorf("verdicts: %v, want %v once", got, bad)
	}
	new(Response).Done(nil) // nobody to tell
}

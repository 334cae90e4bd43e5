package xdsclient

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
)

// Types subscribed before the stream is up are asked for in the order of
// references, whatever the order of the calls, each with all its names, sorted
// and without duplicates. A type that nobody wants is not asked for.
func TestFirstRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, func(c *Config) { c.SetNodeOnFirstMessageOnly = true })
		h.client.Subscribe(RouteType, names("r"))
		h.client.Subscribe(ListenerType, wildcard())
		h.client.Subscribe("type.googleapis.com/x", names("first unknown"))
		h.client.Subscribe("type.googleapis.com/a", names("second unknown"))
		h.client.Subscribe(SecretType, names())
		h.client.Subscribe(EndpointType, names("b", "a", "b"))
		h.client.Subscribe(ClusterType, wildcard())
		h.client.Subscribe(RuntimeType, names("rt"))
		h.run()
		defer h.stop()
		h.requests("RTDS rt node", "CDS", "EDS a,b", "LDS", "RDS r", " first unknown", " second unknown")
	})
}

func TestNodeInEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.client.Subscribe(ListenerType, wildcard())
		h.requests("CDS node", "LDS node")
		h.respond(ClusterType, "1", "a").Done(nil)
		h.requests("CDS version=1 nonce=a node")
	})
}

// An ACK has the new version, a NACK the old one and the error; both the nonce.
func TestAckAndNack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")

		r := h.respond(ClusterType, "1", "a", resource(ClusterType))
		h.requests() // no answer before Done
		r.Done(nil)
		r.Done(errors.New("a second verdict does not count"))
		h.requests("CDS version=1 nonce=a")

		h.respond(ClusterType, "2", "b").Done(errors.New("cluster \"c\": bad"))
		h.requests("CDS version=1 nonce=b error=cluster \"c\": bad")

		h.respond(ClusterType, "3", "c").Done(nil)
		h.requests("CDS version=3 nonce=c")
	})
}

// Without an accepted version a NACK has none.
func TestNackOfFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ListenerType, wildcard())
		h.requests("LDS node")
		h.respond(ListenerType, "1", "a").Done(errors.New("no"))
		h.requests("LDS nonce=a error=no")
	})
}

// How an empty list, "*" and names follow one another on one stream.
func TestWildcards(t *testing.T) {
	tests := []struct {
		name string
		subs []Subscription
		want []string // a request after each subscription, "" for none
	}{
		{"empty list in the first request", []Subscription{wildcard()}, []string{"CDS node"}},
		{
			"names added to a wildcard are explicit, and so is it",
			[]Subscription{wildcard(), {Wildcard: true, Names: []string{"a"}}, wildcard()},
			[]string{"CDS node", "CDS *,a", "CDS *"},
		},
		{
			"a wildcard with names from the start",
			[]Subscription{{Wildcard: true, Names: []string{"a"}}, names("a")},
			[]string{"CDS *,a node", "CDS a"},
		},
		{
			"an empty list after names is no wildcard",
			[]Subscription{names("a"), names(), names("b"), wildcard()},
			[]string{"CDS a node", "CDS", "CDS b", "CDS *"},
		},
		{
			"a wildcard by empty list cannot be taken back, so nothing is said",
			[]Subscription{wildcard(), names(), wildcard(), names("a")},
			[]string{"CDS node", "", "CDS", "CDS a"},
		},
		{
			"nothing wanted, nothing said",
			[]Subscription{names(), names("a")},
			[]string{"", "CDS a node"},
		},
		{
			"the same set again, in another order",
			[]Subscription{names("a", "b"), names("b", "a", "a")},
			[]string{"CDS a,b node", ""},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, bubble(func(t *testing.T) {
			h := start(t, onceNode)
			defer h.stop()
			for i, s := range tt.subs {
				h.client.Subscribe(ClusterType, s)
				if tt.want[i] == "" {
					h.requests()
				} else {
					h.requests(tt.want[i])
				}
			}
		}))
	}
}

// Several changes close together make one request.
func TestChangesAreCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		synctest.Wait() // the stream is up
		h.client.Subscribe(EndpointType, names("a"))
		h.client.Subscribe(EndpointType, names("a", "b"))
		time.Sleep(coalesce / 2)
		h.client.Subscribe(EndpointType, names("a", "b", "c"))
		h.requests("EDS a,b,c node")
	})
}

// A change that comes while a response of the type is with the handler waits
// for the answer, so that one request says both; other types do not wait.
func TestChangeDuringResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(EndpointType, names("a"))
		h.requests("EDS a node")
		r := h.respond(EndpointType, "1", "n1")
		h.client.Subscribe(EndpointType, names("a", "b"))
		h.client.Subscribe(RouteType, names("r"))
		h.requests("RDS r")
		r.Done(nil)
		h.requests("EDS a,b version=1 nonce=n1")
	})
}

// The end of a subscription during a response is told with the answer, too.
func TestUnsubscribeDuringResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(EndpointType, names("a"))
		h.requests("EDS a node")
		r := h.respond(EndpointType, "1", "n1")
		h.client.Subscribe(EndpointType, names())
		h.requests()
		r.Done(nil)
		h.requests("EDS version=1 nonce=n1")

		// What still comes is not delivered, but its nonce holds from then on.
		if r := h.respond(EndpointType, "2", "n2"); r != nil {
			t.Errorf("response delivered without a subscription: %v", r)
		}
		h.requests()
		h.client.Subscribe(EndpointType, names("b"))
		h.requests("EDS b version=1 nonce=n2")
	})
}

// Verdicts on a response that a newer one has overtaken are counted but not
// told: servers ignore a nonce that is not their newest.
func TestOvertakenResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")
		r1 := h.respond(ClusterType, "1", "a")
		r2 := h.respond(ClusterType, "2", "b")
		r1.Done(nil)
		h.requests()
		r2.Done(errors.New("bad"))
		h.requests("CDS version=1 nonce=b error=bad")

		// The other way round: an old version does not come back.
		r3 := h.respond(ClusterType, "3", "c")
		r4 := h.respond(ClusterType, "4", "d")
		r4.Done(nil)
		h.requests("CDS version=4 nonce=d")
		r3.Done(nil)
		h.client.Subscribe(ClusterType, Subscription{Wildcard: true, Names: []string{"x"}})
		h.requests("CDS *,x version=4 nonce=d")
	})
}

// A response of a type that nobody subscribed is not answered and does no harm.
func TestUnknownType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")
		if r := h.respond(RouteType, "1", "a"); r != nil {
			t.Errorf("delivered: %v", r)
		}
		h.requests()
		h.respond(ClusterType, "1", "b").Done(nil)
		h.requests("CDS version=1 nonce=b")
	})
}

// A resource of another type than the response's refuses the response; the
// handler is told.
func TestWrongResourceType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(ClusterType, wildcard())
		h.requests("CDS node")
		if r := h.respond(ClusterType, "1", "a", resource(ClusterType), resource(RouteType)); r != nil {
			t.Errorf("delivered: %v", r)
		}
		h.requests(`CDS nonce=a error=resources[1]: type "` + RouteType + `" in a response of type "` + ClusterType + `"`)
		h.handler.mu.Lock()
		defer h.handler.mu.Unlock()
		if len(h.handler.bad) != 1 || !strings.HasPrefix(h.handler.bad[0], ClusterType+" 1: resources[1]: ") {
			t.Errorf("the handler was told %q", h.handler.bad)
		}
	})
}

// Wrapped resources (those with a time to live) are unwrapped; a wrapper
// without a body is a heartbeat, and a response of heartbeats is accepted
// without the handler.
func TestWrappedResources(t *testing.T) {
	wrap := func(r *discoveryv3.Resource) *anypb.Any {
		a, err := anypb.New(r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	synctest.Test(t, func(t *testing.T) {
		h := start(t, onceNode)
		defer h.stop()
		h.client.Subscribe(EndpointType, names("a", "b"))
		h.requests("EDS a,b node")
		full := wrap(&discoveryv3.Resource{Name: "a", Resource: resource(EndpointType)})
		beat := wrap(&discoveryv3.Resource{Name: "b"})
		r := h.respond(EndpointType, "1", "n1", full, beat)
		if r == nil || len(r.Resources) != 1 || r.Resources[0].TypeUrl != EndpointType {
			t.Fatalf("got %v, want the one unwrapped resource", r)
		}
		r.Done(nil)
		h.requests("EDS a,b version=1 nonce=n1")
		if r := h.respond(EndpointType, "1", "n2", beat); r != nil {
			t.Errorf("heartbeat delivered: %v", r)
		}
		h.requests("EDS a,b version=1 nonce=n2")
		h.respond(EndpointType, "2", "n3", &anypb.Any{TypeUrl: wrapperType, Value: []byte{0xff}})
		if got := h.client.Status().Types[0].Rejections; got != 1 {
			t.Errorf("%d rejections after a wrapper that is no message, want 1", got)
		}
	})
}

// A NACK's text always fits into a request.
func TestReason(t *testing.T) {
	long := strings.Repeat("ä", maxReason)
	tests := []struct{ name, in, want string }{
		{"as it is", "cluster: bad", "cluster: bad"},
		{"empty", "", "refused"},
		{"invalid UTF-8", "a\xffb", "a\uFFFDb"},
		{"cut inside a rune", "x" + long, "x" + long[:maxReason-2] + "\uFFFD ..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, reason(errors.New(tt.in))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/test/echo"
)

// say makes one call and returns the instance that answered.
func say(t *testing.T, port int) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	r, err := echo.NewEchoClient(dial(t, port)).Say(ctx, &echo.SayRequest{})
	return r.GetInstance(), err
}

// simpleRoute sends everything to one cluster.
func simpleRoute(name, cluster string) string {
	return fmt.Sprintf(`
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: %s
  virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: %s}}]}]
`, name, cluster)
}

// badCluster has a policy that does not exist.
func badCluster(name string) string {
	return strings.Replace(cluster(name), "connect_timeout: 20s", "connect_timeout: -1s", 1)
}

// TestBadResource, with a control plane that checks nothing:
//  1. cluster "blue" serves;
//  2. an update makes "blue" bad and brings a good sibling "green", to which
//     the route moves: the NACK names blue, the field and the reason; green
//     applies and serves;
//  3. the route moves back to blue: its last good version still serves.
func TestBadResource(t *testing.T) {
	blue, green := startBackend(t, "blue"), startBackend(t, "green")
	cp := startXDSServer(t)
	port := freePort(t)
	ln := listener("in", port, "r")
	eps := []string{endpoints("blue", blue), endpoints("green", green)}
	cp.set(t, "node-1", ln, simpleRoute("r", "blue"), cluster("blue"), eps[0])
	startProxy(t, "g", "node-1", cp.port)
	waitServing(t, port)
	answers := func(want string) func() error {
		return func() error {
			got, err := say(t, port)
			if err == nil && got != want {
				err = fmt.Errorf("answered by %q", got)
			}
			return err
		}
	}
	if err := answers("blue")(); err != nil {
		t.Fatal(err)
	}

	cp.set(t, "node-1", ln, simpleRoute("r", "green"), badCluster("blue"), cluster("green"), eps[0], eps[1])
	eventually(t, "the NACK", func() error {
		n := cp.nacked(resourcev3.ClusterType)
		if len(n) == 0 {
			return fmt.Errorf("none yet")
		}
		return contains(n[0], `"blue"`, "connect_timeout")
	})
	eventually(t, "the good sibling serves", answers("green"))

	cp.set(t, "node-1", ln, simpleRoute("r", "blue"), badCluster("blue"), cluster("green"), eps[0], eps[1])
	eventually(t, "the last good version serves", answers("blue"))
	if n := len(cp.nacked(resourcev3.ClusterType)); n > 5 {
		t.Errorf("%d NACKs for two bad updates: the proxy spins", n)
	}
}

// TestListenerPortTaken: a listener whose port another program holds is NACKed
// with the address and the error; its sibling serves.
func TestListenerPortTaken(t *testing.T) {
	blue := startBackend(t, "blue")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cp := startXDSServer(t)
	port := freePort(t)
	cp.set(t, "node-1", listener("good", port, "r"), listener("bad", taken.Addr().(*net.TCPAddr).Port, "r"),
		simpleRoute("r", "blue"), cluster("blue"), endpoints("blue", blue))
	startProxy(t, "g", "node-1", cp.port)
	eventually(t, "the NACK", func() error {
		n := cp.nacked(resourcev3.ListenerType)
		if len(n) == 0 {
			return fmt.Errorf("none yet")
		}
		return contains(n[0], `"bad"`, taken.Addr().String(), "address already in use")
	})
	waitServing(t, port)
}

// TestClusterComesLater: a route to a cluster that is not there answers
// UNAVAILABLE, and serves as soon as the cluster comes, without any other
// change.
func TestClusterComesLater(t *testing.T) {
	blue := startBackend(t, "blue")
	cp := startXDSServer(t)
	port := freePort(t)
	ln, rt := listener("in", port, "r"), simpleRoute("r", "blue")
	cp.set(t, "node-1", ln, rt)
	startProxy(t, "g", "node-1", cp.port)
	eventually(t, "UNAVAILABLE", func() error {
		_, err := say(t, port)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "cluster") {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	cp.set(t, "node-1", ln, rt, cluster("blue"), endpoints("blue", blue))
	eventually(t, "the cluster serves", func() error {
		_, err := say(t, port)
		return err
	})
}

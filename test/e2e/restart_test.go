package e2e

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestControlPlaneSignals: SIGHUP and SIGUSR1 do not end the control plane,
// SIGTERM does.
func TestControlPlaneSignals(t *testing.T) {
	dir := newConfigDir(t, "edge")
	dir.put(t, "clusters.yaml", cluster("blue"))
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cp := start(t, "controlplane", "controlplane", "serve", "--config", dir.root, "--listen", addr)
	eventually(t, "the control plane listens", func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM} {
		cp.Signal(sig)
	}
	select {
	case <-cp.Done():
	case <-time.After(longest):
		t.Fatal("SIGTERM does not end it")
	}
	if got := cp.Exit(); got != "exit status 0" {
		t.Errorf("it ended with %q\n%s", got, cp.Report())
	}
}

// TestControlPlaneRestart:
//  1. two proxies under load; the control plane is killed (no goodbye);
//  2. calls go on without it;
//  3. its files change while it is away; it comes back on the same port;
//  4. the proxies converge to the new files by themselves, and no call failed.
func TestControlPlaneRestart(t *testing.T) {
	blue, green := startBackend(t, "blue"), startBackend(t, "green")
	dir := newConfigDir(t, "edge")
	cp := freePort(t)
	ports := map[*configDir]int{dir: freePort(t), {root: dir.root, group: "core"}: freePort(t)}
	for d, port := range ports {
		d.put(t, "listeners.yaml", listener("in", port, "r"))
	}
	all := func(name string, docs ...string) {
		for d := range ports {
			d.put(t, name, docs...)
		}
	}
	all("clusters.yaml", cluster("blue"), cluster("green"))
	all("endpoints.yaml", endpoints("blue", blue), endpoints("green", green))
	all("routes.yaml", revision("r", 1, 50))
	args := []string{"serve", "--config", dir.root, "--listen", fmt.Sprintf("127.0.0.1:%d", cp)}
	first := start(t, "controlplane", "controlplane", args...)
	var proxies []*proxy
	var loads []*load
	for d, port := range ports {
		proxies = append(proxies, startProxy(t, d.group, d.group+"-1", cp))
		waitServing(t, port)
		loads = append(loads, startLoad(t, port))
	}
	each := func(what string, check func(i int) error) {
		t.Helper()
		for i := range proxies {
			eventually(t, what, func() error { return check(i) })
		}
	}
	sees := func(rev int) func(i int) error {
		return func(i int) error {
			l := loads[i]
			l.mu.Lock()
			defer l.mu.Unlock()
			if _, ok := l.revs[rev]; !ok {
				return fmt.Errorf("no call saw revision %d", rev)
			}
			return nil
		}
	}
	each("revision 1 is live", sees(1))

	first.Kill()
	each("the proxies notice", func(i int) error {
		if v := proxies[i].stat(t, "control_plane.connected_state"); v != 0 {
			return fmt.Errorf("control_plane.connected_state is %v", v)
		}
		return nil
	})
	var before []int64
	for _, l := range loads {
		before = append(before, l.calls.Load())
	}
	all("routes.yaml", revision("r", 2, 10))
	each("calls go on", func(i int) error {
		if n := loads[i].calls.Load() - before[i]; n < 200 {
			return fmt.Errorf("%d calls since the control plane died", n)
		}
		return nil
	})

	start(t, "controlplane again", "controlplane", args...)
	each("revision 2 is live", sees(2))
	for _, l := range loads {
		l.finish(t)
	}
}

// TestBadFileKeepsLastGood:
//  1. a proxy serves revision 1;
//  2. a file with a bad regular expression is written: the control plane says
//     where the fault is, publishes nothing, and calls go on;
//  3. the file is mended, and revision 3 goes live.
func TestBadFileKeepsLastGood(t *testing.T) {
	blue, green := startBackend(t, "blue"), startBackend(t, "green")
	dir := newConfigDir(t, "edge")
	port, cp := freePort(t), freePort(t)
	dir.put(t, "listeners.yaml", listener("in", port, "r"))
	dir.put(t, "clusters.yaml", cluster("blue"), cluster("green"))
	dir.put(t, "endpoints.yaml", endpoints("blue", blue), endpoints("green", green))
	dir.put(t, "routes.yaml", revision("r", 1, 50))
	ctl := start(t, "controlplane", "controlplane", "serve", "--config", dir.root, "--listen", fmt.Sprintf("127.0.0.1:%d", cp))
	startProxy(t, "edge", "edge-1", cp)
	waitServing(t, port)
	l := startLoad(t, port)

	dir.put(t, "routes.yaml", `
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: r
  response_headers_to_add: [{header: {key: x-rev, value: "2"}}]
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - match: {safe_regex: {regex: "/(unclosed"}}
      route: {cluster: blue}
`)
	eventually(t, "the control plane names the fault", func() error {
		return contains(ctl.Output(), "routes.yaml", "RouteConfiguration", "virtual_hosts[0].routes[0].match.safe_regex")
	})
	dir.put(t, "routes.yaml", revision("r", 3, 50))
	eventually(t, "revision 3 is live", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, ok := l.revs[3]; !ok {
			return fmt.Errorf("revisions seen: %v", l.revs)
		}
		if _, ok := l.revs[2]; ok {
			t.Fatal("the bad revision went live")
		}
		return nil
	})
	l.finish(t)
}

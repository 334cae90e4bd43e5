package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// harness is a client whose control plane is the test. It lives in a synctest
// bubble.
type harness struct {
	t       *testing.T
	client  *Client
	handler *recorder
	server  *scriptedServer
	cancel  context.CancelFunc
	ended   chan error
}

// start makes a client and runs it.
func start(t *testing.T, change func(*Config)) *harness {
	h := newHarness(t, change)
	h.run()
	return h
}

// newHarness makes a client that does not run yet.
func newHarness(t *testing.T, change func(*Config)) *harness {
	h := &harness{t: t, handler: &recorder{}, server: &scriptedServer{}, ended: make(chan error, 1)}
	cfg := Config{
		Transport: h.server,
		Handler:   h.handler,
		Node:      &corev3.Node{Id: "n"},
	}
	if change != nil {
		change(&cfg)
	}
	h.client = New(cfg)
	return h
}

func (h *harness) run() {
	ctx, cancel := context.WithCancel(h.t.Context())
	h.cancel = cancel
	go func() { h.ended <- h.client.Run(ctx) }()
}

// stop ends the client, and checks that it ends for that reason.
func (h *harness) stop() {
	h.t.Helper()
	h.cancel()
	if err := <-h.ended; !errors.Is(err, context.Canceled) {
		h.t.Errorf("Run returned %v, want context.Canceled", err)
	}
}

// settle lets pass the time in which changes are collected into one request.
func (h *harness) settle() {
	time.Sleep(coalesce) // fake time
	synctest.Wait()
}

// requests checks what the client sent since the last call.
func (h *harness) requests(want ...string) {
	h.t.Helper()
	h.settle()
	if diff := cmp.Diff(want, h.server.takeRequests()); diff != "" {
		h.t.Fatalf("requests (-want +got):\n%s", diff)
	}
}

// respond sends a response and returns it as the handler got it, or nil.
func (h *harness) respond(typeURL, version, nonce string, resources ...*anypb.Any) *Response {
	h.t.Helper()
	before := len(h.handler.responses())
	h.server.send(&discoveryv3.DiscoveryResponse{
		TypeUrl: typeURL, VersionInfo: version, Nonce: nonce, Resources: resources,
		ControlPlane: &corev3.ControlPlane{Identifier: "scripted"},
	})
	synctest.Wait()
	if got := h.handler.responses(); len(got) > before {
		return got[len(got)-1]
	}
	return nil
}

// recorder is a Handler that keeps what it gets.
type recorder struct {
	mu    sync.Mutex
	got   []*Response
	ups   int
	downs []string
	bad   []string      // what was malformed
	block chan struct{} // if not nil, Response waits for it
}

func (r *recorder) Response(resp *Response) {
	r.mu.Lock()
	r.got = append(r.got, resp)
	block := r.block
	r.mu.Unlock()
	if block != nil {
		<-block
	}
}

func (r *recorder) Malformed(typeURL, version string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad = append(r.bad, fmt.Sprintf("%s %s: %v", typeURL, version, err))
}

func (r *recorder) StreamUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ups++
}

func (r *recorder) StreamDown(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.downs = append(r.downs, err.Error())
}

func (r *recorder) responses() []*Response {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// scriptedServer is a Transport without a network.
type scriptedServer struct {
	mu      sync.Mutex
	refuse  error // of the next attempts to open a stream
	opens   []time.Time
	stream  *scriptedStream // the newest
	sent    []string        // requests since takeRequests, as text
	stalled bool            // requests are not read any more
}

func (s *scriptedServer) Open(ctx context.Context, method string) (Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens = append(s.opens, time.Now())
	if s.refuse != nil {
		return nil, s.refuse
	}
	if method != adsSotW {
		return nil, errors.New("unknown method " + method)
	}
	s.stream = &scriptedStream{ctx: ctx, server: s, out: make(chan *discoveryv3.DiscoveryResponse, 100), end: make(chan error, 1)}
	return s.stream, nil
}

func (s *scriptedServer) current() *scriptedStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream
}

func (s *scriptedServer) send(r *discoveryv3.DiscoveryResponse) { s.current().out <- r }

// end ends the stream as the server would.
func (s *scriptedServer) end(err error) { s.current().end <- err }

func (s *scriptedServer) setRefuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *scriptedServer) setStalled(stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = stalled
}

func (s *scriptedServer) takeRequests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sent
	s.sent = nil
	return out
}

func (s *scriptedServer) attempts() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.opens)
}

type scriptedStream struct {
	ctx    context.Context
	server *scriptedServer
	out    chan *discoveryv3.DiscoveryResponse
	end    chan error
}

func (s *scriptedStream) Send(m proto.Message) error {
	s.server.mu.Lock()
	stalled := s.server.stalled
	if !stalled {
		s.server.sent = append(s.server.sent, render(m.(*discoveryv3.DiscoveryRequest)))
	}
	s.server.mu.Unlock()
	if stalled {
		<-s.ctx.Done()
	}
	if s.ctx.Err() != nil {
		return io.EOF
	}
	return nil
}

func (s *scriptedStream) Recv(m proto.Message) error {
	select {
	case r := <-s.out:
		proto.Merge(m, r)
		return nil
	case err := <-s.end:
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *scriptedStream) Close() {}

var shortNames = map[string]string{
	RuntimeType: "RTDS", ClusterType: "CDS", EndpointType: "EDS", SecretType: "SDS",
	ListenerType: "LDS", RouteType: "RDS",
}

// render writes a request in one line: only what is set.
func render(r *discoveryv3.DiscoveryRequest) string {
	words := []string{shortNames[r.TypeUrl]}
	if len(r.ResourceNames) > 0 {
		words = append(words, strings.Join(r.ResourceNames, ","))
	}
	if r.VersionInfo != "" {
		words = append(words, "version="+r.VersionInfo)
	}
	if r.ResponseNonce != "" {
		words = append(words, "nonce="+r.ResponseNonce)
	}
	if r.Node != nil {
		words = append(words, "node")
	}
	if e := r.ErrorDetail; e != nil {
		words = append(words, "error="+e.Message)
		if e.Code != 13 {
			words = append(words, "with a wrong code")
		}
	}
	return strings.Join(words, " ")
}

func resource(typeURL string) *anypb.Any { return &anypb.Any{TypeUrl: typeURL} }

func wildcard() Subscription             { return Subscription{Wildcard: true} }
func names(names ...string) Subscription { return Subscription{Names: names} }
func onceNode(c *Config)                 { c.SetNodeOnFirstMessageOnly = true }
func bubble(f func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

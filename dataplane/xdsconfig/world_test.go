package xdsconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/cluster/discovery"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/xdsclient"
)

// Bind implements Server.
func (w *world) Bind(l *listener.Listener) error {
	var errs []error
	var list []string
	for _, a := range l.Addresses {
		list = append(list, a.Address)
		if w.taken[a.Address] {
			errs = append(errs, fmt.Errorf("address %s: bind: address already in use", a.Address))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("listener %q: %w", l.Name, err)
	}
	w.say("bind %s %s", l.Name, strings.Join(list, " "))
	return nil
}

// Serve implements Server.
func (w *world) Serve(l *listener.Listener) error {
	w.mu.Lock()
	w.served[l.Name] = l
	w.mu.Unlock()
	w.say("serve %s", l.Name)
	return nil
}

// Remove implements Server.
func (w *world) Remove(name string) {
	w.mu.Lock()
	delete(w.served, name)
	w.mu.Unlock()
	w.say("remove %s", name)
}

// Sweep implements Server.
func (w *world) Sweep() { w.say("sweep") }

// Lookup implements discovery.Lookup.
func (w *world) Lookup(_ context.Context, name string, v6 bool) (discovery.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	addrs := w.names[name]
	if addrs == nil {
		return discovery.Answer{}, errors.New("no such host")
	}
	if v6 {
		return discovery.Answer{}, nil
	}
	return discovery.Answer{Addrs: slices.Clone(addrs)}, nil
}

// Open implements xdsclient.Transport.
func (w *world) Open(ctx context.Context, _ string) (xdsclient.Stream, error) {
	st := &fakeStream{w: w, ctx: ctx, in: make(chan *discoveryv3.DiscoveryResponse), ended: make(chan error, 1)}
	w.mu.Lock()
	w.stream = st
	w.mu.Unlock()
	w.say("stream opened")
	return st, nil
}

// fakeStream is the control plane's end of a stream.
type fakeStream struct {
	w     *world
	ctx   context.Context
	in    chan *discoveryv3.DiscoveryResponse
	ended chan error
}

func (s *fakeStream) end(err error) { s.ended <- err }

func (s *fakeStream) Send(m proto.Message) error {
	r := m.(*discoveryv3.DiscoveryRequest)
	var b bytes.Buffer
	fmt.Fprintf(&b, "-> %s", shortType(r.TypeUrl))
	switch {
	case r.ErrorDetail != nil:
		fmt.Fprintf(&b, " NACK (version %q)", r.VersionInfo)
	case r.ResponseNonce != "":
		fmt.Fprintf(&b, " ACK %q", r.VersionInfo)
	}
	if len(r.ResourceNames) > 0 {
		fmt.Fprintf(&b, " names %s", strings.Join(r.ResourceNames, " "))
	}
	if r.ErrorDetail != nil {
		for line := range strings.Lines(r.ErrorDetail.Message) {
			fmt.Fprintf(&b, "\n   %s", strings.TrimRight(line, "\n"))
		}
	}
	s.w.say("%s", b.String())
	return nil
}

func (s *fakeStream) Recv(m proto.Message) error {
	select {
	case r := <-s.in:
		proto.Merge(m, r)
		return nil
	case err := <-s.ended:
		return err
	case <-s.ctx.Done():
		return io.EOF
	}
}

func (s *fakeStream) Close() {}

package grpcproxy_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// 1.21, 1.58: 10,000 calls that their clients cancel at any point leave
// nothing behind: goleak in TestMain counts goroutines, and the last call of
// all finds a proxy that works. concurrentCalls of them are open when the first
// is cancelled. One to one, one to many, with a server's kept goroutines and
// without.
func TestTenThousandCancelled(t *testing.T) {
	const calls = 10_000
	chatty := func(ss grpc.ServerStream) error {
		_ = ss.SendHeader(metadata.Pairs("here", "1"))
		for {
			m, err := recv(ss)
			if err != nil {
				return err
			}
			for range 3 {
				if err := ss.SendMsg(grpcproxy.NewFrame([]byte(m))); err != nil {
					return err
				}
			}
		}
	}
	one, two := startBackend(t, chatty), startBackend(t, chatty)
	_, server := startServer(t, &grpcproxy.Config{DefaultBackend: one})
	many := []grpcproxy.Backend{
		&grpcproxy.ConnBackend{Name: "1", Conn: dial(t, one)},
		&grpcproxy.ConnBackend{Name: "2", Conn: dial(t, two)},
	}
	director := func(mode grpcproxy.Mode) *grpc.ClientConn {
		return startProxy(t, grpcproxy.TransparentHandler(func(context.Context, string) (grpcproxy.Mode, []grpcproxy.Backend, error) {
			return mode, many, nil
		}, grpcproxy.WithStreamedDetector(streamed)))
	}
	proxies := []*grpc.ClientConn{
		server,
		startProxy(t, grpcproxy.TransparentHandler(to(dial(t, one)))),
		director(grpcproxy.One2Many),
		director(grpcproxy.Replicated),
	}
	for done := 0; done < calls; done += concurrentCalls {
		var open, all sync.WaitGroup
		open.Add(concurrentCalls)
		for i := range concurrentCalls {
			all.Go(func() { cancelled(t, proxies[i%len(proxies)], &open) })
		}
		all.Wait()
	}
	for i, cc := range proxies {
		cs := stream(t, testContext(t), cc)
		send(t, cs, "still here")
		if got, err := recv(cs); got != "still here" || err != nil {
			t.Errorf("proxy %d afterwards: %q, %v", i, got, err)
		}
	}
}

// cancelled makes a call, and cancels it at some point when all are open.
func cancelled(t *testing.T, cc *grpc.ClientConn, open *sync.WaitGroup) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cs, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(grpcproxy.Codec()))
	if err == nil && rand.IntN(2) == 0 {
		_, err = cs.Header() // the backend has it
	}
	open.Done()
	if err != nil {
		t.Error(err)
		return
	}
	open.Wait()
	switch rand.IntN(3) {
	case 0: // at once
	case 1:
		_ = cs.SendMsg(grpcproxy.NewFrame([]byte("x")))
	case 2:
		_ = cs.SendMsg(grpcproxy.NewFrame([]byte("x")))
		_, _ = recv(cs)
	}
	cancel()
	for err == nil {
		_, err = recv(cs)
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("a cancelled call ended with %v", err)
	}
}

package attack

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-proxy/sluice/test/echo"
)

// The well-behaved clients: several connections, so that every worker has some.
const (
	steadyConns = 4
	steadyEvery = 20 * time.Millisecond // on each connection
	steadyLimit = time.Minute           // for one call: the machine may be busy, and latency is judged apart
)

// freshEvery is how often a new client comes to the listener with TLS.
const freshEvery = 100 * time.Millisecond

// steady makes unary calls at a fixed rate, each in its own time.
type steady struct {
	ccs  []*grpc.ClientConn
	dial func() (*grpc.ClientConn, error) // of a new client that comes now and then, or nil
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex // guards all below
	times    []time.Duration
	failures []string
}

// connectSteady connects the clients and makes one call on each.
func connectSteady(t *testing.T, p *proxy, secure bool) *steady {
	t.Helper()
	s := &steady{}
	addr, creds := p.addr, insecure.NewCredentials()
	if secure {
		addr, creds = p.tls, credentials.NewTLS(&tls.Config{RootCAs: p.roots, ServerName: victim})
	}
	dial := func() (*grpc.ClientConn, error) {
		return grpc.NewClient(addr, grpc.WithTransportCredentials(creds), grpc.WithDisableRetry())
	}
	if secure {
		s.dial = dial
	}
	for range steadyConns {
		cc, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cc.Close() })
		s.ccs = append(s.ccs, cc)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err = echo.NewEchoClient(cc).Say(ctx, &echo.SayRequest{}, grpc.WaitForReady(true))
		cancel()
		if err != nil {
			t.Fatalf("the proxy does not serve: %v", err)
		}
	}
	return s
}

// start begins to call.
func (s *steady) start() {
	s.times, s.failures = nil, nil
	s.stop = make(chan struct{})
	for _, cc := range s.ccs {
		s.wg.Add(1)
		go s.run(steadyEvery, func() { s.call(echo.NewEchoClient(cc)) })
	}
	if s.dial != nil {
		s.wg.Add(1)
		go s.run(freshEvery, s.fresh)
	}
}

// fresh makes a call on a connection of its own.
func (s *steady) fresh() {
	cc, err := s.dial()
	if err != nil {
		s.wg.Done()
		s.note(0, err)
		return
	}
	defer func() { _ = cc.Close() }()
	s.call(echo.NewEchoClient(cc))
}

// run runs call every so often, each on a goroutine of its own.
func (s *steady) run(every time.Duration, call func()) {
	defer s.wg.Done()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.wg.Add(1)
			go call()
		}
	}
}

func (s *steady) call(cl echo.EchoClient) {
	defer s.wg.Done()
	ctx, cancel := context.WithTimeout(context.Background(), steadyLimit)
	defer cancel()
	begin := time.Now()
	_, err := cl.Say(ctx, &echo.SayRequest{Text: "hello"})
	s.note(time.Since(begin), err)
}

func (s *steady) note(d time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, d)
	if err != nil {
		s.failures = append(s.failures, fmt.Sprintf("after %v: %v", d.Round(time.Millisecond), err))
	}
}

// end stops calling, waits for the calls in progress and returns the 99th
// percentile.
func (s *steady) end() (p99 time.Duration) {
	close(s.stop)
	s.wg.Wait()
	if len(s.times) == 0 {
		return 0
	}
	slices.Sort(s.times)
	return s.times[len(s.times)*99/100]
}

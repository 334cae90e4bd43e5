package grpcproxy

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
)

var plain1 = grpc.WithTransportCredentials(insecure.NewCredentials())

func get(t *testing.T, p *Pool, addr string) *PoolConn {
	t.Helper()
	c, err := p.GetConn(addr, plain1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// 1.45: streams per connection, size, idle.
func TestPoolLimits(t *testing.T) {
	p := NewPool(2, 0, 1, 2)
	defer p.Close()
	a, b := get(t, p, "x"), get(t, p, "x")
	if a.ClientConn != b.ClientConn {
		t.Error("two streams fit on a connection, but two were made")
	}
	c := get(t, p, "x")
	if c.ClientConn == a.ClientConn {
		t.Error("a third stream on a connection for two")
	}
	if other := get(t, p, "y"); other.ClientConn == c.ClientConn {
		t.Error("addresses share a connection")
	}
	d, over := get(t, p, "x"), get(t, p, "x")
	if over.ClientConn == a.ClientConn || over.ClientConn == c.ClientConn {
		t.Error("no room, but a kept connection was given")
	}
	over.Close()
	if over.GetState() != connectivity.Shutdown {
		t.Error("a connection beyond size outlives its use")
	}
	for _, pc := range []*PoolConn{a, b, c, d} {
		pc.Close()
		pc.Close() // once counts
	}
	open := 0
	for _, pc := range []*PoolConn{a, c} {
		if pc.GetState() != connectivity.Shutdown {
			open++
		}
	}
	if open != 1 {
		t.Errorf("%d idle connections, want 1", open)
	}
}

// 1.45: less than one stream is one.
func TestPoolOneStream(t *testing.T) {
	p := NewPool(10, 0, 10, 0)
	defer p.Close()
	a, b := get(t, p, "x"), get(t, p, "x")
	if a.ClientConn == b.ClientConn {
		t.Error("shared")
	}
	p.Release("x", a, nil)
	if c := get(t, p, "x"); c.ClientConn != a.ClientConn {
		t.Error("an idle connection was not used again")
	}
}

// 1.46: what is too old, or failed, gets no more calls, and closes with its
// last.
func TestPoolExpiry(t *testing.T) {
	now := time.Unix(0, 0)
	p := NewPool(10, time.Minute, 10, 2)
	p.now = func() time.Time { return now }
	defer p.Close()
	a := get(t, p, "x")
	now = now.Add(2 * time.Minute)
	b := get(t, p, "x")
	if b.ClientConn == a.ClientConn {
		t.Error("an expired connection was given")
	}
	if a.GetState() == connectivity.Shutdown {
		t.Error("an expired connection was closed under its call")
	}
	a.Close()
	if a.GetState() != connectivity.Shutdown {
		t.Error("an expired connection outlives its last call")
	}
	p.Release("x", b, errors.New("it broke"))
	if c := get(t, p, "x"); c.ClientConn == b.ClientConn {
		t.Error("a failed connection was given")
	}
	d := get(t, p, "y")
	d.Close()
	now = now.Add(2 * time.Minute)
	if e := get(t, p, "y"); e.ClientConn == d.ClientConn || d.GetState() != connectivity.Shutdown {
		t.Error("an idle connection that expired was given or is kept")
	}
}

// 1.46: many goroutines; afterwards the counts are right.
func TestPoolConcurrent(t *testing.T) {
	p := NewPool(8, 0, 3, 4)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := range 200 {
				c, err := p.GetConn(fmt.Sprint(i%3), plain1)
				if err != nil {
					t.Error(err)
					return
				}
				c.Close()
			}
		})
	}
	all.Wait()
	p.addrs.Range(func(_, v any) bool {
		a := v.(*addrPool)
		if a.idle != len(a.conns) || a.kept != a.idle || a.idle > 3 {
			t.Errorf("%d idle, %d kept, %d connections", a.idle, a.kept, len(a.conns))
		}
		return true
	})
	p.Close()
	if _, err := p.GetConn("0", plain1); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := p.GetConn("new", plain1); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("closed: %v", err)
	}
}

// 1.46: the cost of a connection does not grow with their number.
func BenchmarkPool(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := NewPool(n+1, 0, n+1, 1)
			defer p.Close()
			for range n {
				if _, err := p.GetConn("x", plain1); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				c, err := p.GetConn("x", plain1)
				if err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// 1.47: one connection per address; Remove makes another, and lets the calls
// of the old one end.
func TestConnectionCache(t *testing.T) {
	c := NewConnectionCache(nil, nil, nil)
	defer c.Close()
	a, err := c.acquire("x")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := c.Get("x"); b != a.ClientConn {
		t.Error("two connections for one address")
	}
	c.Remove("x")
	c.Remove("unknown")
	if b, _ := c.Get("x"); b == a.ClientConn {
		t.Error("a removed connection was given")
	}
	if a.GetState() == connectivity.Shutdown {
		t.Error("a removed connection was closed under its call")
	}
	a.release()
	if a.GetState() != connectivity.Shutdown {
		t.Error("a removed connection outlives its last call")
	}
	c.Close()
	if _, err := c.Get("x"); !errors.Is(err, errCacheClosed) {
		t.Errorf("closed: %v", err)
	}
}

// 1.48: what is pinned stays, however idle grpc-go says it is (as it does
// while calls drain after a GOAWAY); what nobody has used for a while goes.
func TestConnectionCacheEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewConnectionCache(nil, nil, nil).WithEviction(time.Minute)
		defer c.Close()
		pinned, err := c.acquire("pinned")
		if err != nil {
			t.Fatal(err)
		}
		used, _ := c.acquire("used")
		used.release()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if pinned.GetState() != connectivity.Idle {
			t.Fatalf("the pinned connection is %v: the test shows nothing", pinned.GetState())
		}
		if used.GetState() != connectivity.Shutdown || c.Len() != 1 {
			t.Errorf("an unused connection is kept; %d", c.Len())
		}
		again, err := c.acquire("used")
		if err != nil || again == used {
			t.Errorf("an evicted connection was given, %v", err)
		}
		again.release()
		pinned.release()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if c.Len() != 0 {
			t.Errorf("%d connections are left", c.Len())
		}
	})
}

// 1.47, 1.48: getting, releasing and sweeping at once never gives a closed
// connection.
func TestConnectionCacheConcurrent(t *testing.T) {
	c := NewConnectionCache(nil, nil, nil)
	defer c.Close()
	stop := make(chan struct{})
	var sweeper, users sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.sweep()
			}
		}
	})
	for range 4 {
		users.Go(func() {
			for range 500 {
				cc, err := c.acquire("x")
				if err != nil {
					t.Error(err)
					return
				}
				if cc.GetState() == connectivity.Shutdown {
					t.Error("a pinned connection is closed")
				}
				cc.release()
			}
		})
	}
	users.Wait()
	close(stop)
	sweeper.Wait()
}

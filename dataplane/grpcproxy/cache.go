package grpcproxy

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// ConnectionCache keeps one connection per backend address. Getting one that
// is there takes no lock. Safe for concurrent use.
type ConnectionCache struct {
	// Set at creation.

	dial []grpc.DialOption
	idle time.Duration // 0: connections are kept
	stop chan struct{} // closed by Close
	done sync.WaitGroup

	mu     sync.Mutex // held to change conns
	closed bool       // guarded by mu

	conns atomic.Pointer[map[string]*cachedConn] // replaced, never changed
}

// cachedConn is a connection and the calls that are on it.
type cachedConn struct {
	*grpc.ClientConn
	// pins counts the calls in flight. Below zero the connection is closed to
	// new ones; adding to it can not bring it back.
	pins atomic.Int64
	used atomic.Bool // since the last sweep
	// lent: Get gave it away, so that pins does not know all of its calls.
	lent    atomic.Bool
	removed atomic.Bool // closes with its last pin
}

const evicted = math.MinInt64 / 2

var errCacheClosed = errors.New("grpcproxy: the connection cache is closed")

// NewConnectionCache returns an empty cache. ka may be nil, for grpc-go's
// defaults, and creds too, for plaintext; dialOpts come after all others. It
// evicts nothing: see WithEviction for that.
func NewConnectionCache(ka *keepalive.ClientParameters, creds credentials.TransportCredentials, dialOpts []grpc.DialOption) *ConnectionCache {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	c := &ConnectionCache{stop: make(chan struct{})}
	c.dial = append(c.dial, DialOptions()...)
	c.dial = append(c.dial, grpc.WithTransportCredentials(creds))
	if ka != nil {
		c.dial = append(c.dial, grpc.WithKeepaliveParams(*ka))
	}
	c.dial = append(c.dial, dialOpts...)
	c.conns.Store(&map[string]*cachedConn{})
	return c
}

// WithEviction makes the cache close what nobody has used for idle, or up to
// twice that. Call it once, before the cache is used; it returns c.
//
// A call holds its connection for as long as it lives. That grpc-go calls a
// connection idle would not be enough to close it: it does so as soon as the
// backend has sent GOAWAY, while earlier calls still go on. The state only
// counts for connections that were given away by Get, whose calls the cache
// does not see.
func (c *ConnectionCache) WithEviction(idle time.Duration) *ConnectionCache {
	if idle > 0 {
		c.idle = idle
		c.dial = append(c.dial, grpc.WithIdleTimeout(idle))
		c.done.Go(c.sweepForever)
	}
	return c
}

// Get returns the connection for an address, making it if need be. The cache
// may close it when grpc-go says it is idle; see WithEviction.
func (c *ConnectionCache) Get(backend string) (*grpc.ClientConn, error) {
	cc, err := c.acquire(backend)
	if err != nil {
		return nil, err
	}
	cc.lent.Store(true)
	cc.release()
	return cc.ClientConn, nil
}

// acquire returns the connection for an address, pinned: it is not closed
// before release, other than by Close.
func (c *ConnectionCache) acquire(backend string) (*cachedConn, error) {
	for {
		if cc := (*c.conns.Load())[backend]; cc != nil {
			if cc.pins.Add(1) > 0 {
				return cc, nil
			}
			cc.pins.Add(-1) // it was evicted this instant
		}
		if err := c.make(backend); err != nil {
			return nil, err
		}
	}
}

// release ends a pin.
func (cc *cachedConn) release() {
	if !cc.used.Load() { // do not write what is there: the line is shared
		cc.used.Store(true)
	}
	if cc.pins.Add(-1) == 0 && cc.removed.Load() {
		cc.evict()
	}
}

// evict closes the connection if no call is on it.
func (cc *cachedConn) evict() bool {
	if !cc.pins.CompareAndSwap(0, evicted) {
		return false
	}
	_ = cc.Close()
	return true
}

func (c *ConnectionCache) make(backend string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errCacheClosed
	}
	old := *c.conns.Load()
	if cc := old[backend]; cc != nil && cc.pins.Load() >= 0 {
		return nil // somebody else was faster
	}
	conn, err := grpc.NewClient(backend, c.dial...)
	if err != nil {
		return err
	}
	c.storeLocked(backend, &cachedConn{ClientConn: conn})
	return nil
}

// storeLocked replaces the connection of an address; nil removes it.
func (c *ConnectionCache) storeLocked(backend string, cc *cachedConn) {
	old := *c.conns.Load()
	conns := make(map[string]*cachedConn, len(old)+1)
	for k, v := range old {
		conns[k] = v
	}
	if cc == nil {
		delete(conns, backend)
	} else {
		conns[backend] = cc
	}
	c.conns.Store(&conns)
}

// Remove makes the next call to an address use a new connection. The present
// one is closed when its calls have ended, of which those on what Get has
// returned do not count.
func (c *ConnectionCache) Remove(backend string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cc := (*c.conns.Load())[backend]
	if cc == nil {
		return
	}
	c.storeLocked(backend, nil)
	cc.removed.Store(true)
	cc.evict()
}

// Len returns the number of connections.
func (c *ConnectionCache) Len() int { return len(*c.conns.Load()) }

// Close closes all connections; calls that are relayed on them fail with
// UNAVAILABLE. What was removed before closes with its last call.
func (c *ConnectionCache) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	close(c.stop)
	conns := *c.conns.Load()
	c.conns.Store(&map[string]*cachedConn{})
	c.mu.Unlock()
	for _, cc := range conns {
		_ = cc.Close()
	}
	c.done.Wait()
}

func (c *ConnectionCache) sweepForever() {
	tick := time.NewTicker(c.idle)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.sweep()
		case <-c.stop:
			return
		}
	}
}

// sweep evicts the connections that were not used since the last sweep.
func (c *ConnectionCache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for backend, cc := range *c.conns.Load() {
		switch {
		case cc.used.Swap(false) || cc.pins.Load() != 0:
		case cc.lent.Load() && cc.GetState() != connectivity.Idle:
		case cc.evict():
			c.storeLocked(backend, nil)
		}
	}
}

package grpcproxy

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Pool keeps several connections per address and spreads calls over them, for
// backends that allow few streams on a connection. Safe for concurrent use;
// addresses have nothing in common but a map, and getting and releasing a
// connection costs the same however many there are.
type Pool struct {
	// Set at creation.

	size    int           // connections per address that are kept
	ttl     time.Duration // 0: for ever
	idle    int           // connections per address that are kept without streams
	streams int           // per connection
	now     func() time.Time

	addrs  sync.Map // string → *addrPool
	closed atomic.Bool
}

// ErrPoolClosed is what a closed Pool says.
var ErrPoolClosed = errors.New("grpcproxy: the pool is closed")

// NewPool returns an empty pool. It keeps at most size connections per
// address; beyond them connections are made, used once and closed. A
// connection older than ttl gets no new streams (0: no limit), idle are kept
// that have no streams, and maxStreams are used on each (1 if it is less).
func NewPool(size int, ttl time.Duration, idle, maxStreams int) *Pool {
	return &Pool{size: size, ttl: ttl, idle: idle, streams: max(maxStreams, 1), now: time.Now}
}

// PoolConn is a connection of a Pool, with room for one call or more. Close
// gives it back; it never closes the connection that others use.
type PoolConn struct {
	*grpc.ClientConn
	conn     *pooledConn
	pool     *addrPool
	released atomic.Bool
}

// pooledConn is one connection. All but cc and made is guarded by the
// addrPool's lock.
type pooledConn struct {
	cc         *grpc.ClientConn
	made       time.Time
	streams    int
	kept       bool // it counts towards size
	dead       bool // no new streams; closes with its last
	open       bool // in the list of those with room
	prev, next *pooledConn
}

// addrPool is the connections to one address.
type addrPool struct {
	pool *Pool

	mu     sync.Mutex // guards all below, and never held over I/O
	closed bool
	kept   int // connections that count towards size
	idle   int // of them without streams
	conns  map[*pooledConn]struct{}
	// room is a ring of the connections with room for streams, the latest
	// released first: what is used stays warm, and what is not gets old.
	room pooledConn
}

// GetConn returns a connection to addr with room for a call. opts are used if
// it has to be made. It does not wait for the connection to be up: calls do,
// within their own deadline.
func (p *Pool) GetConn(addr string, opts ...grpc.DialOption) (*PoolConn, error) {
	v, ok := p.addrs.Load(addr)
	if !ok {
		a := &addrPool{pool: p, conns: make(map[*pooledConn]struct{})}
		a.room.next, a.room.prev = &a.room, &a.room
		v, _ = p.addrs.LoadOrStore(addr, a)
	}
	if p.closed.Load() {
		return nil, ErrPoolClosed
	}
	a := v.(*addrPool)
	if c := a.take(); c != nil {
		return &PoolConn{ClientConn: c.cc, conn: c, pool: a}, nil
	}
	cc, err := grpc.NewClient(addr, opts...)
	if err != nil {
		return nil, err
	}
	c := &pooledConn{cc: cc, made: p.now(), streams: 1}
	if !a.add(c) {
		_ = cc.Close()
		return nil, ErrPoolClosed
	}
	return &PoolConn{ClientConn: cc, conn: c, pool: a}, nil
}

// Release gives conn back. An error that says that the connection failed keeps
// it from being used again; it may be nil. It is PoolConn.Close with a reason.
func (p *Pool) Release(_ string, conn *PoolConn, err error) {
	if conn == nil || conn.released.Swap(true) {
		return
	}
	conn.pool.release(conn.conn, err)
}

// Close gives the connection back to its pool.
func (c *PoolConn) Close() error {
	c.pool.pool.Release("", c, nil)
	return nil
}

// Close closes all connections; calls on them fail.
func (p *Pool) Close() {
	p.closed.Store(true)
	p.addrs.Range(func(_, v any) bool {
		v.(*addrPool).close()
		return true
	})
}

// take returns a connection with room and one more stream, nil if there is
// none. Those that it finds useless are gone afterwards, so that a connection
// is looked at once for each time it is used, and once more.
func (a *addrPool) take() *pooledConn {
	var useless []*grpc.ClientConn
	a.mu.Lock()
	var found *pooledConn
	for c := a.room.next; c != &a.room; c = a.room.next {
		if a.usable(c) {
			found = c
			break
		}
		a.unlink(c)
		c.dead = true
		if c.streams == 0 {
			a.idle--
			a.dropLocked(c)
			useless = append(useless, c.cc)
		}
	}
	if found != nil {
		if found.streams == 0 {
			a.idle--
		}
		if found.streams++; found.streams >= a.pool.streams {
			a.unlink(found)
		}
	}
	a.mu.Unlock()
	for _, cc := range useless {
		_ = cc.Close()
	}
	return found
}

// usable reports whether c may have another stream. A failing connection with
// streams is left to them; grpc-go is reconnecting it.
func (a *addrPool) usable(c *pooledConn) bool {
	if a.expired(c) {
		return false
	}
	switch c.cc.GetState() {
	case connectivity.Shutdown, connectivity.TransientFailure:
		return false
	}
	return true
}

// add takes in a new connection that has one stream.
func (a *addrPool) add(c *pooledConn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.conns[c] = struct{}{}
	if a.kept >= a.pool.size {
		c.dead = true // one use
		return true
	}
	c.kept = true
	a.kept++
	if c.streams < a.pool.streams {
		a.link(c)
	}
	return true
}

// release takes a stream off c.
func (a *addrPool) release(c *pooledConn, err error) {
	a.mu.Lock()
	c.streams--
	if err != nil && c.cc.GetState() != connectivity.Ready || a.expired(c) {
		c.dead = true
		a.unlink(c)
	}
	closeIt := false
	switch {
	case c.streams > 0 && !c.dead && !c.open:
		a.link(c)
	case c.streams == 0 && (c.dead || a.idle >= a.pool.idle):
		a.dropLocked(c)
		closeIt = true
	case c.streams == 0:
		a.idle++
		a.unlink(c)
		a.link(c)
	}
	a.mu.Unlock()
	if closeIt {
		_ = c.cc.Close()
	}
}

func (a *addrPool) expired(c *pooledConn) bool {
	return a.pool.ttl > 0 && a.pool.now().Sub(c.made) >= a.pool.ttl
}

// dropLocked forgets c, which the caller closes.
func (a *addrPool) dropLocked(c *pooledConn) {
	if _, ok := a.conns[c]; !ok {
		return
	}
	delete(a.conns, c)
	a.unlink(c)
	if c.kept {
		a.kept--
	}
}

func (a *addrPool) close() {
	a.mu.Lock()
	a.closed = true
	conns := a.conns
	a.conns = nil
	a.room.next, a.room.prev = &a.room, &a.room
	a.mu.Unlock()
	for c := range conns {
		_ = c.cc.Close()
	}
}

func (a *addrPool) link(c *pooledConn) {
	c.prev, c.next = &a.room, a.room.next
	c.prev.next, c.next.prev = c, c
	c.open = true
}

func (a *addrPool) unlink(c *pooledConn) {
	if !c.open {
		return
	}
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next, c.open = nil, nil, false
}

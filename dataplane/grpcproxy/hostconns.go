package grpcproxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// hostConns keeps the connections to the hosts of clusters. A host that stays
// in its cluster over an update is the same value, and keeps its connections.
type hostConns struct {
	options []grpc.DialOption
	hosts   sync.Map // call.Host → *hostConn

	mu     sync.Mutex // held to add and remove
	closed bool
}

// hostConn is a host's connections. They are made one after the other: a
// second when the first has as many calls as a connection usually may.
type hostConn struct {
	host call.Host
	// calls counts those in flight. Below zero the host was retired and has no
	// room for new ones; adding to it can not bring it back.
	calls atomic.Int64
	gone  atomic.Bool // the last call closes
	once  sync.Once
	conns []*grpc.ClientConn // set at creation
}

// Envoy's defaults, and what servers usually allow.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultConnections    = 4
	streamsPerConn        = 100
)

var errHostsClosed = errors.New("the director is closed")

func newHostConns(o []grpc.DialOption) *hostConns { return &hostConns{options: o} }

// acquire returns the connections to a host, for one call.
func (h *hostConns) acquire(host call.Host) (*hostConn, error) {
	if c := h.hold(host); c != nil {
		return c, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errHostsClosed
	}
	if c := h.hold(host); c != nil {
		return c, nil
	}
	c, err := h.dial(host)
	if err != nil {
		return nil, err
	}
	c.calls.Store(1)
	h.hosts.Store(host, c)
	if host.Retired() { // the sweep that this tells of may be over
		h.hosts.CompareAndDelete(host, c)
		c.gone.Store(true)
	}
	return c, nil
}

// hold returns the connections to a host with one more call, nil if there are
// none, or none any more.
func (h *hostConns) hold(host call.Host) *hostConn {
	v, ok := h.hosts.Load(host)
	if !ok {
		return nil
	}
	c := v.(*hostConn)
	if c.calls.Add(1) > 0 {
		return c
	}
	c.calls.Add(-1) // it was swept this instant
	return nil
}

func (h *hostConns) dial(host call.Host) (*hostConn, error) {
	t := host.Target()
	o := t.Options
	if o == nil {
		o = &call.UpstreamOptions{}
	}
	timeout := o.ConnectTimeout
	if timeout <= 0 {
		timeout = defaultConnectTimeout
	}
	opts := append(DialOptions(),
		grpc.WithTransportCredentials(credentialsFor(host, o.TLS)),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			nd := net.Dialer{KeepAlive: -1} // HTTP/2's is enough
			return nd.DialContext(ctx, t.Network, t.Address)
		}))
	opts = append(opts, h.options...)
	n := int(o.MaxConnections)
	if n == 0 {
		n = defaultConnections
	}
	c := &hostConn{host: host, conns: make([]*grpc.ClientConn, n)}
	for i := range c.conns {
		// They connect when they are first used.
		cc, err := grpc.NewClient("passthrough:///"+t.Address, opts...)
		if err != nil {
			c.close()
			return nil, err
		}
		c.conns[i] = cc
	}
	return c, nil
}

// credentialsFor returns how connections to a host are secured.
func credentialsFor(host call.Host, t call.ClientTLS) credentials.TransportCredentials {
	if t == nil {
		return insecure.NewCredentials()
	}
	c := &clusterTLS{TransportCredentials: credentials.NewTLS(nil), tls: t}
	if h, ok := host.(interface{ Hostname() string }); ok {
		c.hostname = h.Hostname()
	}
	return c
}

// clusterTLS asks the cluster for its certificates at each handshake: they are
// rotated.
type clusterTLS struct {
	credentials.TransportCredentials
	tls      call.ClientTLS
	hostname string
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *clusterTLS) ClientHandshake(ctx context.Context, authority string, nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := c.tls.Config(c.hostname)
	if err != nil {
		return nil, nil, err
	}
	conn, info, err := credentials.NewTLS(cfg).ClientHandshake(ctx, authority, nc)
	if t, ok := info.(credentials.TLSInfo); ok {
		info = clusterInfo{t}
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (c *clusterTLS) Clone() credentials.TransportCredentials {
	d := *c
	return &d
}

// clusterInfo allows every :authority: the peer was verified as the cluster
// says, and a client's :authority names something else.
type clusterInfo struct{ credentials.TLSInfo }

// ValidateAuthority implements credentials.AuthorityValidator.
func (clusterInfo) ValidateAuthority(string) error { return nil }

// Invoke implements grpc.ClientConnInterface.
func (c *hostConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.pick().Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (c *hostConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.pick().NewStream(ctx, desc, method, opts...)
}

// pick returns the connection for a call that is counted already: as few are
// used as the calls need.
func (c *hostConn) pick() *grpc.ClientConn {
	i := (c.calls.Load() - 1) / streamsPerConn
	return c.conns[min(max(i, 0), int64(len(c.conns)-1))]
}

// release ends a call.
func (c *hostConn) release() {
	if c.calls.Add(-1) == 0 && c.gone.Load() {
		c.retire()
	}
}

// retire closes the connections if no call is on them.
func (c *hostConn) retire() {
	if c.calls.CompareAndSwap(0, evicted) {
		c.close()
	}
}

func (c *hostConn) close() {
	c.once.Do(func() {
		for _, cc := range c.conns {
			if cc != nil {
				_ = cc.Close()
			}
		}
	})
}

// sweep forgets the hosts that were retired.
func (h *hostConns) sweep() {
	h.hosts.Range(func(k, v any) bool {
		if c := v.(*hostConn); c.host.Retired() {
			h.hosts.CompareAndDelete(k, v)
			c.gone.Store(true)
			c.retire()
		}
		return true
	})
}

func (h *hostConns) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.hosts.Range(func(k, v any) bool {
		h.hosts.Delete(k)
		v.(*hostConn).close()
		return true
	})
}

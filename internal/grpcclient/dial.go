package grpcclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

const (
	defaultConnectTimeout = 5 * time.Second // Envoy's Cluster.connect_timeout

	// maxHosts bounds the hosts tried in one connection attempt. When all
	// failed the attempt has failed, and the channel backs off.
	maxHosts = 3
)

// Options configure a channel. The zero value is the cluster's transport socket,
// with the cluster's name as the authority.
type Options struct {
	// Authority is the :authority of all RPCs (GrpcService.envoy_grpc.authority);
	// empty: the cluster's name, as in Envoy.
	Authority string
	// Credentials secure the connections in place of the cluster's transport
	// socket; nil: that one does, if the cluster has one.
	Credentials credentials.TransportCredentials
	// Clock tells the instants of reported outcomes; nil: time since Dial.
	Clock func() clock.Nanos
	// Extra options of the channel. Those that choose an address, a dialer, a
	// proxy or an authority are not for here.
	Extra []grpc.DialOption
}

// Dial returns a channel to the cluster that is called name and whose hosts set
// picks. It does not connect before the first RPC. The caller closes it.
func Dial(name string, set call.BackendSet, o Options) (*grpc.ClientConn, error) {
	d := &dialer{set: set, authority: o.Authority, now: o.Clock}
	if d.authority == "" {
		d.authority = name
	}
	if d.now == nil {
		start := time.Now()
		d.now = func() clock.Nanos { return clock.Nanos(time.Since(start)) + 1 }
	}
	creds := o.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	opts := append([]grpc.DialOption{
		grpc.WithContextDialer(d.dial),
		grpc.WithNoProxy(),
		grpc.WithAuthority(d.authority),
		grpc.WithTransportCredentials(watchedCredentials{creds}),
		grpc.WithDisableServiceConfig(),
	}, o.Extra...)
	cc, err := grpc.NewClient("passthrough:///"+name, opts...)
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w", name, err)
	}
	return cc, nil
}

// dialer makes the connections of one channel. Calls may overlap.
type dialer struct {
	set       call.BackendSet
	authority string
	now       func() clock.Nanos
}

// dial is one connection attempt: it picks hosts until one can be connected to.
func (d *dialer) dial(ctx context.Context, _ string) (net.Conn, error) {
	c := &call.Call{Host: d.authority, GRPC: true, Arrived: d.now(), Rand: rand.Uint64()}
	var errs []error
	for attempt := range maxHosts {
		c.Now, c.Draw = d.now(), rand.Uint64()
		h, err := d.set.Pick(c, attempt)
		if err != nil {
			errs = append(errs, err)
			break
		}
		conn, err := d.connect(ctx, h, attempt)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		c.Tried = append(c.Tried, h)
	}
	return nil, errors.Join(errs...)
}

// connect connects to h and reports a failure to the backend set; a connection
// that it returns reports its own end.
func (d *dialer) connect(ctx context.Context, h call.Host, attempt int) (net.Conn, error) {
	t := h.Target()
	timeout := defaultConnectTimeout
	if t.Options != nil && t.Options.ConnectTimeout > 0 {
		timeout = t.Options.ConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := d.now()
	// Keepalive is HTTP/2's.
	nd := net.Dialer{KeepAlive: -1}
	conn, err := nd.DialContext(ctx, t.Network, t.Address)
	if err == nil && t.Options != nil && t.Options.TLS != nil {
		conn, err = secure(ctx, conn, t.Options.TLS, h)
	}
	if err != nil {
		d.set.Done(h, &call.Outcome{
			Host: h, Attempt: attempt,
			Code: call.Unavailable, Flags: call.UpstreamConnFailure, Side: call.SideUpstream,
			Start: start, End: d.now(), Detail: err.Error(),
		})
		return nil, err
	}
	return &hostConn{Conn: conn, dialer: d, host: h, attempt: attempt, start: start}, nil
}

// secure shakes hands as the host's cluster says. If it fails, conn is closed.
func secure(ctx context.Context, conn net.Conn, t call.ClientTLS, h call.Host) (net.Conn, error) {
	name := ""
	if n, ok := h.(interface{ Hostname() string }); ok {
		name = n.Hostname()
	}
	cfg, err := t.Config(name)
	if err == nil {
		tc := tls.Client(conn, cfg)
		if err = tc.HandshakeContext(ctx); err == nil {
			return tc, nil
		}
	}
	_ = conn.Close()
	return nil, fmt.Errorf("TLS handshake: %w", err)
}
